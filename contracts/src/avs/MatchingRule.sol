// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

import {MatchingParameters, OrderTerms} from "../Types.sol";
import {DigestWord, OrderId, OrderWord, RequirementWord, ResourceWord, ScoreCardWord} from "../market/Resources.sol";
import {ChaCha20} from "./ChaCha20.sol";
import {IMatchingRule} from "./IMatchingRule.sol";

/// @title The matching rule, version 1, on chain
/// @notice The same function as `avs/src/matching` in Rust and `avs/vectors/rule.py` in Python: on every input, the three give
/// the same ranks. Total but for the caller's own slips (see the errors): words that no contract wrote make a bid invalid, terms
/// that no contract took make every bid invalid.
/// @dev Written for many bids. Nothing here can overflow: every field is cut to its width before it is used, and the widest
/// product (a rate of 84 bits by a full score of 20) is far from 256 bits; so all of it is unchecked.
contract MatchingRule is IMatchingRule {
    uint256 private constant FULL_SCORE = 1_000_000;
    uint256 private constant HALF_SCORE = 500_000;
    /// @dev Ratings run from 0 to 10: this much of a score each.
    uint256 private constant SCORE_PER_RATING = 100_000;
    uint256 private constant TIERS = 7;

    bytes16 private constant DRAW_DOMAIN = "spheron.match.v1";
    /// @dev A draw is one of 0 to 1 000 000. Stream words above the last multiple are skipped, so that all are equally likely.
    uint256 private constant DRAWS = 1_000_001;
    uint256 private constant LAST_ACCEPTED = (1 << 64) - 1 - (1 << 64) % DRAWS;
    /// @dev Words of 64 bits in one block of the stream.
    uint256 private constant WORDS_PER_BLOCK = 8;

    uint256 private constant BID_BYTES = 96;
    /// @dev The longest list that `createOrder` takes: as many are searched in six steps.
    uint256 private constant LIST_CHUNK = 64;
    uint256 private constant LIST_CHUNK_BYTES = 2048;
    /// @dev What {_judge} says of a bid that is not valid; no total comes near.
    uint256 private constant NOT_VALID = type(uint256).max;

    uint256 private constant ATTRIBUTE_GUARDS = ScoreCardWord.ATTRIBUTE_GUARD_BITS << 155;
    uint256 private constant UNUSED_OF_CARD = ~uint256(0) << 244;

    /// @dev What bids are compared with, taken apart once. All that is read per bid is a word of its own.
    struct Criteria {
        uint256 maximumRate;
        // Score card: after the mask, it must be this. Active, token, compliance; unused and guard bits zero.
        uint256 cardMask;
        uint256 cardRequired;
        // At the bits that a score card has them at.
        uint256 minimumAttributes;
        // Bitmaps. An order that takes any region takes region 0, which is none.
        uint256 tiers;
        uint256 regions;
        bool onFizz;
        bool hasSupplierLists;
        Suppliers wanted;
        Suppliers excluded;
        uint256 cpu;
        uint256 memory_;
        uint256 storage_;
        uint256 gpuCount;
        // Bitmap by id.
        uint256 gpus;
        uint256 preferredRegion;
        uint256 preferredZone;
        uint256 stakeCap;
        uint256 priceWeight;
        uint256 regionWeight;
        uint256 feedbackWeight;
        uint256 availabilityWeight;
        uint256 slashesWeight;
        uint256 tierWeight;
        uint256 stakeWeight;
        uint256 randomnessWeight;
    }

    /// @dev A list of the terms, which ascends strictly, in chunks of {LIST_CHUNK} that are searched without counting: the first
    /// is filled up with zeros in front. The bitmap of its ids modulo 256 spares most searches.
    struct Suppliers {
        uint256 bitmap;
        bool holdsZero;
        uint256[] ids;
    }

    /// @dev A stream of draws: the key's rows, the next block, how many words of the last block are left, and those.
    struct Stream {
        uint256 firstRow;
        uint256 secondRow;
        uint256 nextBlock;
        uint256 left;
        uint256[8] words;
    }

    /// @inheritdoc IMatchingRule
    function rank(
        uint64 orderId,
        uint32 closeBlock,
        bytes32 closeBlockHash,
        OrderTerms calldata terms,
        MatchingParameters calldata parameters,
        uint256[] calldata bids,
        bytes calldata bidOrder
    ) external view returns (uint256 digestWord, uint256[] memory ranks) {
        unchecked {
            uint256 count = bids.length / 3;
            // A digest word counts no more bids than its count has bits for.
            if (count * 3 != bids.length || count > type(uint16).max) revert BidsBreakOff(bids.length);
            if (bidOrder.length != 2 * count) revert BidOrderLength(bidOrder.length, 2 * count);
            if (count == 0) return (0, ranks);
            digestWord = _digestWord(orderId, closeBlock, bids);

            (Criteria memory criteria, bool wellFormed) = _criteria(orderId, terms, parameters);
            if (!wellFormed) return (digestWord, ranks);
            Stream memory stream = _stream(orderId, closeBlockHash);
            ranks = new uint256[](parameters.rankLimit);
            _rank(criteria, stream, bids, bidOrder, ranks);
            _toRankWords(ranks);
        }
    }

    // ------------------------------------------------------------- commitment

    /// @dev Folds the bids in log order, as {DigestWord} does one by one.
    function _digestWord(uint64 orderId, uint32 closeBlock, uint256[] calldata bids)
        private
        pure
        returns (uint256 word)
    {
        unchecked {
            word = DigestWord.seed(orderId, closeBlock);
            assembly ("memory-safe") {
                let buffer := mload(0x40)
                let end := add(bids.offset, shl(5, bids.length))
                for { let bid := bids.offset } lt(bid, end) { bid := add(bid, BID_BYTES) } {
                    mstore(buffer, word)
                    calldatacopy(add(buffer, 0x20), bid, BID_BYTES)
                    word := and(keccak256(buffer, 0x80), not(0xffff))
                }
            }
            word |= bids.length / 3;
        }
    }

    // ---------------------------------------------------------------- ranking

    /// @dev Walks the bids by (provider, fizz), each pair's last bid first, and keeps the best keys, best first. The order
    /// given proves itself: what ascends strictly repeats no bid, and as many as there are, of those that exist, are all.
    function _rank(
        Criteria memory criteria,
        Stream memory stream,
        uint256[] calldata bids,
        bytes calldata bidOrder,
        uint256[] memory best
    ) private pure {
        unchecked {
            uint256 previous = 0;
            for (uint256 place = 0; place < bidOrder.length; place += 2) {
                uint256 bid;
                uint256 current;
                assembly ("memory-safe") {
                    let index := shr(240, calldataload(add(bidOrder.offset, place)))
                    bid := add(bids.offset, mul(index, BID_BYTES))
                    // Provider and fizz stand side by side in the offer. The bit above them tells the first bidder from none,
                    // whatever its ids.
                    let bidder := and(shr(116, calldataload(bid)), 0xffffffffffffffff)
                    current := or(shl(80, 1), or(shl(16, bidder), sub(0xffff, index)))
                    // An index beyond the bids ascends from nowhere.
                    current := mul(current, lt(mul(3, index), bids.length))
                }
                if (current <= previous) revert BidOrderNotAscending(place / 2);
                bool superseded = current >> 16 == previous >> 16;
                previous = current;
                if (superseded) continue;
                (uint256 total, uint256 gpuEntry) = _judge(criteria, bid);
                if (total == NOT_VALID) continue;
                total += criteria.randomnessWeight * _draw(stream);
                _insert(best, _key(total, bid, gpuEntry));
            }
        }
    }

    /// @dev Sorts descending as ranks do: total descending, rate, provider and fizz ascending. Total plus one (so that no key is
    /// zero) at 150 | complement of rate 84 at 66 | complement of provider and fizz 64 at 2 | GPU entry 2 at 0.
    function _key(uint256 total, uint256 bid, uint256 gpuEntry) private pure returns (uint256 key) {
        assembly ("memory-safe") {
            let offer := not(calldataload(bid))
            let rate := and(shr(32, offer), 0xfffffffffffffffffffff)
            let bidder := and(shr(116, offer), 0xffffffffffffffff)
            key := or(or(shl(150, add(total, 1)), shl(66, rate)), or(shl(2, bidder), gpuEntry))
        }
    }

    /// @dev Keeps `best` descending. No two keys are equal: no two hold the same bidder.
    function _insert(uint256[] memory best, uint256 key) private pure {
        assembly ("memory-safe") {
            // The length stands before the first key. Below the least of keys there is none to compare with.
            let place := add(best, shl(5, mload(best)))
            if and(gt(place, best), gt(key, mload(place))) {
                let above := sub(place, 0x20)
                for {} and(gt(above, best), gt(key, mload(above))) {} {
                    mstore(place, mload(above))
                    place := above
                    above := sub(above, 0x20)
                }
                mstore(place, key)
            }
        }
    }

    /// @dev Turns keys into rank words, in place, and cuts the list to those that are there.
    function _toRankWords(uint256[] memory ranks) private pure {
        unchecked {
            uint256 count = 0;
            while (count < ranks.length && ranks[count] != 0) {
                uint256 key = ranks[count];
                uint256 rate = ~(key >> 66) & OrderWord.MAXIMUM_RATE;
                uint256 bidder = ~(key >> 2) & type(uint64).max;
                ranks[count++] = (bidder << 86) | (rate << 2) | (key & 3);
            }
            assembly ("memory-safe") {
                mstore(ranks, count)
            }
        }
    }

    // ------------------------------------------------------------------ draws

    function _stream(uint64 orderId, bytes32 closeBlockHash) private view returns (Stream memory stream) {
        bytes32 seed = keccak256(abi.encodePacked(DRAW_DOMAIN, block.chainid, orderId, closeBlockHash));
        (stream.firstRow, stream.secondRow) = ChaCha20.rows(seed);
    }

    /// @dev The next draw. A block is made when its first word is needed.
    function _draw(Stream memory stream) private pure returns (uint256) {
        unchecked {
            uint256 word;
            do {
                if (stream.left == 0) _nextBlock(stream);
                uint256 left = stream.left;
                uint256[8] memory words = stream.words;
                assembly ("memory-safe") {
                    word := mload(add(words, shl(5, sub(WORDS_PER_BLOCK, left))))
                }
                stream.left = left - 1;
            } while (word > LAST_ACCEPTED);
            return word % DRAWS;
        }
    }

    function _nextBlock(Stream memory stream) private pure {
        unchecked {
            (uint256 a, uint256 b, uint256 c, uint256 d) =
                ChaCha20.blockOf(stream.firstRow, stream.secondRow, stream.nextBlock++);
            uint256[8] memory words = stream.words;
            (words[0], words[1]) = _pairs(a);
            (words[2], words[3]) = _pairs(b);
            (words[4], words[5]) = _pairs(c);
            (words[6], words[7]) = _pairs(d);
            stream.left = WORDS_PER_BLOCK;
        }
    }

    /// @dev Two words of 64 bits from a row's four of 32, the lower one first.
    function _pairs(uint256 row) private pure returns (uint256, uint256) {
        row |= row >> 32;
        return (row & type(uint64).max, (row >> 128) & type(uint64).max);
    }

    // ---------------------------------------------------------------- verdict

    /// @dev Whether a bid is valid; if it is, the weighted sum of all its scores but the draw, and the GPU entry that would
    /// serve.
    /// @param bid Where its three words stand in calldata.
    function _judge(Criteria memory criteria, uint256 bid) private pure returns (uint256 total, uint256 gpuEntry) {
        unchecked {
            uint256 card;
            {
                uint256 offer;
                assembly ("memory-safe") {
                    offer := calldataload(bid)
                    card := calldataload(add(bid, 0x20))
                }
                uint256 rate = (offer >> 32) & OrderWord.MAXIMUM_RATE;
                uint256 maximumRate = criteria.maximumRate;
                // Rate zero wraps to the most there is.
                if (offer >> 180 != 0 || rate - 1 >= maximumRate) return (NOT_VALID, 0);
                if ((uint32(offer >> 116) != 0) != criteria.onFizz) return (NOT_VALID, 0);
                if (!_fitsCard(criteria, card)) return (NOT_VALID, 0);
                if (criteria.hasSupplierLists && !_fitsLists(criteria, offer)) return (NOT_VALID, 0);
                total = criteria.priceWeight * ((maximumRate - rate) * FULL_SCORE / maximumRate);
            }
            uint256 availability;
            (availability, gpuEntry) = _availability(criteria, bid);
            if (availability == NOT_VALID) return (NOT_VALID, 0);
            total += criteria.availabilityWeight * availability + _cardScores(criteria, card);
        }
    }

    function _fitsCard(Criteria memory criteria, uint256 card) private pure returns (bool) {
        unchecked {
            if (card & criteria.cardMask != criteria.cardRequired) return false;
            // One subtraction compares all levels: a guard bit is lost where a level is below its minimum.
            uint256 above = (card | ATTRIBUTE_GUARDS) - criteria.minimumAttributes;
            if (above & ATTRIBUTE_GUARDS != ATTRIBUTE_GUARDS) return false;
            return (criteria.tiers >> ((card >> 152) & 7)) & (criteria.regions >> ((card >> 136) & 0xff)) & 1 != 0;
        }
    }

    /// @dev Excluding a provider excludes its fizz nodes; fizz 0 is nobody, whatever the list says.
    function _fitsLists(Criteria memory criteria, uint256 offer) private pure returns (bool) {
        uint256 provider = uint32(offer >> 148);
        uint256 fizz = uint32(offer >> 116);
        uint256 supplier = fizz != 0 ? fizz : provider;
        if (criteria.wanted.bitmap != 0 && !_isListed(criteria.wanted, supplier)) return false;
        if (_isListed(criteria.excluded, provider)) return false;
        return fizz == 0 || !_isListed(criteria.excluded, fizz);
    }

    function _isListed(Suppliers memory list, uint256 supplier) private pure returns (bool listed) {
        if ((list.bitmap >> (supplier & 0xff)) & 1 == 0) return false;
        if (supplier == 0) return list.holdsZero;
        uint256[] memory ids = list.ids;
        assembly ("memory-safe") {
            let end := add(ids, shl(5, mload(ids)))
            for { let chunk := ids } lt(chunk, end) { chunk := add(chunk, LIST_CHUNK_BYTES) } {
                // The last word before the first id that is not below the supplier: 32, 16, 8, 4, 2 and 1 words on, or not.
                let last := add(chunk, shl(10, lt(mload(add(chunk, 0x400)), supplier)))
                last := add(last, shl(9, lt(mload(add(last, 0x200)), supplier)))
                last := add(last, shl(8, lt(mload(add(last, 0x100)), supplier)))
                last := add(last, shl(7, lt(mload(add(last, 0x80)), supplier)))
                last := add(last, shl(6, lt(mload(add(last, 0x40)), supplier)))
                last := add(last, shl(5, lt(mload(add(last, 0x20)), supplier)))
                listed := or(listed, eq(mload(add(last, 0x20)), supplier))
            }
        }
    }

    /// @dev The smallest share of a resource asked that stays free, as a score, or {NOT_VALID} if something does not fit.
    function _availability(Criteria memory criteria, uint256 bid)
        private
        pure
        returns (uint256 smallest, uint256 gpuEntry)
    {
        unchecked {
            uint256 capacity;
            assembly ("memory-safe") {
                capacity := calldataload(add(bid, 0x40))
            }
            // Active is the highest of its bits.
            if (capacity >> 252 != 1) return (NOT_VALID, 0);

            // Of what is left and what is in use, each above its width if it is negative: too little free, or more than there is.
            // What is asked is at least one, so what fits has a total to divide by.
            uint256 free = (capacity >> 84) & 0xfffff;
            uint256 total = (capacity >> 104) & 0xfffff;
            uint256 left = free - criteria.cpu;
            if ((left | (total - free)) >> 255 != 0) return (NOT_VALID, 0);
            smallest = left * FULL_SCORE / total;

            free = (capacity >> 44) & 0xfffff;
            total = (capacity >> 64) & 0xfffff;
            left = free - criteria.memory_;
            if ((left | (total - free)) >> 255 != 0) return (NOT_VALID, 0);
            uint256 score = left * FULL_SCORE / total;
            if (score < smallest) smallest = score;

            uint256 asked = criteria.storage_;
            if (asked != 0) {
                free = capacity & 0x3fffff;
                total = (capacity >> 22) & 0x3fffff;
                left = free - asked;
                if ((left | (total - free)) >> 255 != 0) return (NOT_VALID, 0);
                score = left * FULL_SCORE / total;
                if (score < smallest) smallest = score;
            }

            asked = criteria.gpuCount;
            if (asked != 0) {
                (score, gpuEntry) = _gpuScore(asked, criteria.gpus, capacity >> 124);
                if (score < smallest || score == NOT_VALID) smallest = score;
            }
        }
    }

    /// @dev The first entry of an acceptable model with enough free serves: id 8 at 24 | total 12 at 12 | free 12 at 0.
    function _gpuScore(uint256 asked, uint256 models, uint256 entries)
        private
        pure
        returns (uint256 score, uint256 gpuEntry)
    {
        score = NOT_VALID;
        assembly ("memory-safe") {
            for {} lt(gpuEntry, 4) { gpuEntry := add(gpuEntry, 1) } {
                let free := and(entries, 0xfff)
                let total := and(shr(12, entries), 0xfff)
                let left := sub(free, asked)
                let fits := iszero(shr(255, or(left, sub(total, free))))
                if and(fits, shr(and(shr(24, entries), 0xff), models)) {
                    score := div(mul(left, FULL_SCORE), total)
                    break
                }
                entries := shr(32, entries)
            }
        }
    }

    /// @dev The weighted scores that depend on the score card alone.
    function _cardScores(Criteria memory criteria, uint256 card) private pure returns (uint256 total) {
        unchecked {
            total = criteria.regionWeight * _regionScore(criteria, card);

            uint256 score = HALF_SCORE;
            uint256 ratings = (card >> 64) & 0xffffffff;
            if (ratings != 0) {
                score = ((card >> 96) & 0xffffffffff) * SCORE_PER_RATING / ratings;
                if (score > FULL_SCORE) score = FULL_SCORE;
            }
            total += criteria.feedbackWeight * score;

            total += criteria.slashesWeight * (FULL_SCORE / (1 + ((card >> 48) & 0xffff)));
            total += criteria.tierWeight * ((1 + TIERS - ((card >> 152) & 7)) * FULL_SCORE / TIERS);

            uint256 stake = card & ScoreCardWord.MAXIMUM_STAKE;
            uint256 cap = criteria.stakeCap;
            total += criteria.stakeWeight * (stake < cap ? stake * FULL_SCORE / cap : FULL_SCORE);
        }
    }

    /// @dev Full for the exact zone, half for the same region; full where the order prefers none.
    function _regionScore(Criteria memory criteria, uint256 card) private pure returns (uint256) {
        if (criteria.preferredRegion == 0) return FULL_SCORE;
        if (criteria.preferredRegion != (card >> 136) & 0xff) return 0;
        if (criteria.preferredZone == 0 || criteria.preferredZone == (card >> 144) & 0xff) return FULL_SCORE;
        return HALF_SCORE;
    }

    // --------------------------------------------------------------- criteria

    /// @return criteria Only meaningful if well formed.
    /// @return wellFormed Whether terms and token are such as `createOrder` takes. Others match nobody.
    function _criteria(uint64 orderId, OrderTerms calldata terms, MatchingParameters calldata parameters)
        private
        pure
        returns (Criteria memory criteria, bool wellFormed)
    {
        uint256 requirements = terms.requirements;
        if (!ResourceWord.isValid(terms.resources) || !RequirementWord.isValid(requirements)) return (criteria, false);
        if (terms.maximumRate == 0 || terms.maximumRate > OrderWord.MAXIMUM_RATE) return (criteria, false);
        if (terms.duration == 0 || terms.duration > OrderWord.MAXIMUM_DURATION) return (criteria, false);
        // Score cards know the tokens 0 to 31: no other is accepted by anybody.
        if (OrderId.token(orderId) > 31) return (criteria, false);
        if (!_readList(criteria.wanted, terms.wantedSuppliers)) return (criteria, false);
        if (!_readList(criteria.excluded, terms.excludedSuppliers)) return (criteria, false);
        criteria.hasSupplierLists = terms.wantedSuppliers.length + terms.excludedSuppliers.length != 0;

        criteria.maximumRate = terms.maximumRate;
        criteria.onFizz = requirements & 0xff != 0;
        criteria.tiers = (requirements >> 8) & 0xff;
        criteria.preferredRegion = (requirements >> 16) & 0xff;
        criteria.preferredZone = (requirements >> 24) & 0xff;
        criteria.minimumAttributes = ((requirements >> 48) & type(uint40).max) << 155;
        // A provider without a region fits only orders that take any.
        criteria.regions = terms.regions == type(uint256).max ? terms.regions : terms.regions & ~uint256(1);
        _setCard(criteria, requirements, OrderId.token(orderId));
        _setResources(criteria, terms.resources);
        _setWeights(criteria, parameters);
        wellFormed = true;
    }

    /// @dev Whether the list ascends strictly; if so, it is ready to be searched.
    function _readList(Suppliers memory list, uint32[] calldata suppliers) private pure returns (bool ascends) {
        unchecked {
            if (suppliers.length == 0) return true;
            uint256[] memory ids = new uint256[]((suppliers.length + LIST_CHUNK - 1) / LIST_CHUNK * LIST_CHUNK);
            uint256 bitmap = 0;
            ascends = true;
            assembly ("memory-safe") {
                let size := shl(5, suppliers.length)
                calldatacopy(sub(add(add(ids, 0x20), shl(5, mload(ids))), size), suppliers.offset, size)
                // So that the first is above it, even zero.
                let previous := not(0)
                let end := add(suppliers.offset, size)
                for { let at := suppliers.offset } lt(at, end) { at := add(at, 0x20) } {
                    let supplier := calldataload(at)
                    ascends := and(ascends, gt(add(supplier, 1), add(previous, 1)))
                    previous := supplier
                    bitmap := or(bitmap, shl(and(supplier, 0xff), 1))
                }
            }
            list.bitmap = bitmap;
            list.holdsZero = suppliers[0] == 0;
            list.ids = ids;
        }
    }

    function _setCard(Criteria memory criteria, uint256 requirements, uint256 token) private pure {
        uint256 required =
            ScoreCardWord.ACTIVE | (((requirements >> 32) & type(uint16).max) << 227) | (1 << (195 + token));
        criteria.cardMask = required | UNUSED_OF_CARD | ATTRIBUTE_GUARDS;
        criteria.cardRequired = required;
    }

    function _setResources(Criteria memory criteria, uint256 resources) private pure {
        criteria.cpu = ResourceWord.cpuAsked(resources);
        criteria.memory_ = ResourceWord.memoryAsked(resources);
        criteria.storage_ = ResourceWord.storageAsked(resources);
        criteria.gpuCount = ResourceWord.gpuCount(resources);
        criteria.gpus = resources >> 96;
    }

    function _setWeights(Criteria memory criteria, MatchingParameters calldata parameters) private pure {
        criteria.stakeCap = parameters.stakeCap;
        criteria.priceWeight = parameters.weights[0];
        criteria.regionWeight = parameters.weights[1];
        criteria.feedbackWeight = parameters.weights[2];
        criteria.availabilityWeight = parameters.weights[3];
        criteria.slashesWeight = parameters.weights[4];
        criteria.tierWeight = parameters.weights[5];
        criteria.stakeWeight = parameters.weights[6];
        criteria.randomnessWeight = parameters.weights[7];
    }
}
