// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

import {Capacity} from "../../src/market/Capacity.sol";
import {Fees} from "../../src/market/Fees.sol";
import {
    DigestWord,
    OfferWord,
    OrderId,
    OrderWord,
    RankWord,
    RequirementWord,
    ResourceWord,
    ScoreCardWord
} from "../../src/market/Resources.sol";
import {Terms} from "../../src/market/Terms.sol";
import {FeeSchedule, Order, OrderState, OrderTerms} from "../../src/Types.sol";
import {Test} from "../Test.sol";

/// @notice Packing, hashing and arithmetic, against the vectors that agents are tested with and by fuzzing.
contract WordsTest is Test {
    string private constant VECTORS = "../avs/vectors/";

    // ----------------------------------------------------------------- vectors

    function test_termsHashes_agreeWithVectors() public view {
        string memory json = vm.readFile(string.concat(VECTORS, "matching.json"));
        for (uint256 index = 0; index < 12; ++index) {
            string memory path = string.concat("[", vm.toString(index * 17), "]");
            OrderTerms memory terms = _termsAt(json, string.concat(path, ".terms"));
            bytes32 rest = this.restHash(terms);
            assertEq(rest, vm.parseJsonBytes32(json, string.concat(path, ".restHash")), "rest hash");
            assertEq(
                Terms.hash(terms.resources, rest),
                vm.parseJsonBytes32(json, string.concat(path, ".termsHash")),
                "terms hash"
            );
        }
    }

    function test_bidsDigests_agreeWithVectors() public view {
        string memory json = vm.readFile(string.concat(VECTORS, "matching.json"));
        uint256 folded = 0;
        for (uint256 index = 0; index < 8; ++index) {
            string memory path = string.concat("[", vm.toString(index), "]");
            uint256 word = DigestWord.seed(
                uint64(vm.parseJsonUint(json, string.concat(path, ".orderId"))),
                vm.parseJsonUint(json, string.concat(path, ".closeBlock"))
            );
            assertEq(DigestWord.digest(word), vm.parseJsonBytes32(json, string.concat(path, ".digestSeed")), "seed");
            uint256 bid = 0;
            for (; bid < 4; ++bid) {
                string memory bidPath = string.concat(path, ".bids[", vm.toString(bid), "]");
                if (!vm.keyExistsJson(json, bidPath)) break;
                uint256[] memory words = vm.parseJsonUintArray(json, bidPath);
                (word,) = DigestWord.fold(word, words[0], words[1], words[2]);
                ++folded;
            }
            if (vm.keyExistsJson(json, string.concat(path, ".bids[4]"))) continue;
            assertEq(DigestWord.digest(word), vm.parseJsonBytes32(json, string.concat(path, ".digest")), "digest");
            assertEq(DigestWord.count(word), bid, "count");
        }
        assertGt(folded, 4, "vectors with bids");
    }

    function test_words_agreeWithVectors() public view {
        string memory json = vm.readFile(string.concat(VECTORS, "words.json"));
        uint256 checked = 0;
        for (uint256 index = 0; index < 96; ++index) {
            string memory path = string.concat("[", vm.toString(index), "]");
            bytes32 kind = keccak256(bytes(vm.parseJsonString(json, string.concat(path, ".word"))));
            uint256 packed = vm.parseJsonUint(json, string.concat(path, ".packed"));
            string memory fields = string.concat(path, ".fields.");
            if (kind == keccak256("offer")) {
                uint256 word = OfferWord.pack(
                    _field(json, fields, "block"),
                    _field(json, fields, "rate"),
                    uint32(_field(json, fields, "fizz")),
                    uint32(_field(json, fields, "provider"))
                );
                assertEq(word, packed, "offer");
            } else if (kind == keccak256("orderId")) {
                uint64 word = OrderId.pack(
                    uint32(_field(json, fields, "account")),
                    uint8(_field(json, fields, "token")),
                    _field(json, fields, "nonce")
                );
                assertEq(word, packed, "order id");
            } else if (kind == keccak256("rank")) {
                uint32 fizz = uint32(_field(json, fields, "fizz"));
                assertEq(RankWord.rate(packed), _field(json, fields, "rate"), "rank's rate");
                assertEq(RankWord.gpuEntry(packed), _field(json, fields, "gpuEntry"), "rank's GPU entry");
                assertEq(
                    RankWord.supplier(packed), fizz != 0 ? fizz : _field(json, fields, "provider"), "rank's supplier"
                );
            } else if (kind == keccak256("resources")) {
                assertEq(ResourceWord.storageAsked(packed), _field(json, fields, "storage"), "storage");
                assertEq(ResourceWord.memoryAsked(packed), _field(json, fields, "memory"), "memory");
                assertEq(ResourceWord.cpuAsked(packed), _field(json, fields, "cpu"), "cpu");
                assertEq(ResourceWord.gpuCount(packed), _field(json, fields, "gpuCount"), "GPU count");
            } else if (kind == keccak256("scoreCard")) {
                uint256 word = ScoreCardWord.withSelfDescription(
                    packed,
                    uint8(_field(json, fields, "region")),
                    uint8(_field(json, fields, "zone")),
                    uint32(_field(json, fields, "tokens"))
                );
                word = ScoreCardWord.withVerification(
                    word,
                    uint8(_field(json, fields, "tier")),
                    uint16(_field(json, fields, "compliance")),
                    uint40(_field(json, fields, "attributes"))
                );
                word = ScoreCardWord.withStake(word, _field(json, fields, "stake"));
                assertEq(ScoreCardWord.withActive(word, _field(json, fields, "active") == 1), packed, "score card");
            } else if (kind == keccak256("requirements")) {
                assertEq(RequirementWord.paramsVersion(packed), _field(json, fields, "paramsVersion"), "params version");
            } else {
                continue;
            }
            ++checked;
        }
        assertGe(checked, 72, "vectors checked");
    }

    // ------------------------------------------------------------------ fuzzing

    function testFuzz_orderWord_roundTrips(uint256 seed, uint256 leaseSeed) public pure {
        uint256 rate = bound(seed & OrderWord.MAXIMUM_RATE, 1, OrderWord.MAXIMUM_RATE);
        uint256 duration = bound((seed >> 84) & OrderWord.MAXIMUM_DURATION, 1, OrderWord.MAXIMUM_DURATION);
        uint256 closeBlock = uint32(seed >> 113);
        // Orders freeze the even one of a pair.
        uint256 schedule = (seed >> 145) & 510;
        uint256 word = OrderWord.open(rate, duration, closeBlock, schedule);
        _assertOrder(
            word,
            Order(
                uint96(rate),
                0,
                uint32(duration),
                0,
                uint32(closeBlock),
                0,
                uint16(schedule),
                false,
                false,
                0,
                OrderState.Open
            )
        );

        word = OrderWord.requeue(word, uint32(leaseSeed));
        uint256 taken = bound(leaseSeed >> 32, 1, rate);
        uint256 gpuEntry = leaseSeed & 3;
        word =
            OrderWord.leased(word, taken, uint32(leaseSeed >> 64), uint32(leaseSeed >> 96), gpuEntry, leaseSeed >> 255);
        uint256 settled = bound(leaseSeed >> 128, 0, duration);
        word = OrderWord.withSettledFor(word, settled);
        Order memory expected = Order(
            uint96(taken),
            uint32(settled),
            uint32(duration),
            uint32(leaseSeed >> 64),
            uint32(leaseSeed),
            uint32(leaseSeed >> 96),
            uint16(schedule | (leaseSeed >> 255)),
            true,
            false,
            uint8(gpuEntry),
            OrderState.Leased
        );
        _assertOrder(word, expected);

        word = OrderWord.withNoted(word, true);
        expected.noted = true;
        _assertOrder(word, expected);
        word = OrderWord.withNoted(word, false);
        expected.noted = false;
        _assertOrder(word, expected);

        word = OrderWord.withDuration(OrderWord.withState(word, OrderState.ClosedUpdated), settled);
        (expected.state, expected.duration) = (OrderState.ClosedUpdated, uint32(settled));
        _assertOrder(word, expected);
    }

    function testFuzz_resourceWord_refusesUnusedBits(uint256 bit) public pure {
        bit = bound(bit, 74, 96);
        uint256 word = (1 << 22) | (1 << 42);
        assertTrue(ResourceWord.isValid(word), "smallest order");
        assertFalse(ResourceWord.isValid(word | (1 << bit)), "unused bit");
    }

    function test_requirementWord_limits() public pure {
        assertTrue(RequirementWord.isValid(1 << 9), "tier 1");
        assertTrue(RequirementWord.isValid((0xfe << 8) | 1), "fizz mode");
        assertFalse(RequirementWord.isValid(0), "no tier");
        assertFalse(RequirementWord.isValid(1 << 8), "tier 0");
        assertFalse(RequirementWord.isValid((1 << 9) | 2), "unknown mode");
        assertFalse(RequirementWord.isValid((1 << 9) | (1 << 104)), "unused bit");
        for (uint256 attribute = 0; attribute < 8; ++attribute) {
            assertFalse(RequirementWord.isValid((1 << 9) | (1 << (52 + 5 * attribute))), "guard bit");
            assertTrue(RequirementWord.isValid((1 << 9) | (15 << (48 + 5 * attribute))), "level");
        }
    }

    function testFuzz_feeSchedule_roundTrips(
        uint16 commission,
        uint16 userFee,
        uint16 providerFee,
        uint16 gatewayShare,
        uint96 matchFee
    ) public pure {
        // Any match fee, and often one that fits.
        if (commission % 4 != 0) matchFee = uint96(matchFee % 1e6 * 10 ** (userFee % 23));
        FeeSchedule memory schedule = FeeSchedule(
            uint16(bound(commission, 0, 2_500)),
            uint16(bound(userFee, 0, 2_500)),
            uint16(bound(providerFee, 0, 2_500)),
            uint16(bound(gatewayShare, 0, 5_000)),
            matchFee
        );
        (uint256 packed, bool exact) = Fees.pack(schedule, commission / 27);
        uint256 significand = matchFee;
        while (significand >= 1 << 20 && significand % 10 == 0) {
            significand /= 10;
        }
        assertEq(exact, significand < 1 << 20, "exact");
        if (!exact) return;
        assertLt(packed, 1 << Fees.PACKED_BITS, "packed width");
        assertEq(keccak256(abi.encode(Fees.unpack(packed))), keccak256(abi.encode(schedule)), "schedule");
        schedule.commission = commission / 27;
        bytes32 rebated = keccak256(abi.encode(Fees.unpack(Fees.ofClass(packed, 3))));
        assertEq(rebated, keccak256(abi.encode(schedule)), "rebated twin");
    }

    /// @dev E5: what is paid along any path is what one settlement pays. E6: rounding favours the user. E7: never above
    /// the lock.
    function testFuzz_fees_pathIndependentAndWithinLock(
        uint256 rate,
        uint256 duration,
        uint256[6] memory stops,
        uint256 ratios
    ) public pure {
        rate = bound(rate, 1, OrderWord.MAXIMUM_RATE);
        duration = bound(duration, 1, OrderWord.MAXIMUM_DURATION);
        uint256 commission = bound(ratios & 0xffff, 0, 2_500);
        uint256 userFee = bound((ratios >> 16) & 0xffff, 0, 2_500 - commission);
        uint256 providerFee = bound((ratios >> 32) & 0xffff, 0, 2_500 - commission - userFee);
        (uint256 packed,) = Fees.pack(FeeSchedule(uint16(commission), uint16(userFee), uint16(providerFee), 0, 1e18), 0);

        uint256 paid = 0;
        uint256 settled = 0;
        for (uint256 index = 0; index < stops.length; ++index) {
            uint256 until = bound(stops[index], settled, duration);
            paid += Fees.net(Fees.gross(rate, until), packed) - Fees.net(Fees.gross(rate, settled), packed);
            settled = until;
        }
        uint256 gross = Fees.gross(rate, settled);
        assertEq(paid, Fees.net(gross, packed), "path independence");
        assertLe(gross * 36_000, rate * settled, "streamed amount rounds down");
        assertLe(paid * 10_000, gross * (10_000 - commission - providerFee) + 20_000, "net is what is left");
        uint256 lock = Fees.leaseLock(rate, duration, packed);
        assertLe(gross + Fees.userFee(gross, packed), lock, "lock covers stream and user fee");
        assertEq(Fees.orderLock(rate, duration, packed), lock + 1e18, "lock of an order");
        // The lock is the exact worst case rounded up, by less than three units.
        uint256 exact = rate * duration * (10_000 + userFee);
        assertGe(lock * 36_000 * 10_000, exact, "lock rounds up");
        assertLt(lock * 36_000 * 10_000, exact + 3 * 36_000 * 10_000, "lock is tight");
    }

    function test_fees_smallestLease() public pure {
        (uint256 packed,) = Fees.pack(FeeSchedule(2_000, 200, 200, 0, 7), 0);
        // One unit per ten hours, for a second: the stream and the fee each round up to a unit.
        assertEq(Fees.leaseLock(1, 1, packed), 2, "lock of a lease");
        assertEq(Fees.orderLock(1, 1, packed), 9, "lock of an order");
        assertEq(Fees.gross(1, 1), 0, "streamed");
        assertEq(Fees.gross(1, 36_000), 1, "streamed after ten hours");
        assertEq(Fees.net(10_000, packed), 7_800, "net");
        assertEq(Fees.userFee(10_049, packed), 200, "user fee rounds down");
    }

    function testFuzz_capacity_reservesExactlyWhatFits(uint256 seed, uint256 askSeed) public pure {
        uint256 word = _capacityFrom(seed);
        uint256 asked = _resourcesFrom(askSeed);
        uint256 entry = askSeed >> 254;
        (bool fits, uint256 reserved) = Capacity.reserve(word, asked, entry);
        assertEq(fits, _fits(word, asked, entry), "fits");
        if (!fits) return;
        assertEq(Capacity.totals(reserved), Capacity.totals(word), "totals stay");
        assertEq(Capacity.isUsed(reserved), true, "used");
        assertEq(Capacity.release(reserved, asked, entry), word, "release undoes reserve");
        _assertWellFormed(reserved);

        // What is left is what fits again.
        (bool fitsAgain,) = Capacity.reserve(reserved, asked, entry);
        assertEq(fitsAgain, _fits(reserved, asked, entry), "fits again");
    }

    function test_capacity_reserveAtTheEdge() public pure {
        uint256 word =
            _both(4, 22) | (_both(64, 20) << 44) | (_both(100, 20) << 84) | ((_both(2, 12) | (7 << 24)) << 188);
        uint256 asked = 4 | (64 << 22) | (100 << 42) | (2 << 62) | (uint256(1) << (96 + 7));
        assertTrue(_reserves(word, asked, 2), "all of it");
        assertFalse(_reserves(word, asked, 1), "another GPU entry");
        assertFalse(_reserves(word, asked + 1, 2), "storage");
        assertFalse(_reserves(word, asked + (1 << 22), 2), "memory");
        assertFalse(_reserves(word, asked + (1 << 42), 2), "cpu");
        assertFalse(_reserves(word, asked + (1 << 62), 2), "GPUs");
        assertFalse(_reserves(word, (asked & ((1 << 96) - 1)) | (uint256(1) << (96 + 8)), 2), "another GPU model");
    }

    /// @dev A raise never takes anything away, a lower never touches what is used, and repeating either changes nothing.
    function testFuzz_capacity_changesKeepWhatIsUsed(uint256 seed, uint256 askSeed, uint256 wishSeed) public pure {
        uint256 word = _capacityFrom(seed);
        uint256 asked = _resourcesFrom(askSeed);
        uint256 entry = askSeed >> 254;
        (bool fits, uint256 reserved) = Capacity.reserve(word, asked, entry);
        if (fits) word = reserved;
        uint256 wish = Capacity.totals(_capacityFrom(wishSeed));

        uint256 raised = Capacity.raise(word, wish);
        uint256 lowered = Capacity.lower(raised, wish);
        _assertWellFormed(raised);
        _assertWellFormed(lowered);
        for (uint256 pair = 0; pair < 7; ++pair) {
            (uint256 free, uint256 total) = _pair(word, pair);
            (uint256 raisedFree, uint256 raisedTotal) = _pair(raised, pair);
            assertEq(raisedTotal - raisedFree, total - free, "raise keeps what is used");
            assertGe(raisedTotal, total, "raise takes nothing");
            (uint256 loweredFree, uint256 loweredTotal) = _pair(lowered, pair);
            assertEq(loweredTotal - loweredFree, total - free, "lower keeps what is used");
        }
        assertEq(Capacity.lower(lowered, wish), lowered, "lower is idempotent");
        if (!fits) {
            assertEq(Capacity.totals(lowered), wish, "nothing used: the wish is granted");
            return;
        }
        uint256 released = Capacity.lower(Capacity.release(lowered, asked, entry), wish);
        assertEq(Capacity.totals(released), wish, "the wish is granted once nothing is used");
    }

    function test_capacity_wishesThatCannotBeKept() public pure {
        assertTrue(Capacity.isValidWish(0), "nothing");
        assertTrue(Capacity.isValidWish(((3 << 12) | (159 << 24)) << 124), "highest GPU id");
        assertFalse(Capacity.isValidWish(((3 << 12) | (160 << 24)) << 124), "GPU id above 159");
        assertFalse(Capacity.isValidWish((3 << 12) << 156), "count without id");
        assertFalse(Capacity.isValidWish(uint256(1) << (220 + 24)), "id without count");
        assertFalse(Capacity.isValidWish(Capacity.PENDING), "inner bit");
        assertFalse(Capacity.isValidWish(Capacity.SUSPENDED), "inner bit");
    }

    // ------------------------------------------------------------------ private

    function restHash(OrderTerms calldata terms) external pure returns (bytes32) {
        return Terms.restHash(terms);
    }

    function _reserves(uint256 word, uint256 asked, uint256 entry) private pure returns (bool fits) {
        (fits,) = Capacity.reserve(word, asked, entry);
    }

    /// @dev Field by field.
    function _fits(uint256 word, uint256 asked, uint256 entry) private pure returns (bool) {
        (uint256 storageFree,) = _pair(word, 0);
        (uint256 memoryFree,) = _pair(word, 1);
        (uint256 cpuFree,) = _pair(word, 2);
        (uint256 gpuFree,) = _pair(word, 3 + entry);
        if (storageFree < ResourceWord.storageAsked(asked)) return false;
        if (memoryFree < ResourceWord.memoryAsked(asked) || cpuFree < ResourceWord.cpuAsked(asked)) return false;
        if (ResourceWord.gpuCount(asked) == 0) return true;
        uint256 id = uint8(word >> (148 + 32 * entry));
        return gpuFree >= ResourceWord.gpuCount(asked) && (asked >> (96 + id)) & 1 == 1;
    }

    function _assertOrder(uint256 word, Order memory expected) private pure {
        assertEq(keccak256(abi.encode(OrderWord.unpack(word))), keccak256(abi.encode(expected)), "order word");
    }

    function _assertWellFormed(uint256 word) private pure {
        for (uint256 pair = 0; pair < 7; ++pair) {
            (uint256 free, uint256 total) = _pair(word, pair);
            assertLe(free, total, "free within total");
        }
        assertTrue(Capacity.isValidWish(Capacity.totals(word)), "GPU entries are whole");
    }

    /// @dev Storage, memory, cpu, then the four GPU entries.
    function _pair(uint256 word, uint256 index) private pure returns (uint256 free, uint256 total) {
        uint256 offset = index == 0 ? 0 : index == 1 ? 44 : index == 2 ? 84 : 124 + 32 * (index - 3);
        uint256 width = index == 0 ? 22 : index < 3 ? 20 : 12;
        uint256 mask = (1 << width) - 1;
        return ((word >> offset) & mask, (word >> (offset + width)) & mask);
    }

    /// @dev Everything free, GPU entries whole: few models, so that entries meet.
    function _capacityFrom(uint256 seed) private pure returns (uint256 word) {
        word = _both(seed & 0x3fffff, 22) | (_both((seed >> 22) & 0xfffff, 20) << 44)
            | (_both((seed >> 42) & 0xfffff, 20) << 84);
        for (uint256 entry = 0; entry < 4; ++entry) {
            uint256 count = (seed >> (64 + 16 * entry)) & 0xfff;
            uint256 id = 1 + ((seed >> (140 + 8 * entry)) & 1);
            if (count != 0) word |= (_both(count, 12) | (id << 24)) << (124 + 32 * entry);
        }
        if (seed >> 255 == 1) word |= Capacity.ACTIVE;
    }

    function _both(uint256 value, uint256 width) private pure returns (uint256) {
        return value | (value << width);
    }

    function _resourcesFrom(uint256 seed) private pure returns (uint256) {
        uint256 count = (seed >> 60) & 0xff;
        uint256 word = (seed & 0xffff) | ((1 + ((seed >> 16) & 0xffff)) << 22) | ((1 + ((seed >> 32) & 0xffff)) << 42);
        return count == 0 ? word : word | (count << 62) | (6 << 96);
    }

    function _field(string memory json, string memory fields, string memory name) private pure returns (uint256) {
        return vm.parseJsonUint(json, string.concat(fields, name));
    }

    function _termsAt(string memory json, string memory path) private pure returns (OrderTerms memory terms) {
        terms.resources = vm.parseJsonUint(json, string.concat(path, ".resources"));
        terms.requirements = vm.parseJsonUint(json, string.concat(path, ".requirements"));
        terms.regions = vm.parseJsonUint(json, string.concat(path, ".regions"));
        terms.manifestHash = vm.parseJsonBytes32(json, string.concat(path, ".manifestHash"));
        terms.maximumRate = uint96(vm.parseJsonUint(json, string.concat(path, ".maximumRate")));
        terms.duration = uint32(vm.parseJsonUint(json, string.concat(path, ".duration")));
        terms.wantedSuppliers = _suppliers(vm.parseJsonUintArray(json, string.concat(path, ".wanted")));
        terms.excludedSuppliers = _suppliers(vm.parseJsonUintArray(json, string.concat(path, ".excluded")));
    }

    function _suppliers(uint256[] memory given) private pure returns (uint32[] memory list) {
        list = new uint32[](given.length);
        for (uint256 index = 0; index < given.length; ++index) {
            list[index] = uint32(given[index]);
        }
    }
}
