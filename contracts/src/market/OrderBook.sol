// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

import {IProviderRegistry} from "../registry/IProviderRegistry.sol";
import {BidRequest, LeaseResources, Order, OrderState, OrderTerms} from "../Types.sol";
import {Capacity} from "./Capacity.sol";
import {IEscrow} from "./IEscrow.sol";
import {IOrderBook} from "./IOrderBook.sol";
import {MarketGovernance} from "./MarketGovernance.sol";
import {DigestWord, OfferWord, OrderId, OrderWord, RankWord, ScoreCardWord} from "./Resources.sol";
import {Suppliers} from "./Suppliers.sol";
import {Terms} from "./Terms.sol";

/// @title Order book
/// @notice All orders, leases and capacity. Immutable like its escrow. An order costs two new slots, its first bid one, a
/// match none: bids are folded into a digest and never stored, the lease is the order's word rewritten.
contract OrderBook is Suppliers {
    using Capacity for uint256;
    using DigestWord for uint256;
    using OrderWord for uint256;

    /// @dev Three slots; the digest's is written by the first bid.
    struct OrderRecord {
        uint256 word;
        bytes32 termsHash;
        uint256 digest;
    }

    uint256 private constant MOST_RANKS = 8;

    mapping(uint256 orderId => OrderRecord) private _orders;

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
        if (block.number >= word.closeBlock()) {
            revert BidWindowOver(orderId, uint32(word.closeBlock()), block.number);
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
            if (_orders[orderId].digest.count() != 0) firstBlock += _responseWindow + 1;
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

    // -------------------------------------------------------------- providers

    /// @inheritdoc IOrderBook
    function placeBid(uint64 orderId, uint32 fizz, uint96 rate) external override {
        BidderRecord storage ownRecord = _bidders[msg.sender];
        uint256 bidder = _advance(ownRecord.word, orderId, fizz);
        ownRecord.word = bidder;

        uint256 bidding = _bidding;
        uint256 scoreCard = _activeScoreCard(bidding, uint32(bidder));
        _bid(orderId, _offer(orderId, uint32(bidder), fizz, rate), bidding, scoreCard, false);
    }

    /// @inheritdoc IOrderBook
    function placeBids(BidRequest[] calldata bids) external override {
        if (bids.length == 0) revert EmptyBatch();
        BidderRecord storage ownRecord = _bidders[msg.sender];
        uint256 bidder = ownRecord.word;
        if (bidder == 0) revert NotSupplier(msg.sender);
        uint256 bidding = _bidding;
        uint256 scoreCard = _activeScoreCard(bidding, uint32(bidder));
        for (uint256 index = 0; index < bids.length; ++index) {
            BidRequest calldata bid = bids[index];
            bidder = _advance(bidder, bid.orderId, bid.fizz);
            // Orders that closed or filled up since the provider looked are passed over: the others still count.
            _bid(bid.orderId, _offer(bid.orderId, uint32(bidder), bid.fizz, bid.rate), bidding, scoreCard, true);
        }
        ownRecord.word = bidder;
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
        if (block.number <= closeBlock || block.number > closeBlock + _responseWindow) {
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

    // ------------------------------------------------------------ private: bids

    /// @dev The bidder's word with this bid as its last.
    function _advance(uint256 bidder, uint64 orderId, uint32 fizz) private view returns (uint256) {
        if (uint32(bidder) == 0) revert NotSupplier(msg.sender);
        uint256 position = (block.number << 96) | (uint256(orderId) << 32) | fizz;
        if (position <= bidder >> 32) {
            revert BidsNotAscending(uint64(bidder >> 64), uint32(bidder >> 32), orderId, fizz);
        }
        return (position << 32) | uint32(bidder);
    }

    function _activeScoreCard(uint256 bidding, uint32 provider) private view returns (uint256 scoreCard) {
        scoreCard = IProviderRegistry(_registryOf(bidding)).scoreCard(provider);
        if (!ScoreCardWord.isActive(scoreCard)) revert SupplierInactive(provider);
    }

    function _takesBids(uint256 word, uint256 digest, uint256 bidding) private view returns (bool) {
        return
            word.state() == OrderState.Open && block.number < word.closeBlock() && digest.count() < _bidLimitOf(bidding);
    }

    /// @dev Says why an order takes no bid.
    function _refuse(uint64 orderId, uint256 word, uint16 bidLimit) private view {
        if (word.state() != OrderState.Open) revert WrongState(orderId, word.state());
        if (block.number >= word.closeBlock()) {
            revert BidWindowOver(orderId, uint32(word.closeBlock()), block.number);
        }
        revert BidLimitReached(orderId, bidLimit);
    }

    function _biddingCapacity(uint32 supplier, uint32 fizz) private view returns (uint256 capacity) {
        if (fizz != 0) {
            if (_suppliers[fizz].gateway != supplier) revert NotBehindGateway(fizz, supplier);
            supplier = fizz;
        }
        SupplierRecord storage record = _suppliers[supplier];
        capacity = record.capacity;
        // The answer may come after a decrease that is pending now: who bid with more could walk away from a won order.
        if (capacity & Capacity.PENDING != 0) capacity = _effectiveCapacity(record).promised(record.wish);
        if (!capacity.isActive()) revert SupplierInactive(supplier);
        // Not suspended: nothing to hide but the inner bits.
        return capacity & Capacity.VISIBLE;
    }

    function _offer(uint64 orderId, uint32 provider, uint32 fizz, uint96 rate) private view returns (uint256) {
        if (rate == 0) revert RateIsZero(orderId);
        if (rate > OrderWord.MAXIMUM_RATE) revert RateAboveMaximum(orderId, rate, OrderWord.MAXIMUM_RATE);
        return OfferWord.pack(block.number, rate, fizz, provider);
    }

    function _bid(uint64 orderId, uint256 offer, uint256 bidding, uint256 scoreCard, bool mayPassOver) private {
        OrderRecord storage record = _orders[orderId];
        uint256 word = record.word;
        uint256 digest = record.digest;
        if (!_takesBids(word, digest, bidding)) {
            if (mayPassOver) return;
            _refuse(orderId, word, _bidLimitOf(bidding));
        }
        if (OfferWord.rate(offer) > word.rate()) revert RateAboveMaximum(orderId, OfferWord.rate(offer), word.rate());
        if (digest == 0) digest = DigestWord.seed(orderId, word.closeBlock());
        uint256 capacity = _biddingCapacity(OfferWord.provider(offer), OfferWord.fizz(offer));
        uint256 bid;
        (record.digest, bid) = digest.fold(offer, scoreCard, capacity);
        // As `emit BidPlaced`, but the words already stand in memory.
        bytes32 topic = BidPlaced.selector;
        assembly ("memory-safe") {
            log3(bid, 0x60, topic, orderId, shr(148, offer))
        }
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
            _checkResources(orderId, record.termsHash, resources, bytes32(_wordAt(matches, index + 1)));
            // Takes the best supplier that can still serve; if none can, the order is requeued once.
            for (index += 2; index < end; ++index) {
                change = _match(orderId, record, word, resources, _wordAt(matches, index));
                if (change != 0) return change;
            }
        }
        if (word.requeued()) return _expire(orderId, record, word);
        uint256 nextCloseBlock = block.number + _bidWindowOf(_bidding);
        record.word = word.requeue(nextCloseBlock);
        record.digest = DigestWord.seed(orderId, nextCloseBlock);
        emit OrderRequeued(orderId, uint32(nextCloseBlock));
    }

    function _expire(uint64 orderId, OrderRecord storage record, uint256 word) private returns (uint256 change) {
        record.word = word.withState(OrderState.Expired);
        emit OrderExpired(orderId);
        return _lockChange(orderId, word, 0);
    }

    /// @dev Opens the lease if the supplier of this rank has room, otherwise returns zero.
    function _match(uint64 orderId, OrderRecord storage record, uint256 word, uint256 resources, uint256 rank)
        private
        returns (uint256 change)
    {
        uint256 rate = RankWord.rate(rank);
        if (rank >> RankWord.WIDTH != 0 || rate == 0) revert MalformedRank(orderId, rank);
        if (rate > word.rate()) revert RateAboveMaximum(orderId, rate, word.rate());
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
