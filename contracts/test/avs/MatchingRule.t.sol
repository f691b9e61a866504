// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

import {IMatchingRule} from "../../src/avs/IMatchingRule.sol";
import {MatchingRule} from "../../src/avs/MatchingRule.sol";
import {DigestWord, OfferWord} from "../../src/market/Resources.sol";
import {MatchingParameters, OrderTerms} from "../../src/Types.sol";
import {Test} from "../Test.sol";

/// @notice The rule against the vectors of the independent implementation, its limits in gas, and what it refuses.
contract MatchingRuleTest is Test {
    string private constant VECTORS = "../avs/vectors/matching.json";
    uint256 private constant ANY_REGION = type(uint256).max;
    uint64 private constant ORDER = (7 << 32) | (1 << 24) | 3;
    uint32 private constant CLOSE_BLOCK = 102;

    MatchingRule private rule;

    /// What one call of the rule takes.
    struct Question {
        uint64 orderId;
        uint32 closeBlock;
        bytes32 closeBlockHash;
        OrderTerms terms;
        MatchingParameters parameters;
        uint256[] bids;
    }

    function setUp() public {
        rule = new MatchingRule();
    }

    // ---------------------------------------------------------------- vectors

    function test_everyVector_hasTheRanksOfTheReference() public {
        uint256 checked = 0;
        uint256 ranked = 0;
        assertEq(vm.readLine(VECTORS), "[", "a list");
        for (string memory json = vm.readLine(VECTORS); bytes(json).length > 1; json = vm.readLine(VECTORS)) {
            _withoutComma(json);
            string memory name = vm.parseJsonString(json, ".name");
            Question memory question = _questionOf(json);
            vm.chainId(vm.parseJsonUint(json, ".chainId"));
            (uint256 digestWord, uint256[] memory ranks) = _rank(question, _sorted(question.bids));

            uint256 count = question.bids.length / 3;
            uint256 expectedDigest = count == 0 ? 0 : uint256(vm.parseJsonBytes32(json, ".digest")) | count;
            assertEq(digestWord, expectedDigest, string.concat("digest: ", name));
            // Behind header, resources and rest hash.
            uint256[] memory matches = vm.parseJsonUintArray(json, ".matches");
            assertEq(ranks.length, uint8(matches[0]), string.concat("number of ranks: ", name));
            for (uint256 index = 0; index < ranks.length; ++index) {
                assertEq(ranks[index], matches[3 + index], string.concat("rank: ", name));
            }
            ranked += ranks.length;
            ++checked;
        }
        assertGt(checked, 250, "vectors");
        assertGt(ranked, 400, "ranks in them");
    }

    function _questionOf(string memory json) private view returns (Question memory question) {
        question.orderId = uint64(vm.parseJsonUint(json, ".orderId"));
        question.closeBlock = uint32(vm.parseJsonUint(json, ".closeBlock"));
        question.closeBlockHash = vm.parseJsonBytes32(json, ".closeBlockHash");
        question.terms = OrderTerms({
            resources: vm.parseJsonUint(json, ".terms.resources"),
            requirements: vm.parseJsonUint(json, ".terms.requirements"),
            regions: vm.parseJsonUint(json, ".terms.regions"),
            manifestHash: vm.parseJsonBytes32(json, ".terms.manifestHash"),
            maximumRate: uint96(vm.parseJsonUint(json, ".terms.maximumRate")),
            duration: uint32(vm.parseJsonUint(json, ".terms.duration")),
            wantedSuppliers: _narrow(vm.parseJsonUintArray(json, ".terms.wanted")),
            excludedSuppliers: _narrow(vm.parseJsonUintArray(json, ".terms.excluded"))
        });
        uint32[] memory weights = _narrow(vm.parseJsonUintArray(json, ".parameters.weights"));
        for (uint256 index = 0; index < 8; ++index) {
            question.parameters.weights[index] = weights[index];
        }
        question.parameters.stakeCap = uint48(vm.parseJsonUint(json, ".parameters.stakeCap"));
        question.parameters.rankLimit = uint8(vm.parseJsonUint(json, ".parameters.rankLimit"));
        // Every verdict but those of malformed terms stands for one bid; a bid's words are an array of their own.
        uint256 count = 0;
        while (vm.keyExistsJson(json, string.concat(".bids[", vm.toString(count), "]"))) ++count;
        question.bids = new uint256[](3 * count);
        for (uint256 bid = 0; bid < count; ++bid) {
            uint256[] memory words = vm.parseJsonUintArray(json, string.concat(".bids[", vm.toString(bid), "]"));
            for (uint256 word = 0; word < 3; ++word) {
                question.bids[3 * bid + word] = words[word];
            }
        }
    }

    /// @dev Lines end with the list's comma.
    function _withoutComma(string memory line) private pure {
        uint256 length = bytes(line).length;
        if (bytes(line)[length - 1] == ",") {
            assembly ("memory-safe") {
                mstore(line, sub(length, 1))
            }
        }
    }

    function _narrow(uint256[] memory values) private pure returns (uint32[] memory narrow) {
        narrow = new uint32[](values.length);
        for (uint256 index = 0; index < values.length; ++index) {
            narrow[index] = uint32(values[index]);
        }
    }

    // ----------------------------------------------------------------- bounds

    function test_noBids_haveNoDigestAndNoRanks() public view {
        (uint256 digestWord, uint256[] memory ranks) = _rank(_typical(0), "");
        assertEq(digestWord, 0, "digest word");
        assertEq(ranks.length, 0, "ranks");
    }

    function test_digestWord_isThatOfTheOrderBook() public view {
        Question memory question = _typical(5);
        uint256 expected = DigestWord.seed(question.orderId, question.closeBlock);
        for (uint256 bid = 0; bid < 5; ++bid) {
            (expected,) = DigestWord.fold(
                expected, question.bids[3 * bid], question.bids[3 * bid + 1], question.bids[3 * bid + 2]
            );
        }
        (uint256 digestWord,) = _rank(question, _sorted(question.bids));
        assertEq(digestWord, expected, "digest word");
        assertEq(DigestWord.count(digestWord), 5, "count");
    }

    function test_drawsDependOnTheChain() public {
        Question memory question = _typical(40);
        question.parameters.weights = [uint32(0), 0, 0, 0, 0, 0, 0, 1_000_000];
        (, uint256[] memory here) = _rank(question, _sorted(question.bids));
        vm.chainId(block.chainid + 1);
        (, uint256[] memory there) = _rank(question, _sorted(question.bids));
        assertNotEq(keccak256(abi.encode(here)), keccak256(abi.encode(there)), "ranks");
    }

    /// @notice Whatever the words of terms and bids, the rule answers.
    function test_anyWords_haveAnAnswer(uint256[30] memory words, OrderTerms memory terms, uint64 orderId) public view {
        Question memory question = _typical(10);
        question.orderId = orderId;
        question.bids = new uint256[](30);
        for (uint256 index = 0; index < 30; ++index) {
            question.bids[index] = words[index];
        }
        _rank(question, _sorted(question.bids));
        question.terms = terms;
        (, uint256[] memory ranks) = _rank(question, _sorted(question.bids));
        assertLe(ranks.length, question.parameters.rankLimit, "ranks");
    }

    /// @notice Every field at its maximum, weights and K of a version that no task manager takes: no sum wraps into another rank.
    function test_maximumValues_doNotOverflow() public view {
        Question memory question = _worst(64);
        for (uint256 index = 0; index < 8; ++index) {
            question.parameters.weights[index] = type(uint32).max;
        }
        question.parameters.rankLimit = type(uint8).max;
        question.parameters.stakeCap = type(uint48).max;
        question.terms.maximumRate = type(uint96).max >> 12;
        question.terms.wantedSuppliers = new uint32[](0);
        question.terms.excludedSuppliers = new uint32[](0);
        for (uint256 bid = 0; bid < 64; ++bid) {
            // Rates at both ends; ids as they are.
            uint256 rate = bid % 2 == 0 ? (1 << 84) - 1 - bid : 1 + bid;
            question.bids[3 * bid] = (question.bids[3 * bid] & ~(((uint256(1) << 84) - 1) << 32)) | (rate << 32);
        }
        (, uint256[] memory ranks) = _rank(question, _sorted(question.bids));
        assertEq(ranks.length, 64, "all are ranked");
        for (uint256 index = 0; index < 64; ++index) {
            uint256 rate = (ranks[index] >> 2) & ((1 << 84) - 1);
            assertEq(rate <= 64, index < 32, "the cheap ones are first");
        }
        // Bits of no field, in all three words.
        for (uint256 word = 0; word < question.bids.length; ++word) {
            question.bids[word] = type(uint256).max - word;
        }
        (, ranks) = _rank(question, _sorted(question.bids));
        assertEq(ranks.length, 0, "malformed bids");
    }

    function test_noRankIsWanted_noneIsGiven() public view {
        Question memory question = _typical(3);
        question.parameters.rankLimit = 0;
        (, uint256[] memory ranks) = _rank(question, _sorted(question.bids));
        assertEq(ranks.length, 0, "ranks");
    }

    // ---------------------------------------------------------------- refused

    function test_bidsThatBreakOff_areRefused() public {
        Question memory question = _typical(2);
        bytes memory bidOrder = _sorted(question.bids);
        question.bids = _cut(question.bids, 5);
        vm.expectRevert(abi.encodeWithSelector(IMatchingRule.BidsBreakOff.selector, 5));
        _rank(question, bidOrder);
    }

    function test_bidOrderOfAnotherLength_isRefused() public {
        Question memory question = _typical(3);
        bytes memory bidOrder = _sorted(question.bids);
        for (uint256 length = 0; length < 9; ++length) {
            if (length == 6) continue;
            bytes memory other = new bytes(length);
            for (uint256 index = 0; index < length && index < 6; ++index) {
                other[index] = bidOrder[index];
            }
            vm.expectRevert(abi.encodeWithSelector(IMatchingRule.BidOrderLength.selector, length, 6));
            _rank(question, other);
        }
        vm.expectRevert(abi.encodeWithSelector(IMatchingRule.BidOrderLength.selector, 2, 0));
        _rank(_typical(0), hex"0000");
    }

    function test_bidOrderThatRepeats_isRefused() public {
        Question memory question = _typical(4);
        bytes memory bidOrder = _sorted(question.bids);
        (bidOrder[4], bidOrder[5]) = (bidOrder[2], bidOrder[3]);
        vm.expectRevert(abi.encodeWithSelector(IMatchingRule.BidOrderNotAscending.selector, 2));
        _rank(question, bidOrder);
    }

    function test_bidOrderThatIsNotSorted_isRefused() public {
        Question memory question = _typical(4);
        bytes memory bidOrder = _sorted(question.bids);
        (bidOrder[1], bidOrder[3]) = (bidOrder[3], bidOrder[1]);
        vm.expectRevert(abi.encodeWithSelector(IMatchingRule.BidOrderNotAscending.selector, 1));
        _rank(question, bidOrder);
    }

    /// @notice The earlier bid of a pair first would make it count.
    function test_bidOrderWithAnEarlierBidFirst_isRefused() public {
        Question memory question = _typical(2);
        question.bids[3] = question.bids[0];
        assertEq(_sorted(question.bids), hex"00010000", "the last one first");
        vm.expectRevert(abi.encodeWithSelector(IMatchingRule.BidOrderNotAscending.selector, 1));
        _rank(question, hex"00000001");
    }

    function test_bidOrderBeyondTheBids_isRefused() public {
        Question memory question = _typical(2);
        // Behind the bids lies calldata that the caller chose.
        for (uint256 place = 0; place < 2; ++place) {
            bytes memory bidOrder = _sorted(question.bids);
            (bidOrder[2 * place], bidOrder[2 * place + 1]) = (bytes1(0), bytes1(0x02));
            vm.expectPartialRevert(IMatchingRule.BidOrderNotAscending.selector);
            _rank(question, bidOrder);
            (bidOrder[2 * place], bidOrder[2 * place + 1]) = (bytes1(0xff), bytes1(0xff));
            vm.expectPartialRevert(IMatchingRule.BidOrderNotAscending.selector);
            _rank(question, bidOrder);
        }
    }

    /// @notice Of all orders of the indices, one is taken.
    function test_onlyOnePermutation_isTaken(uint256 seed, uint256 left, uint256 right) public {
        Question memory question = _typical(12);
        for (uint256 bid = 0; bid < 12; ++bid) {
            uint256 provider = uint256(keccak256(abi.encode(seed, bid))) % 6;
            question.bids[3 * bid] = OfferWord.pack(100, 1000 + bid, 0, uint32(provider));
        }
        bytes memory bidOrder = _sorted(question.bids);
        _rank(question, bidOrder);
        (left, right) = (2 * (left % 12) + 1, 2 * (right % 12) + 1);
        if (left == right) return;
        (bidOrder[left], bidOrder[right]) = (bidOrder[right], bidOrder[left]);
        vm.expectPartialRevert(IMatchingRule.BidOrderNotAscending.selector);
        _rank(question, bidOrder);
    }

    // -------------------------------------------------------------------- gas

    function test_gas_typical() public {
        _measure("typical.1", _typical(1), 50_000);
        _measure("typical.16", _typical(16), 120_000);
        _measure("typical.64", _typical(64), 330_000);
        _measure("typical.512", _typical(512), 2_300_000);
    }

    function test_gas_worst() public {
        _measure("worst.1", _worst(1), 100_000);
        _measure("worst.16", _worst(16), 220_000);
        _measure("worst.64", _worst(64), 620_000);
        _measure("worst.512", _worst(512), 4_400_000);
    }

    function test_code_fitsAContract() public view {
        assertLt(address(rule).code.length, 24_576, "bytes of code");
    }

    /// @dev A whole transaction: base cost and calldata too.
    function _measure(string memory name, Question memory question, uint256 limit) private {
        uint256 gasUsed = transact(address(this), address(rule), _call(question, _sorted(question.bids)));
        vm.snapshotValue("MatchingRule", name, gasUsed);
        assertLe(gasUsed, limit, name);
    }

    /// @dev Providers with a history, different in price; most fit.
    function _typical(uint256 count) private pure returns (Question memory question) {
        question.orderId = ORDER;
        question.closeBlock = CLOSE_BLOCK;
        question.closeBlockHash = keccak256("close block");
        question.parameters = MatchingParameters({
            weights: [uint32(400_000), 100_000, 100_000, 100_000, 100_000, 100_000, 50_000, 50_000],
            stakeCap: 1_000_000,
            rankLimit: 5,
            chunkSize: 64,
            rule: address(0)
        });
        question.terms = OrderTerms({
            resources: 40 | (64 << 22) | (200 << 42),
            requirements: (0xfe << 8) | (3 << 16) | (1 << 88),
            regions: ANY_REGION,
            manifestHash: keccak256("manifest"),
            maximumRate: 10_000_000,
            duration: 3600,
            wantedSuppliers: new uint32[](0),
            excludedSuppliers: new uint32[](0)
        });
        question.bids = new uint256[](3 * count);
        for (uint256 bid = 0; bid < count; ++bid) {
            uint256 random = uint256(keccak256(abi.encode("typical", bid)));
            question.bids[3 * bid] = OfferWord.pack(100, 1 + random % 10_100_000, 0, uint32(1 + (bid * 769) % 1021));
            question.bids[3 * bid + 1] = (random % 2_000_000) | ((random >> 16) % 3 << 48) | (uint256(17) << 64)
                | (uint256(140) << 96) | ((1 + (random >> 24) % 5) << 136) | (uint256(2) << 144)
                | ((1 + (random >> 32) % 4) << 152) | (uint256(3) << 195) | (uint256(1) << 243);
            question.bids[3 * bid + 2] = 800 | (1000 << 22) | ((random >> 64) % 4000 << 44) | (4000 << 64)
                | ((random >> 80) % 6400 << 84) | (6400 << 104) | (uint256(1) << 252);
        }
    }

    /// @dev As dear as bids can be made: every one is valid and better than all before it, every list is searched to its
    /// end, the last of the GPU entries serves, no byte of calldata is zero that need not be.
    function _worst(uint256 count) private pure returns (Question memory question) {
        question = _typical(count);
        question.orderId = type(uint64).max ^ (0xff << 24) ^ (31 << 24);
        question.parameters.rankLimit = 8;
        // Luck keeps no bid from being better than the one before.
        question.parameters.weights = [uint32(650_000), 50_000, 50_000, 50_000, 50_000, 50_000, 100_000, 0];
        question.terms.resources = uint256(3) | (5 << 22) | (7 << 42) | (2 << 62) | (uint256(0xfffffffe) << 96);
        question.terms.requirements =
            1 | (0xfe << 8) | (0xf3 << 16) | (0xf2 << 24) | (0xffff << 32) | (uint256(0x0842108421) << 48) | (1 << 88);
        question.terms.regions = ANY_REGION ^ 3;
        question.terms.maximumRate = uint96((1 << 84) - 1);
        // Providers and fizz nodes share the last byte with all those listed: no bitmap spares a search.
        uint32[] memory wanted = new uint32[](64);
        uint32[] memory excluded = new uint32[](64);
        for (uint256 index = 0; index < 64; ++index) {
            wanted[index] = uint32(0x77000011 | (index << 8));
            excluded[index] = uint32(0x77010011 | (index << 8));
        }
        (question.terms.wantedSuppliers, question.terms.excludedSuppliers) = (wanted, excluded);
        for (uint256 bid = 0; bid < count; ++bid) {
            uint32 provider = uint32(0x78111111 + 0x100 * (bid / 64));
            uint256 rate = (uint256(0xfff) << 72) - (bid << 73) - 0x111111;
            question.bids[3 * bid] = OfferWord.pack(0x11111111, rate, wanted[bid % 64], provider);
            question.bids[3 * bid + 1] = uint256(0x111111111111) | (0x1111 << 48) | (0x11111111 << 64)
                | (0x1111111111 << 96) | (uint256(0xf3) << 136) | (uint256(0xf1) << 144) | (uint256(3) << 152)
                | (uint256(0x7bdef7bdef) << 155) | (uint256(0xffffffff) << 195) | (uint256(0xffff) << 227)
                | (uint256(1) << 243);
            uint256 busy = 0x01001001; // Acceptable, but one GPU is too few.
            uint256 serving = 0x1f111111;
            question.bids[3 * bid + 2] = uint256(0x111111) | (0x311111 << 22) | (0x11111 << 44) | (0x31111 << 64)
                | (0x11111 << 84) | (0x31111 << 104) | (busy << 124) | (busy << 156) | (busy << 188) | (serving << 220)
                | (uint256(1) << 252);
        }
    }

    // ---------------------------------------------------------------- calling

    function _rank(Question memory question, bytes memory bidOrder)
        private
        view
        returns (uint256 digestWord, uint256[] memory ranks)
    {
        return rule.rank(
            question.orderId,
            question.closeBlock,
            question.closeBlockHash,
            question.terms,
            question.parameters,
            question.bids,
            bidOrder
        );
    }

    function _call(Question memory question, bytes memory bidOrder) private pure returns (bytes memory) {
        return abi.encodeCall(
            IMatchingRule.rank,
            (
                question.orderId,
                question.closeBlock,
                question.closeBlockHash,
                question.terms,
                question.parameters,
                question.bids,
                bidOrder
            )
        );
    }

    /// @dev Indices of the bids so that (provider, fizz, 0xffff - index) ascends.
    function _sorted(uint256[] memory bids) private pure returns (bytes memory bidOrder) {
        uint256 count = bids.length / 3;
        uint256[] memory keys = new uint256[](count);
        for (uint256 index = 0; index < count; ++index) {
            uint256 key = (((bids[3 * index] >> 116) & type(uint64).max) << 16) | (0xffff - index);
            uint256 place = index;
            for (; place > 0 && keys[place - 1] > key; --place) {
                keys[place] = keys[place - 1];
            }
            keys[place] = key;
        }
        for (uint256 place = 0; place < count; ++place) {
            bidOrder = bytes.concat(bidOrder, bytes2(0xffff - uint16(keys[place])));
        }
    }

    function _cut(uint256[] memory words, uint256 length) private pure returns (uint256[] memory) {
        assembly ("memory-safe") {
            mstore(words, length)
        }
        return words;
    }
}
