// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

import {LeaseResources, Order, OrderState, OrderTerms} from "../Types.sol";
import {Bids} from "./Bids.sol";
import {IEscrow} from "./IEscrow.sol";
import {IOrderBook} from "./IOrderBook.sol";
import {MarketGovernance} from "./MarketGovernance.sol";
import {DigestWord, OrderId, OrderWord, RankWord} from "./Resources.sol";
import {Terms} from "./Terms.sol";

/// @title Order book
/// @notice All orders, leases and capacity. Immutable like its escrow. An order costs two new slots, its first bid one, a
/// match none: bids are folded into a digest and never stored, the lease is the order's word rewritten.
contract OrderBook is Bids {
    using DigestWord for uint256;
    using OrderWord for uint256;

    uint256 private constant MOST_RANKS = 8;

    constructor(address authority, IEscrow escrow_, Parameters memory given)
        MarketGovernance(authority, escrow_, given)
    {}

    // ------------------------------------------------------------------ users

    /// @inheritdoc IOrderBook
    function createOrder(uint32 account, uint8 token, uint16 bidWindow, OrderTerms calldata terms)
        external
        override
        returns (uint64 orderId)
    {
        uint256 bidding = _bidding;
        Terms.check(terms, _paramsVersionOf(bidding));
        if (bidWindow == 0) bidWindow = _bidWindowOf(bidding);
        if (bidWindow > _maximumBidWindow) revert BidWindowTooLong(bidWindow, uint16(_maximumBidWindow));
        uint256 closeBlock = block.number + bidWindow;

        (uint256 nonce, uint256 feeSchedule) =
            _escrow.lockOrder(account, token, msg.sender, terms.maximumRate, terms.duration);
        orderId = OrderId.pack(account, token, nonce);
        OrderRecord storage record = _orders[orderId];
        record.word = OrderWord.open(terms.maximumRate, terms.duration, closeBlock, feeSchedule);
        record.termsHash = Terms.hash(terms.resources, Terms.restHash(terms));
        emit OrderCreated(orderId, uint32(closeBlock), uint16(feeSchedule), terms);
    }

    /// @inheritdoc IOrderBook
    function cancelOrder(uint64 orderId) external override {
        uint256 word = _orders[orderId].word;
        if (word.state() != OrderState.Open) revert WrongState(orderId, word.state());
        // From its close block on the order waits for its answer, as long as one can come.
        uint256 closeBlock = word.closeBlock();
        if (block.number >= closeBlock && block.number <= closeBlock + _responseWindow) {
            revert BidWindowOver(orderId, uint32(closeBlock), block.number);
        }
        _checkAccountOwner(orderId);
        _orders[orderId].word = word.withState(OrderState.Cancelled);
        emit OrderCancelled(orderId);
        _escrow.releaseOrder(orderId, word);
    }

    /// @inheritdoc IOrderBook
    function expireOrders(uint64[] calldata orderIds) external override {
        for (uint256 index = 0; index < orderIds.length; ++index) {
            uint64 orderId = orderIds[index];
            uint256 word = _orders[orderId].word;
            if (word.state() == OrderState.None) revert WrongState(orderId, OrderState.None);
            // Somebody was faster: nothing left to do.
            if (word.state() != OrderState.Open) continue;
            uint256 firstBlock = word.closeBlock();
            if (_orders[orderId].digest.count() != 0) firstBlock += _responseWindow + _matchWindow + 1;
            if (block.number < firstBlock) revert NotYetExpirable(orderId, firstBlock, block.number);
            _orders[orderId].word = word.withState(OrderState.Expired);
            emit OrderExpired(orderId);
            _escrow.releaseOrder(orderId, word);
        }
    }

    /// @inheritdoc IOrderBook
    function closeLease(uint64 orderId, OrderState reason, LeaseResources calldata resources) external override {
        // Check
        OrderRecord storage record = _orders[orderId];
        uint256 word = record.word;
        if (word.state() != OrderState.Leased) revert WrongState(orderId, word.state());
        _checkResources(orderId, record.termsHash, resources.resources, resources.restHash);
        SupplierRecord storage supplier = _suppliers[word.supplier()];
        uint256 billed = block.timestamp - word.start();
        if (billed >= word.duration()) {
            // Over by itself, whoever says so and why.
            if (!_isCloseReason(reason)) revert InvalidCloseReason(orderId, reason);
            reason = OrderState.ClosedAtEnd;
            billed = word.duration();
        } else {
            _checkMayClose(orderId, word, reason, supplier.owner);
        }

        // Effect
        bool held = block.timestamp < word.start() + _challengeWindow;
        uint256 closed = word.withState(reason).withDuration(billed);
        if (!held) closed = closed.withSettledFor(billed);
        record.word = closed;
        _release(word.supplier(), resources.resources, word.gpuEntry());
        supplier.creditTokens |= _tokenBit(orderId);
        uint256 amount = _escrow.closeLease(orderId, word, billed, held, supplier.owner);
        if (!held && billed != word.settledFor()) emit LeaseSettled(orderId, word.supplier(), uint32(billed), amount);
        emit LeaseClosed(orderId, reason, uint32(billed));
    }

    // ----------------------------------------------------------------- anyone

    /// @inheritdoc IOrderBook
    function settle(uint64[] calldata orderIds) external override {
        for (uint256 index = 0; index < orderIds.length; ++index) {
            uint64 orderId = orderIds[index];
            (OrderRecord storage record, uint256 word, uint256 until) = _settleable(orderId);
            // Somebody was faster, or nothing is due yet.
            if (until == word.settledFor()) continue;
            record.word = word.withSettledFor(until);
            SupplierRecord storage supplier = _suppliers[word.supplier()];
            supplier.creditTokens |= _tokenBit(orderId);
            uint256 amount = _escrow.settleAndCredit(orderId, word, until, supplier.owner);
            emit LeaseSettled(orderId, word.supplier(), uint32(until), amount);
        }
    }

    /// @inheritdoc IOrderBook
    function settleAndWithdraw(uint64[] calldata orderIds, address to) external override returns (uint256 paid) {
        if (orderIds.length == 0) revert EmptyBatch();
        uint256 last = orderIds.length - 1;
        uint256 carried = 0;
        for (uint256 index = 0; index < last; ++index) {
            if (OrderId.token(orderIds[index]) != OrderId.token(orderIds[last])) {
                revert MixedTokens(orderIds[index], OrderId.token(orderIds[last]));
            }
            (uint256 word, uint256 until) = _settleOwn(orderIds[index]);
            if (until == word.settledFor()) continue;
            uint256 amount = _escrow.settleLease(orderIds[index], word, until);
            emit LeaseSettled(orderIds[index], word.supplier(), uint32(until), amount);
            carried += amount;
        }
        return _payOut(orderIds[last], carried, to);
    }

    // ----------------------------------------------------------- task manager

    /// @inheritdoc IOrderBook
    function openLeases(uint32 closeBlock, uint256[] calldata matches, address responder) external override {
        if (msg.sender != _taskManager) revert NotTaskManager(msg.sender);
        if (block.number <= closeBlock || block.number > closeBlock + _responseWindow + _matchWindow) {
            revert OutsideResponseWindow(closeBlock, block.number);
        }
        // At most one change of a lock per word given.
        uint256[] memory changes = new uint256[](matches.length);
        uint256 changed = 0;
        uint64 previous = 0;
        uint256 cursor = 0;
        // Indices stay below the length of the calldata.
        unchecked {
            while (cursor < matches.length) {
                uint256 header = _wordAt(matches, cursor);
                uint256 end = _endOfOrder(header, cursor, matches.length);
                uint64 orderId = uint64(header >> 8);
                if (orderId <= previous) revert OrdersNotAscending(previous, orderId);
                previous = orderId;
                uint256 change = _answer(orderId, closeBlock, matches, cursor + 1, end);
                if (change != 0) changes[changed++] = change;
                cursor = end;
            }
        }
        if (changed == 0) return;
        assembly ("memory-safe") {
            mstore(changes, changed)
        }
        _escrow.openLeases(changes, responder);
    }

    // --------------------------------------------------------------- disputes

    /// @inheritdoc IOrderBook
    function undoLease(uint64 orderId, LeaseResources calldata resources) external override {
        // Check
        if (msg.sender != _disputes) revert NotDisputes(msg.sender);
        OrderRecord storage record = _orders[orderId];
        uint256 word = record.word;
        bool live = word.state() == OrderState.Leased;
        if (!live && !_isCloseReason(word.state())) revert WrongState(orderId, word.state());
        uint256 holdEnd = word.start() + _challengeWindow;
        if (block.timestamp >= holdEnd) revert PayoutHoldOver(orderId, holdEnd, block.timestamp);
        _checkResources(orderId, record.termsHash, resources.resources, resources.restHash);

        // Effect. Inside the hold nothing was settled, so nothing is billed.
        record.word = word.withState(OrderState.ClosedUndone).withDuration(0);
        if (live) _release(word.supplier(), resources.resources, word.gpuEntry());
        emit LeaseClosed(orderId, OrderState.ClosedUndone, 0);
        _escrow.undoLease(orderId, word);
    }

    // ------------------------------------------------------------------ views

    /// @inheritdoc IOrderBook
    function order(uint64 orderId) external view override returns (Order memory) {
        return _orders[orderId].word.unpack();
    }

    /// @inheritdoc IOrderBook
    function termsHash(uint64 orderId) external view override returns (bytes32) {
        return _orders[orderId].termsHash;
    }

    /// @inheritdoc IOrderBook
    function bidsDigest(uint64 orderId) external view override returns (bytes32 digest, uint16 count) {
        OrderRecord storage record = _orders[orderId];
        if (record.word.state() == OrderState.None) revert WrongState(orderId, OrderState.None);
        uint256 word = record.digest;
        if (word == 0) word = DigestWord.seed(orderId, record.word.closeBlock());
        return (word.digest(), uint16(word.count()));
    }

    /// @inheritdoc IOrderBook
    function orderRecord(uint64 orderId)
        external
        view
        override
        returns (uint256 word, bytes32 storedTermsHash, uint256 digestWord)
    {
        OrderRecord storage record = _orders[orderId];
        (word, storedTermsHash, digestWord) = (record.word, record.termsHash, record.digest);
        // A requeued order's slot holds the seed.
        if (digestWord.count() == 0) digestWord = 0;
    }

    /// @inheritdoc IOrderBook
    function earlierRound(uint64 orderId) external view override returns (bytes32) {
        return _orders[orderId].earlierRound;
    }

    /// @inheritdoc IOrderBook
    function claimable(uint64 orderId) external view override returns (uint256) {
        (, uint256 word, uint256 until) = _settleable(orderId);
        return _escrow.netOf(orderId, word, until);
    }

    // ---------------------------------------------------------- private: order

    function _checkResources(uint64 orderId, bytes32 stored, uint256 resources, bytes32 restHash) private pure {
        bytes32 given = Terms.hash(resources, restHash);
        if (given != stored) revert WrongResources(orderId, given, stored);
    }

    function _checkAccountOwner(uint64 orderId) private view {
        address owner = _escrow.ownerOf(OrderId.account(orderId));
        if (owner != msg.sender) revert NotAccountOwner(orderId, msg.sender, owner);
    }

    // --------------------------------------------------------- private: matches

    /// @dev Index after the words of the order whose header stands at `cursor`.
    function _endOfOrder(uint256 header, uint256 cursor, uint256 length) private pure returns (uint256 end) {
        uint256 ranks = uint8(header);
        if (header >> 72 != 0) revert MalformedMatches(cursor);
        if (ranks > MOST_RANKS) revert TooManyRanks(uint64(header >> 8), ranks, MOST_RANKS);
        unchecked {
            end = cursor + (ranks == 0 ? 1 : 3 + ranks);
        }
        if (end > length) revert MalformedMatches(cursor);
    }

    /// @dev Only within what {_endOfOrder} has found to be there.
    function _wordAt(uint256[] calldata matches, uint256 index) private pure returns (uint256 word) {
        assembly ("memory-safe") {
            word := calldataload(add(matches.offset, shl(5, index)))
        }
    }

    /// @dev Returns what {IEscrow-openLeases} is told, zero for nothing. The order's words are those from `index` to `end`.
    function _answer(uint64 orderId, uint32 closeBlock, uint256[] calldata matches, uint256 index, uint256 end)
        private
        returns (uint256 change)
    {
        OrderRecord storage record = _orders[orderId];
        uint256 word = record.word;
        // Cancelled, answered or requeued in the meantime: its neighbours go on.
        if (word.state() != OrderState.Open || word.closeBlock() != closeBlock) return 0;
        if (index == end) return _expire(orderId, record, word);
        uint256 resources = _wordAt(matches, index);
        unchecked {
            if (Terms.hash(resources, bytes32(_wordAt(matches, index + 1))) != record.termsHash) {
                emit AnswerIgnored(orderId);
                return 0;
            }
            // Takes the best supplier that can still serve; if none can, the order is requeued once.
            for (index += 2; index < end; ++index) {
                change = _match(orderId, record, word, resources, _wordAt(matches, index));
                if (change != 0) return change;
            }
        }
        if (word.requeued()) return _expire(orderId, record, word);
        _requeue(orderId, record, word);
    }

    /// @dev Keeps what the answer of the round that ends can be disputed with.
    function _requeue(uint64 orderId, OrderRecord storage record, uint256 word) private {
        uint256 digest = record.digest;
        uint256 closeBlock = block.number + _bidWindowOf(_bidding);
        record.earlierRound = DigestWord.round(digest, word.closeBlock());
        record.word = word.requeue(closeBlock);
        // Without a bid the slot is empty and stands for the seed, whatever the close block.
        if (digest != 0) record.digest = DigestWord.seed(orderId, closeBlock);
        emit OrderRequeued(orderId, uint32(closeBlock));
    }

    function _expire(uint64 orderId, OrderRecord storage record, uint256 word) private returns (uint256 change) {
        record.word = word.withState(OrderState.Expired);
        emit OrderExpired(orderId);
        return _lockChange(orderId, word, 0);
    }

    /// @dev Opens the lease if the supplier of this rank has room, otherwise returns zero. A rank that cannot be one counts as
    /// a supplier without room: who signed it can be proven wrong, the order's next rank and its neighbours go on.
    function _match(uint64 orderId, OrderRecord storage record, uint256 word, uint256 resources, uint256 rank)
        private
        returns (uint256 change)
    {
        uint256 rate = RankWord.rate(rank);
        if (rank >> RankWord.WIDTH != 0 || rate == 0 || rate > word.rate()) return 0;
        uint32 supplier = RankWord.supplier(rank);
        uint256 gpuEntry = RankWord.gpuEntry(rank);
        if (!_reserve(supplier, resources, gpuEntry)) return 0;
        record.word = word.leased(rate, block.timestamp, supplier, gpuEntry);
        emit LeaseCreated(orderId, supplier, uint96(rate), uint32(block.timestamp), uint8(gpuEntry));
        return _lockChange(orderId, word, rate);
    }

    function _lockChange(uint64 orderId, uint256 word, uint256 rate) private pure returns (uint256) {
        return rate | (word.rate() << 84) | (word.duration() << 168) | (word.feeSchedule() << 197)
            | (OrderId.accountAndToken(orderId) << 206);
    }

    // --------------------------------------------------------- private: leases

    function _isCloseReason(OrderState reason) private pure returns (bool) {
        return reason >= OrderState.ClosedByUser && reason <= OrderState.ClosedCannotStart;
    }

    /// @dev Before the end of a lease.
    function _checkMayClose(uint64 orderId, uint256 word, OrderState reason, address supplierOwner_) private view {
        if (!_isCloseReason(reason)) revert InvalidCloseReason(orderId, reason);
        if (reason == OrderState.ClosedAtEnd) {
            revert LeaseNotOver(orderId, word.start() + word.duration(), block.timestamp);
        }
        if (reason == OrderState.ClosedByUser) return _checkAccountOwner(orderId);
        if (supplierOwner_ != msg.sender) revert NotSupplierOwner(orderId, word.supplier(), msg.sender);
    }

    /// @dev Writes what a lease of the caller is settled to. Its word is the one before.
    function _settleOwn(uint64 orderId) private returns (uint256 word, uint256 until) {
        OrderRecord storage record;
        (record, word, until) = _settleable(orderId);
        if (_suppliers[word.supplier()].owner != msg.sender) {
            revert NotSupplierOwner(orderId, word.supplier(), msg.sender);
        }
        if (until != word.settledFor()) record.word = word.withSettledFor(until);
    }

    /// @dev Settles the last lease of a withdrawal and sends everything at once, with a credit where there may be one.
    function _payOut(uint64 orderId, uint256 carried, address to) private returns (uint256 paid) {
        (uint256 word, uint256 until) = _settleOwn(orderId);
        SupplierRecord storage supplier = _suppliers[word.supplier()];
        address creditor = address(0);
        if (supplier.creditTokens & _tokenBit(orderId) != 0) {
            supplier.creditTokens &= ~_tokenBit(orderId);
            creditor = msg.sender;
        }
        uint256 amount;
        (amount, paid) = _escrow.settleAndPay(orderId, word, until, carried, creditor, to);
        if (paid == 0) revert NothingDue(orderId);
        if (until != word.settledFor()) emit LeaseSettled(orderId, word.supplier(), uint32(until), amount);
    }

    /// @dev Token ids are below 32.
    function _tokenBit(uint64 orderId) private pure returns (uint32) {
        return uint32(1) << OrderId.token(orderId);
    }

    /// @dev An order that is or was a lease, and the seconds after its start up to which it can be paid now.
    function _settleable(uint64 orderId)
        private
        view
        returns (OrderRecord storage record, uint256 word, uint256 until)
    {
        record = _orders[orderId];
        word = record.word;
        OrderState state = word.state();
        if (state != OrderState.Leased && state < OrderState.ClosedByUser) revert WrongState(orderId, state);
        uint256 elapsed = block.timestamp - word.start();
        if (elapsed < _challengeWindow) return (record, word, word.settledFor());
        until = word.duration();
        if (state == OrderState.Leased && elapsed < until) until = elapsed;
    }
}
