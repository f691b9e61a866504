// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

import {OrderState, OrderTerms, UpdateProposal} from "../Types.sol";
import {Brackets} from "./Brackets.sol";
import {Capacity} from "./Capacity.sol";
import {IEscrow} from "./IEscrow.sol";
import {IOrderBook} from "./IOrderBook.sol";
import {OrderId, OrderWord, PayeeWord, ResourceWord} from "./Resources.sol";
import {Terms} from "./Terms.sol";

/// @title State of the order book
/// @notice One contract would not fit the size limit, so the order book is two pieces of code on one address: {OrderBook}, and
/// {Leases}, which it runs on its own storage. Everything that is stored or immutable stands here, and so does what both do.
/// @dev Neither of the two declares a variable: the slots agree because they are the same declarations, first in both.
abstract contract MarketState {
    using Capacity for uint256;
    using OrderWord for uint256;
    using PayeeWord for uint256;

    struct CollaboratorProposal {
        address proposed;
        uint32 fromBlock;
        uint64 fromTime;
    }

    /// @dev Three slots. `wish` and the payee word's block mean something while the capacity word says that a decrease is
    /// pending. The payee word has a bit for every token in which a close, or a settlement by anyone, credited the owner
    /// since the last withdrawal: a withdrawal from live leases need not look for a credit.
    struct SupplierRecord {
        uint256 capacity;
        uint256 wish;
        uint256 payee;
    }

    struct BidderRecord {
        uint256 word;
    }

    /// @dev Four slots: the digest's is written by the first bid, the last one if the order is requeued.
    struct OrderRecord {
        uint256 word;
        bytes32 termsHash;
        uint256 digest;
        bytes32 earlierRound;
    }

    /// @dev In the words {_bidding} and {_matching}.
    uint256 internal constant BIDDING_PAUSED = 1 << 208;
    uint256 internal constant MATCHING_PAUSED = 1 << 160;

    IEscrow internal immutable _escrow;
    uint256 internal immutable _maximumBidWindow;
    uint256 internal immutable _responseWindow;
    uint256 internal immutable _matchWindow;
    uint256 internal immutable _challengeWindow;
    uint256 internal immutable _graceWindow;
    uint256 internal immutable _lowFundsWindow;

    /// @dev All that an order and a bid need of governance, in one slot: provider registry 160 at 0 | bid window 16 at 160 | bid
    /// limit 16 at 176 | params version 16 at 192 | paused 1 at 208.
    uint256 internal _bidding;
    /// @dev All that a match needs of governance: task manager 160 at 0 | paused 1 at 160.
    uint256 internal _matching;
    address internal _disputes;
    address internal _slasher;
    address internal _paymentTokens;
    /// @dev Read only by orders that ask for GPUs.
    uint256 internal _topGpus;
    mapping(IOrderBook.Collaborator role => CollaboratorProposal) internal _collaboratorProposals;

    mapping(uint256 supplier => SupplierRecord) internal _suppliers;
    /// @dev Bidder words: supplier 32 at 0 | position of the last bid 128 at 32, which is its block 32, order 64, fizz 32 from
    /// the highest. A position only ever grows, so bids within a block ascend.
    mapping(address owner => BidderRecord) internal _bidders;

    mapping(uint256 orderId => OrderRecord) internal _orders;
    mapping(uint256 orderId => UpdateProposal) internal _updates;
    /// @dev First lease of the workload, of leases that came from an update.
    mapping(uint256 orderId => uint64) internal _workloads;
    mapping(address signer => uint256) internal _nonces;

    constructor(IEscrow escrow_, IOrderBook.Parameters memory given) {
        _escrow = escrow_;
        _maximumBidWindow = given.maximumBidWindow;
        _responseWindow = given.responseWindow;
        _matchWindow = given.matchWindow;
        _challengeWindow = given.challengeWindow;
        _graceWindow = given.graceWindow;
        _lowFundsWindow = given.lowFundsWindow;
    }

    // ------------------------------------------------------------- governance

    function _registryOf(uint256 bidding) internal pure returns (address) {
        return address(uint160(bidding));
    }

    function _bidWindowOf(uint256 bidding) internal pure returns (uint16) {
        return uint16(bidding >> 160);
    }

    function _paramsVersionOf(uint256 bidding) internal pure returns (uint16) {
        return uint16(bidding >> 192);
    }

    function _checkNotPaused(uint256 bidding) internal pure {
        if (bidding & BIDDING_PAUSED != 0) revert IOrderBook.MarketPaused();
    }

    // ----------------------------------------------------------------- orders

    /// @dev Locks the worst case and opens the order. The escrow checks what `caller` may do with the account.
    function _openOrder(uint32 account, uint8 token, uint16 bidWindow, OrderTerms calldata terms, address caller)
        internal
        returns (uint64 orderId)
    {
        uint256 bidding = _bidding;
        _checkNotPaused(bidding);
        Terms.check(terms, _paramsVersionOf(bidding));
        if (bidWindow == 0) bidWindow = _bidWindowOf(bidding);
        if (bidWindow > _maximumBidWindow) revert IOrderBook.BidWindowTooLong(bidWindow, uint16(_maximumBidWindow));

        uint256 closeBlock = block.number + bidWindow;
        uint256 word;
        (orderId, word) = _lock(account, token, closeBlock, terms, caller);
        OrderRecord storage record = _orders[orderId];
        record.word = word;
        record.termsHash = Terms.hash(terms.resources, Terms.restHash(terms));
        emit IOrderBook.OrderCreated(orderId, uint32(closeBlock), uint16(word.feeSchedule()), terms);
    }

    /// @dev Id and word of the order that is locked for.
    function _lock(uint32 account, uint8 token, uint256 closeBlock, OrderTerms calldata terms, address caller)
        private
        returns (uint64 orderId, uint256 word)
    {
        (uint256 rate, uint256 duration) = (terms.maximumRate, terms.duration);
        (uint256 nonce, uint256 feeSchedule, uint256 bracket) =
            _escrow.lockOrder(account, token, caller, rate, duration);
        _checkBracket(terms.resources, bracket);
        return (OrderId.pack(account, token, nonce), OrderWord.open(rate, duration, closeBlock, feeSchedule));
    }

    function _cancelOrder(uint64 orderId, address caller) internal {
        uint256 word = _orders[orderId].word;
        if (word.state() != OrderState.Open) revert IOrderBook.WrongState(orderId, word.state());
        // From its close block on the order waits for its answer, as long as one can come.
        uint256 closeBlock = word.closeBlock();
        if (block.number >= closeBlock && block.number <= closeBlock + _responseWindow) {
            revert IOrderBook.BidWindowOver(orderId, uint32(closeBlock), block.number);
        }
        _checkUser(orderId, caller);
        _orders[orderId].word = word.withState(OrderState.Cancelled);
        emit IOrderBook.OrderCancelled(orderId);
        _escrow.releaseOrder(orderId, word);
    }

    function _checkBracket(uint256 resources, uint256 bracket) internal view {
        Brackets.check(resources, bracket, ResourceWord.gpuCount(resources) == 0 ? 0 : _topGpus);
    }

    /// @dev The account's owner, or who may close for it.
    function _checkUser(uint64 orderId, address caller) internal view {
        uint32 account = OrderId.account(orderId);
        address owner = _escrow.ownerOf(account);
        if (owner != caller && !_escrow.mayClose(account, OrderId.token(orderId), caller)) {
            revert IOrderBook.NotAccountOwner(orderId, caller, owner);
        }
    }

    // -------------------------------------------------------------- suppliers

    /// @dev Stored word with a due decrease applied as far as leases leave room.
    function _effectiveCapacity(SupplierRecord storage record) internal view returns (uint256 word) {
        word = record.capacity;
        if (word & Capacity.PENDING == 0 || block.number < record.payee.effectiveBlock()) return word;
        word = word.lower(record.wish);
        if (word.totals() == record.wish) word &= ~Capacity.PENDING;
    }

    /// @dev Whether the supplier could take the lease; if so it has. `class` is what the schedule of the lease gets.
    function _reserve(uint32 supplier, uint256 resources, uint256 gpuEntry)
        internal
        returns (bool fits, uint256 class)
    {
        SupplierRecord storage record = _suppliers[supplier];
        uint256 word = record.capacity;
        if (word & Capacity.PENDING != 0) word = _effectiveCapacity(record);
        if (!word.isActive()) return (false, 0);
        (fits, word) = word.reserve(resources, gpuEntry);
        if (fits) record.capacity = word;
        return (fits, word & Capacity.REBATED == 0 ? 0 : OrderWord.REBATED_SCHEDULE);
    }

    // ----------------------------------------------------------------- payees

    /// @dev Whom to credit the gateway's share, zero if the lease is a provider's. The owner's next withdrawal looks for it.
    function _gatewayPayee(uint64 orderId, uint32 gateway) internal returns (address owner) {
        if (gateway == 0) return address(0);
        SupplierRecord storage record = _suppliers[gateway];
        uint256 payee = record.payee;
        record.payee = payee | PayeeWord.credit(orderId);
        return payee.owner();
    }

    function _emitSettled(
        uint64 orderId,
        uint32 supplier,
        uint256 until,
        uint256 amount,
        uint32 gateway,
        uint256 gatewayAmount
    ) internal {
        emit IOrderBook.LeaseSettled(orderId, supplier, uint32(until), amount);
        if (gatewayAmount != 0) emit IOrderBook.GatewayCredited(orderId, gateway, gatewayAmount);
    }
}
