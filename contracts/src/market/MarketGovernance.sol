// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

import {AccessManaged} from "@openzeppelin/contracts/access/manager/AccessManaged.sol";

import {IEscrow} from "./IEscrow.sol";
import {IOrderBook} from "./IOrderBook.sol";

/// @title Windows, limits and collaborators of the order book
/// @notice The windows are immutable. Governance chooses within them, and names collaborators with a delay that outlasts every
/// order made under the old ones.
abstract contract MarketGovernance is IOrderBook, AccessManaged {
    struct Proposal {
        address proposed;
        uint32 fromBlock;
        uint64 fromTime;
    }

    /// @dev `blockhash` reaches no further back.
    uint16 private constant LONGEST_RESPONSE_WINDOW = 256;
    /// @dev The rule of so many bids surely fits one transaction, in a challenge too.
    uint16 private constant MOST_BIDS = 512;
    /// @dev What EIP-2935 remembers: the rule run on chain needs the close block's hash until the match window ends.
    uint256 private constant BLOCK_HASHES_KEPT = 8191;

    IEscrow internal immutable _escrow;
    uint256 internal immutable _maximumBidWindow;
    uint256 internal immutable _responseWindow;
    uint256 internal immutable _matchWindow;
    uint256 internal immutable _challengeWindow;

    /// @dev All that an order and a bid need of governance, in one slot: provider registry 160 at 0 | bid window 16 at 160 | bid
    /// limit 16 at 176 | params version 16 at 192.
    uint256 internal _bidding;
    address internal _taskManager;
    address internal _disputes;
    address private _paymentTokens;
    mapping(Collaborator role => Proposal) private _proposals;

    constructor(address authority, IEscrow escrow_, Parameters memory given) AccessManaged(authority) {
        if (escrow_.orderBook() != address(this)) revert WrongEscrow(address(escrow_), escrow_.orderBook());
        bool windowsFit = given.maximumBidWindow != 0 && given.bidWindow <= given.maximumBidWindow
            && given.responseWindow != 0 && given.responseWindow <= LONGEST_RESPONSE_WINDOW && given.matchWindow != 0
            && uint256(given.responseWindow) + given.matchWindow <= BLOCK_HASHES_KEPT;
        if (!windowsFit || given.bidWindow == 0 || !_isBidLimit(given.bidLimit) || given.paramsVersion == 0) {
            revert InvalidParameters(
                given.bidWindow,
                given.maximumBidWindow,
                given.responseWindow,
                given.matchWindow,
                given.bidLimit,
                given.paramsVersion
            );
        }
        _escrow = escrow_;
        _maximumBidWindow = given.maximumBidWindow;
        _responseWindow = given.responseWindow;
        _matchWindow = given.matchWindow;
        _challengeWindow = given.challengeWindow;
        _setBidding(given.bidWindow, given.bidLimit, given.paramsVersion);
    }

    // ------------------------------------------------------------- governance

    /// @inheritdoc IOrderBook
    function setBidding(uint16 bidWindow, uint16 bidLimit, uint16 paramsVersion) external override restricted {
        if (bidWindow == 0 || bidWindow > _maximumBidWindow || !_isBidLimit(bidLimit) || paramsVersion == 0) {
            revert InvalidParameters(
                bidWindow,
                uint16(_maximumBidWindow),
                uint16(_responseWindow),
                uint16(_matchWindow),
                bidLimit,
                paramsVersion
            );
        }
        _setBidding(bidWindow, bidLimit, paramsVersion);
    }

    /// @inheritdoc IOrderBook
    function proposeCollaborator(Collaborator role, address proposed) external override restricted {
        if (proposed == address(0)) revert CollaboratorIsZero(role);
        if (collaborator(role) == address(0)) return _setCollaborator(role, proposed);
        // An order of now may wait through two rounds (it is requeued once), its lease through the challenge window: all of
        // that passes under the collaborator it was made with.
        uint256 fromBlock = block.number + 2 * _longestRound() + 1;
        uint256 fromTime = block.timestamp + _challengeWindow + 1;
        _proposals[role] = Proposal(proposed, uint32(fromBlock), uint64(fromTime));
        emit CollaboratorProposed(role, proposed, uint32(fromBlock), uint64(fromTime));
    }

    /// @inheritdoc IOrderBook
    function acceptCollaborator(Collaborator role) external override {
        Proposal memory proposal = _proposals[role];
        if (proposal.proposed == address(0)) revert NothingProposed(role);
        if (block.number < proposal.fromBlock || block.timestamp < proposal.fromTime) {
            revert ChangeTooEarly(role, proposal.fromBlock, proposal.fromTime);
        }
        delete _proposals[role];
        _setCollaborator(role, proposal.proposed);
    }

    /// @inheritdoc IOrderBook
    function escrow() external view override returns (address) {
        return address(_escrow);
    }

    /// @inheritdoc IOrderBook
    function collaborator(Collaborator role) public view override returns (address) {
        if (role == Collaborator.TaskManager) return _taskManager;
        if (role == Collaborator.ProviderRegistry) return _registryOf(_bidding);
        return role == Collaborator.PaymentTokens ? _paymentTokens : _disputes;
    }

    /// @inheritdoc IOrderBook
    function parameters() external view override returns (Parameters memory) {
        uint256 bidding = _bidding;
        return Parameters({
            bidWindow: _bidWindowOf(bidding),
            maximumBidWindow: uint16(_maximumBidWindow),
            responseWindow: uint16(_responseWindow),
            matchWindow: uint16(_matchWindow),
            challengeWindow: uint32(_challengeWindow),
            bidLimit: _bidLimitOf(bidding),
            paramsVersion: _paramsVersionOf(bidding)
        });
    }

    // ------------------------------------------------------- private: governance

    function _registryOf(uint256 bidding) internal pure returns (address) {
        return address(uint160(bidding));
    }

    function _bidWindowOf(uint256 bidding) internal pure returns (uint16) {
        return uint16(bidding >> 160);
    }

    function _bidLimitOf(uint256 bidding) internal pure returns (uint16) {
        return uint16(bidding >> 176);
    }

    function _paramsVersionOf(uint256 bidding) internal pure returns (uint16) {
        return uint16(bidding >> 192);
    }

    /// @dev Blocks from an order's first bid to the last answer it can get in one round.
    function _longestRound() internal view returns (uint256) {
        return _maximumBidWindow + _responseWindow + _matchWindow;
    }

    function _isBidLimit(uint16 limit) private pure returns (bool) {
        return limit != 0 && limit <= MOST_BIDS;
    }

    function _checkRegistry() internal view {
        if (msg.sender != _registryOf(_bidding)) revert NotProviderRegistry(msg.sender);
    }

    function _setBidding(uint16 bidWindow, uint16 bidLimit, uint16 paramsVersion) private {
        _bidding = uint160(_bidding) | (uint256(bidWindow) << 160) | (uint256(bidLimit) << 176)
            | (uint256(paramsVersion) << 192);
        emit BiddingChanged(bidWindow, bidLimit, paramsVersion);
    }

    function _setCollaborator(Collaborator role, address current) private {
        address previous = collaborator(role);
        if (role == Collaborator.TaskManager) _taskManager = current;
        else if (role == Collaborator.ProviderRegistry) _bidding = (_bidding >> 160 << 160) | uint160(current);
        else if (role == Collaborator.PaymentTokens) _paymentTokens = current;
        else _disputes = current;
        emit CollaboratorChanged(role, previous, current);
    }
}
