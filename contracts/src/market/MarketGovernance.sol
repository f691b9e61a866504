// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

import {AccessManaged} from "@openzeppelin/contracts/access/manager/AccessManaged.sol";

import {IEscrow} from "./IEscrow.sol";
import {IOrderBook} from "./IOrderBook.sol";
import {MarketState} from "./MarketState.sol";

/// @title Windows, limits and collaborators of the order book
/// @notice The windows are immutable. Governance chooses within them, and names collaborators with a delay that outlasts every
/// order made under the old ones.
abstract contract MarketGovernance is MarketState, IOrderBook, AccessManaged {
    /// @dev `blockhash` reaches no further back.
    uint16 private constant LONGEST_RESPONSE_WINDOW = 256;
    /// @dev The rule of so many bids surely fits one transaction, in a challenge too.
    uint16 private constant MOST_BIDS = 512;
    /// @dev What EIP-2935 remembers: the rule run on chain needs the close block's hash until the match window ends.
    uint256 private constant BLOCK_HASHES_KEPT = 8191;

    constructor(address authority, IEscrow escrow_, Parameters memory given)
        MarketState(escrow_, given)
        AccessManaged(authority)
    {
        if (escrow_.orderBook() != address(this)) {
            revert WrongEscrow(address(escrow_), escrow_.orderBook());
        }
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
    function pause() external override restricted {
        _bidding |= BIDDING_PAUSED;
        _matching |= MATCHING_PAUSED;
        emit Paused(msg.sender);
    }

    /// @inheritdoc IOrderBook
    function unpause() external override restricted {
        _bidding &= ~BIDDING_PAUSED;
        _matching &= ~MATCHING_PAUSED;
        emit Unpaused(msg.sender);
    }

    /// @inheritdoc IOrderBook
    function setTopGpus(uint256 ids) external override restricted {
        _topGpus = ids;
        emit TopGpusChanged(ids);
    }

    /// @inheritdoc IOrderBook
    function proposeCollaborator(Collaborator role, address proposed) external override restricted {
        if (proposed == address(0)) revert CollaboratorIsZero(role);
        // While nobody has an account, nothing can be live.
        if (collaborator(role) == address(0) && _escrow.accountCount() == 0) return _setCollaborator(role, proposed);
        // An order of now may wait through two rounds (it is requeued once), its lease through the challenge window: all of
        // that passes under the collaborator it was made with.
        uint256 fromBlock = block.number + 2 * _longestRound() + 1;
        uint256 fromTime = block.timestamp + _challengeWindow + 1;
        _collaboratorProposals[role] = CollaboratorProposal(proposed, uint32(fromBlock), uint64(fromTime));
        emit CollaboratorProposed(role, proposed, uint32(fromBlock), uint64(fromTime));
    }

    /// @inheritdoc IOrderBook
    function acceptCollaborator(Collaborator role) external override {
        CollaboratorProposal memory proposal = _collaboratorProposals[role];
        if (proposal.proposed == address(0)) revert NothingProposed(role);
        if (block.number < proposal.fromBlock || block.timestamp < proposal.fromTime) {
            revert ChangeTooEarly(role, proposal.fromBlock, proposal.fromTime);
        }
        delete _collaboratorProposals[role];
        _setCollaborator(role, proposal.proposed);
    }

    /// @inheritdoc IOrderBook
    function escrow() external view override returns (address) {
        return address(_escrow);
    }

    /// @inheritdoc IOrderBook
    function collaborator(Collaborator role) public view override returns (address) {
        if (role == Collaborator.TaskManager) return address(uint160(_matching));
        if (role == Collaborator.ProviderRegistry) return _registryOf(_bidding);
        if (role == Collaborator.PaymentTokens) return _paymentTokens;
        return role == Collaborator.Disputes ? _disputes : _slasher;
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
            graceWindow: uint32(_graceWindow),
            lowFundsWindow: uint32(_lowFundsWindow),
            bidLimit: _bidLimitOf(bidding),
            paramsVersion: _paramsVersionOf(bidding)
        });
    }

    /// @inheritdoc IOrderBook
    function paused() external view override returns (bool) {
        return _bidding & BIDDING_PAUSED != 0;
    }

    /// @inheritdoc IOrderBook
    function topGpus() external view override returns (uint256) {
        return _topGpus;
    }

    // ------------------------------------------------------- private: governance

    function _bidLimitOf(uint256 bidding) internal pure returns (uint16) {
        return uint16(bidding >> 176);
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
        uint256 kept = _bidding & (type(uint160).max | BIDDING_PAUSED);
        _bidding = kept | (uint256(bidWindow) << 160) | (uint256(bidLimit) << 176) | (uint256(paramsVersion) << 192);
        emit BiddingChanged(bidWindow, bidLimit, paramsVersion);
    }

    function _setCollaborator(Collaborator role, address current) private {
        address previous = collaborator(role);
        if (role == Collaborator.TaskManager) _matching = (_matching >> 160 << 160) | uint160(current);
        else if (role == Collaborator.ProviderRegistry) _bidding = (_bidding >> 160 << 160) | uint160(current);
        else if (role == Collaborator.PaymentTokens) _paymentTokens = current;
        else if (role == Collaborator.Disputes) _disputes = current;
        else _slasher = current;
        emit CollaboratorChanged(role, previous, current);
    }
}
