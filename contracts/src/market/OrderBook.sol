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
        Bidding memory bidding = _bidding;
        Terms.check(terms, bidding.paramsVersion);
        if (bidWindow == 0) bidWindow = bidding.bidWindow;
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
        --supplier.leaseCount;
        _release(word.supplier(), resources.resources, word.gpuEntry());
        uint256 amount = _escrow.closeLease(orderId, word, billed, held, supplier.owner);
        if (!held && billed != word.settledFor()) emit LeaseSettled(orderId, word.supplier(), uint32(billed), amount);
        emit LeaseClosed(orderId, reason, uint32(billed));
    }

    // -------------------------------------------------------------- providers

    /// @inheritdoc IOrderBook
    function placeBid(uint64 orderId, uint32 fizz, uint96 rate) external override {
        Bidder memory bidder = _bidders[msg.sender];
        if (bidder.supplier == 0) revert NotSupplier(msg.sender);
        _checkAscending(bidder, orderId, fizz);
        _bidders[msg.sender] = bidder;

        Bidding memory bidding = _bidding;
        uint256 scoreCard = _activeScoreCard(bidding.registry, bidder.supplier);
        OrderRecord storage record = _orders[orderId];
        uint256 word = record.word;
        if (word.state() != OrderState.Open) revert WrongState(orderId, word.state());
        if (block.number >= word.closeBlock()) {
            revert BidWindowOver(orderId, uint32(word.closeBlock()), block.number);
        }
        uint256 digest = record.digest;
        if (digest.count() >= bidding.bidLimit) revert BidLimitReached(orderId, bidding.bidLimit);
        uint256 capacity = _biddingCapacity(bidder.supplier, fizz);
        _foldBid(record, word, digest, BidRequest(orderId, fizz, rate), bidder.supplier, scoreCard, capacity);
    }

    /// @inheritdoc IOrderBook
    function placeBids(BidRequest[] calldata bids) external override {
        if (bids.length == 0) revert EmptyBatch();
        Bidder memory bidder = _bidders[msg.sender];
        if (bidder.supplier == 0) revert NotSupplier(msg.sender);
        Bidding memory bidding = _bidding;
        uint256 scoreCard = _activeScoreCard(bidding.registry, bidder.supplier);
        uint256 ownCapacity = 0;
        for (uint256 index = 0; index < bids.length; ++index) {
            BidRequest memory bid = bids[index];
            _checkAscending(bidder, bid.orderId, bid.fizz);
            OrderRecord storage record = _orders[bid.orderId];
            uint256 word = record.word;
            // Closed or full since the provider looked: the other bids still count.
            if (word.state() != OrderState.Open || block.number >= word.closeBlock()) continue;
            uint256 digest = record.digest;
            if (digest.count() >= bidding.bidLimit) continue;
            uint256 capacity = bid.fizz == 0 ? ownCapacity : 0;
            if (capacity == 0) capacity = _biddingCapacity(bidder.supplier, bid.fizz);
            if (bid.fizz == 0) ownCapacity = capacity;
            _foldBid(record, word, digest, bid, bidder.supplier, scoreCard, capacity);
        }
        _bidders[msg.sender] = bidder;
    }

    // ----------------------------------------------------------------- anyone

    /// @inheritdoc IOrderBook
    function settle(uint64[] calldata orderIds) external override {
        for (uint256 index = 0; index < orderIds.length; ++index) {
            uint64 orderId = orderIds[index];
            uint256 word = _leaseWord(orderId);
            uint256 amount = _settle(orderId, word);
            if (amount != 0) _escrow.credit(_suppliers[word.supplier()].owner, OrderId.token(orderId), amount);
        }
    }

    /// @inheritdoc IOrderBook
    function settleAndWithdraw(uint64[] calldata orderIds, address to) external override returns (uint256 amount) {
        if (orderIds.length == 0) revert EmptyBatch();
        uint8 token = OrderId.token(orderIds[0]);
        for (uint256 index = 0; index < orderIds.length; ++index) {
            uint64 orderId = orderIds[index];
            if (OrderId.token(orderId) != token) revert MixedTokens(orderId, token);
            uint256 word = _leaseWord(orderId);
            if (_suppliers[word.supplier()].owner != msg.sender) {
                revert NotSupplierOwner(orderId, word.supplier(), msg.sender);
            }
            amount += _settle(orderId, word);
        }
        return _escrow.payOut(msg.sender, token, amount, to);
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
        while (cursor < matches.length) {
            uint256 end = _endOfOrder(matches[cursor], cursor, matches.length);
            uint64 orderId = uint64(matches[cursor] >> 8);
            if (orderId <= previous) revert OrdersNotAscending(previous, orderId);
            previous = orderId;
            uint256 change = _answer(orderId, closeBlock, matches[cursor + 1:end]);
            if (change != 0) changes[changed++] = change;
            cursor = end;
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
        uint256 word = _leaseWord(orderId);
        uint256 until = _settleableUntil(word);
        return until == word.settledFor() ? 0 : _escrow.netOf(word, until);
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

    function _checkAscending(Bidder memory bidder, uint64 orderId, uint32 fizz) private view {
        bool ascends = bidder.lastBlock != block.number || orderId > bidder.lastOrderId
            || (orderId == bidder.lastOrderId && fizz > bidder.lastFizz);
        if (!ascends) revert BidsNotAscending(bidder.lastOrderId, bidder.lastFizz, orderId, fizz);
        bidder.lastBlock = uint32(block.number);
        bidder.lastOrderId = orderId;
        bidder.lastFizz = fizz;
    }

    function _activeScoreCard(IProviderRegistry registry, uint32 provider) private view returns (uint256 scoreCard) {
        scoreCard = registry.scoreCard(provider);
        if (!ScoreCardWord.isActive(scoreCard)) revert SupplierInactive(provider);
    }

    function _biddingCapacity(uint32 provider, uint32 fizz) private view returns (uint256 capacity) {
        if (fizz != 0 && _suppliers[fizz].gateway != provider) revert NotBehindGateway(fizz, provider);
        uint32 supplier = fizz == 0 ? provider : fizz;
        capacity = _effectiveCapacity(_suppliers[supplier]);
        if (!capacity.isActive()) revert SupplierInactive(supplier);
        return capacity.visible();
    }

    function _foldBid(
        OrderRecord storage record,
        uint256 word,
        uint256 digest,
        BidRequest memory bid,
        uint32 provider,
        uint256 scoreCard,
        uint256 capacity
    ) private {
        if (bid.rate == 0) revert RateIsZero(bid.orderId);
        if (bid.rate > word.rate()) revert RateAboveMaximum(bid.orderId, bid.rate, word.rate());
        if (digest == 0) digest = DigestWord.seed(bid.orderId, word.closeBlock());
        uint256 offer = OfferWord.pack(block.number, bid.rate, bid.fizz, provider);
        record.digest = digest.fold(offer, scoreCard, capacity);
        emit BidPlaced(bid.orderId, provider, offer, scoreCard, capacity);
    }

    // --------------------------------------------------------- private: matches

    /// @dev Index after the words of the order whose header stands at `cursor`.
    function _endOfOrder(uint256 header, uint256 cursor, uint256 length) private pure returns (uint256 end) {
        uint256 ranks = uint8(header);
        if (header >> 72 != 0) revert MalformedMatches(cursor);
        if (ranks > MOST_RANKS) revert TooManyRanks(uint64(header >> 8), ranks, MOST_RANKS);
        end = cursor + (ranks == 0 ? 1 : 3 + ranks);
        if (end > length) revert MalformedMatches(cursor);
    }

    /// @dev Returns what {IEscrow-openLeases} is told, zero for nothing.
    function _answer(uint64 orderId, uint32 closeBlock, uint256[] calldata words) private returns (uint256 change) {
        OrderRecord storage record = _orders[orderId];
        uint256 word = record.word;
        // Cancelled, answered or requeued in the meantime: its neighbours go on.
        if (word.state() != OrderState.Open || word.closeBlock() != closeBlock) return 0;
        return words.length == 0 ? _expire(orderId, record, word) : _match(orderId, record, word, words);
    }

    function _expire(uint64 orderId, OrderRecord storage record, uint256 word) private returns (uint256 change) {
        record.word = word.withState(OrderState.Expired);
        emit OrderExpired(orderId);
        return _lockChange(orderId, word, 0);
    }

    /// @dev Takes the best supplier that can still serve; if none can, the order is requeued once. `words` are the resource
    /// word, the rest hash and the ranks.
    function _match(uint64 orderId, OrderRecord storage record, uint256 word, uint256[] calldata words)
        private
        returns (uint256 change)
    {
        _checkResources(orderId, record.termsHash, words[0], bytes32(words[1]));
        for (uint256 index = 2; index < words.length; ++index) {
            uint256 rank = words[index];
            uint256 rate = RankWord.rate(rank);
            if (!RankWord.isValid(rank)) revert MalformedRank(orderId, rank);
            if (rate > word.rate()) revert RateAboveMaximum(orderId, rate, word.rate());
            if (!_reserve(RankWord.supplier(rank), words[0], RankWord.gpuEntry(rank))) continue;
            record.word = word.leased(rate, block.timestamp, RankWord.supplier(rank), RankWord.gpuEntry(rank));
            emit LeaseCreated(
                orderId, RankWord.supplier(rank), uint96(rate), uint32(block.timestamp), uint8(RankWord.gpuEntry(rank))
            );
            return _lockChange(orderId, word, rate);
        }
        if (word.requeued()) return _expire(orderId, record, word);
        uint256 closeBlock = block.number + _bidding.bidWindow;
        record.word = word.requeue(closeBlock);
        record.digest = DigestWord.seed(orderId, closeBlock);
        emit OrderRequeued(orderId, uint32(closeBlock));
    }

    function _lockChange(uint64 orderId, uint256 word, uint256 rate) private pure returns (uint256) {
        return rate | (word.rate() << 84) | (word.duration() << 168) | (word.feeSchedule() << 197)
            | (uint256(OrderId.token(orderId)) << 206) | (uint256(OrderId.account(orderId)) << 214);
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

    /// @dev Word of an order that is or was a lease.
    function _leaseWord(uint64 orderId) private view returns (uint256 word) {
        word = _orders[orderId].word;
        OrderState state = word.state();
        if (state != OrderState.Leased && state < OrderState.ClosedByUser) revert WrongState(orderId, state);
    }

    /// @dev Seconds after the start up to which a lease can be paid now.
    function _settleableUntil(uint256 word) private view returns (uint256) {
        uint256 elapsed = block.timestamp - word.start();
        if (elapsed < _challengeWindow) return word.settledFor();
        return word.state() == OrderState.Leased && elapsed < word.duration() ? elapsed : word.duration();
    }

    /// @dev Nothing due is no error: somebody else may have settled a moment ago.
    function _settle(uint64 orderId, uint256 word) private returns (uint256 amount) {
        uint256 until = _settleableUntil(word);
        if (until == word.settledFor()) return 0;
        _orders[orderId].word = word.withSettledFor(until);
        amount = _escrow.settleLease(orderId, word, until);
        emit LeaseSettled(orderId, word.supplier(), uint32(until), amount);
    }
}
