// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

import {IProviderRegistry} from "../registry/IProviderRegistry.sol";
import {BidRequest, OrderState} from "../Types.sol";
import {Capacity} from "./Capacity.sol";
import {IOrderBook} from "./IOrderBook.sol";
import {DigestWord, OfferWord, OrderWord, PayeeWord, ScoreCardWord} from "./Resources.sol";
import {Suppliers} from "./Suppliers.sol";

/// @title Orders' records and the bids on them
/// @notice Bids are folded into an order's digest and never stored.
abstract contract Bids is Suppliers {
    using Capacity for uint256;
    using DigestWord for uint256;
    using OrderWord for uint256;
    using PayeeWord for uint256;

    // -------------------------------------------------------------- providers

    /// @inheritdoc IOrderBook
    function placeBid(uint64 orderId, uint32 fizz, uint96 rate) external override {
        BidderRecord storage ownRecord = _bidders[msg.sender];
        uint256 bidder = _advance(ownRecord.word, orderId, fizz);
        ownRecord.word = bidder;

        uint256 bidding = _bidding;
        _checkNotPaused(bidding);
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
        _checkNotPaused(bidding);
        uint256 scoreCard = _activeScoreCard(bidding, uint32(bidder));
        for (uint256 index = 0; index < bids.length; ++index) {
            BidRequest calldata bid = bids[index];
            bidder = _advance(bidder, bid.orderId, bid.fizz);
            // Orders that closed or filled up since the provider looked are passed over: the others still count.
            _bid(bid.orderId, _offer(bid.orderId, uint32(bidder), bid.fizz, bid.rate), bidding, scoreCard, true);
        }
        ownRecord.word = bidder;
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
            if (_suppliers[fizz].payee.gateway() != supplier) revert NotBehindGateway(fizz, supplier);
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
}
