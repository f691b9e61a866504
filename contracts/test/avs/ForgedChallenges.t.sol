// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

import {IMatchingDisputes} from "../../src/avs/IMatchingDisputes.sol";
import {IMatchingRule} from "../../src/avs/IMatchingRule.sol";
import {OrderState, OrderTerms} from "../../src/Types.sol";
import {DisputesTest} from "./DisputesTest.sol";

/// @notice Nobody can be made to look wrong who was right: every input of a challenge is held against what the chain committed
/// to. EigenLayer's reference AVS holds the task against nothing, so that a challenger who brings another task gets honest
/// operators slashed.
contract ForgedChallengesTest is DisputesTest {
    address[4] private _owners;
    uint32[4] private _providers;
    uint64 private _orderId;
    IMatchingDisputes.Answer private _honest;

    function setUp() public override {
        super.setUp();
        for (uint256 i = 0; i < 4; i++) {
            (_owners[i], _providers[i]) = _addProvider(string.concat("provider", vm.toString(i)));
        }
        _orderId = _createOrder();
        for (uint96 i = 0; i < 4; i++) {
            _bidAndKeep(_owners[i], _orderId, 50e18 + i * 10e18);
        }
        IMatchingDisputes.Answer memory honest = _answerOne(_orderId, _right(_orderId));
        (_honest.task, _honest.matches, _honest.signatories) = (honest.task, honest.matches, honest.signatories);
    }

    function test_the_honest_answer_is_right() public {
        _refuse(
            _orderId,
            _inputs(_orderId),
            _honest,
            abi.encodeWithSelector(IMatchingDisputes.AnswerIsRight.selector, _orderId)
        );
    }

    /// @dev The attack on the reference: the same block, another task, under which the honest ranks are wrong.
    function test_forged_task_slashes_nobody() public {
        IMatchingDisputes.Answer memory forged = _honest;
        // With another hash of the close block the draws are others; with another close block the bids are.
        for (uint256 i = 0; i < 64; i++) {
            forged.task.closeBlockHash = keccak256(abi.encode(i));
            _refuseAnswer(forged);
        }
        forged = _honest;
        forged.task.paramsVersion = 2;
        _refuseAnswer(forged);
        forged = _honest;
        forged.task.chunk = 1;
        _refuseAnswer(forged);
        forged = _honest;
        forged.task.chunk = type(uint16).max;
        _refuseAnswer(forged);
        forged = _honest;
        forged.task.closeBlock -= 1;
        _refuseAnswer(forged);
        forged = _honest;
        forged.task.closeBlock += 1024;
        _refuseAnswer(forged);

        // Without a verdict, nobody can be slashed for what was really signed, or for the forgery.
        bytes32 digest = _digest(_honest);
        _refuseSlash(digest, _honest.task.closeBlock, _honest.signatories);
        _refuseSlash(_digest(forged), forged.task.closeBlock, forged.signatories);
    }

    /// @dev Another outcome than the signed one.
    function test_forged_matches_are_refused() public {
        IMatchingDisputes.Answer memory forged = _honest;
        for (uint256 i = 0; i < forged.matches.length; i++) {
            uint256 word = forged.matches[i];
            forged.matches[i] = word ^ (1 << (i + 2));
            _refuseAnswer(forged);
            forged.matches[i] = word;
        }
        forged.matches = _matches(_orderId, _terms(), new uint256[](0));
        _refuseAnswer(forged);
        forged.matches = new uint256[](0);
        _refuseAnswer(forged);
    }

    /// @dev Who signed is bound too: otherwise the absent could be blamed.
    function test_forged_signatories_are_refused() public {
        IMatchingDisputes.Answer memory forged = _honest;
        forged.signatories = _signatories(forged.task.closeBlock, ALL_BUT_FIRST);
        _refuseAnswer(forged);
    }

    function test_forged_terms_are_refused() public {
        IMatchingDisputes.Inputs memory inputs = _inputs(_orderId);
        OrderTerms memory terms = inputs.terms;
        bytes memory original = abi.encode(terms);
        for (uint256 i = 0; i < 8; i++) {
            terms = abi.decode(original, (OrderTerms));
            if (i == 0) terms.resources += 1;
            if (i == 1) terms.requirements ^= 1 << 16;
            if (i == 2) terms.regions = 1;
            if (i == 3) terms.manifestHash = bytes32(uint256(1));
            if (i == 4) terms.maximumRate += 1;
            if (i == 5) terms.duration += 1;
            if (i == 6) (terms.wantedSuppliers = new uint32[](1))[0] = _providers[1];
            if (i == 7) (terms.excludedSuppliers = new uint32[](1))[0] = _providers[0];
            inputs.terms = terms;
            _refusePartially(_orderId, inputs, _honest, IMatchingDisputes.WrongTerms.selector);
        }
    }

    function test_forged_bids_are_refused() public {
        IMatchingDisputes.Inputs memory inputs = _inputs(_orderId);
        uint256[] memory all = inputs.bids;

        // The winner's is missing; the last one's is.
        _refuseBids(_slice(all, 3, 12));
        _refuseBids(_slice(all, 0, 9));
        _refuseBids(new uint256[](0));
        // One more.
        uint256[] memory another = _slice(all, 0, 3);
        another[0] ^= 1 << 33;
        _refuseBids(_join(all, another));
        // In another order, under which the ranks would be the same.
        _refuseBids(_join(_slice(all, 3, 12), _slice(all, 0, 3)));
        // Another rate, score card, capacity.
        for (uint256 word = 0; word < 3; word++) {
            uint256[] memory changed = _slice(all, 0, 12);
            changed[word] ^= 1 << 32;
            _refuseBids(changed);
        }
        // Half a bid.
        inputs.bids = _slice(all, 0, 11);
        _refusePartially(_orderId, inputs, _honest, IMatchingRule.BidsBreakOff.selector);
    }

    function test_forged_bid_order_is_refused() public {
        IMatchingDisputes.Inputs memory inputs = _inputs(_orderId);
        bytes memory right = inputs.bidOrder;
        inputs.bidOrder = abi.encodePacked(uint16(1), uint16(0), uint16(2), uint16(3));
        _refusePartially(_orderId, inputs, _honest, IMatchingRule.BidOrderNotAscending.selector);
        // The cheapest bid twice, the next never.
        inputs.bidOrder = abi.encodePacked(uint16(0), uint16(0), uint16(2), uint16(3));
        _refusePartially(_orderId, inputs, _honest, IMatchingRule.BidOrderNotAscending.selector);
        inputs.bidOrder = abi.encodePacked(uint16(0), uint16(1), uint16(2), uint16(4));
        _refusePartially(_orderId, inputs, _honest, IMatchingRule.BidOrderNotAscending.selector);
        inputs.bidOrder = abi.encodePacked(right, uint16(4));
        _refusePartially(_orderId, inputs, _honest, IMatchingRule.BidOrderLength.selector);
        inputs.bidOrder = "";
        _refusePartially(_orderId, inputs, _honest, IMatchingRule.BidOrderLength.selector);
    }

    function test_order_that_the_answer_does_not_speak_of_is_refused() public {
        uint64 other = _createOrder();
        _bidAndKeep(_owners[0], other, 50e18);
        _refuse(other, _inputs(other), _honest, abi.encodeWithSelector(IMatchingDisputes.NotInAnswer.selector, other));
    }

    /// @dev A signed entry that the order book passed over, because the order closes in another block: it was never in the task, so
    /// there is nothing to compare the entry with.
    function test_order_of_another_task_is_refused() public {
        uint64 first = _createOrder();
        vm.roll(vm.getBlockNumber() + 1);
        uint64 second = _createOrder();
        _bidAndKeep(_owners[0], second, 50e18);
        uint256[] memory matches =
            _join(_matches(first, _terms(), new uint256[](0)), _matches(second, _terms(), _rank(_providers[3], 1)));
        IMatchingDisputes.Answer memory answer = _answer(_closeBlock(first), matches, EVERYBODY);
        assertState(second, OrderState.Open);
        _refusePartially(second, _inputs(second), answer, IMatchingDisputes.WrongBids.selector);
        // With no bid at all the round before, that there was none, has a digest of zero: not that either.
        IMatchingDisputes.Inputs memory inputs = _inputs(second);
        (inputs.bids, inputs.bidOrder) = (new uint256[](0), "");
        _refusePartially(second, inputs, answer, IMatchingDisputes.WrongBids.selector);
    }

    function test_order_that_does_not_exist_is_refused() public {
        uint64 nobodys = 1 << 32 | 7;
        IMatchingDisputes.Answer memory answer =
            _answer(_closeBlock(_createOrder()), _matches(nobodys, _terms(), _rank(_providers[0], 1)), EVERYBODY);
        _refusePartially(nobodys, _inputs(nobodys), answer, IMatchingDisputes.WrongTerms.selector);
    }

    /// @dev The ring has gone round: what was answered there is another task's.
    function test_answer_that_the_ring_has_forgotten_is_refused() public {
        vm.roll(_honest.task.closeBlock + tasks.RING_BLOCKS() - BID_WINDOW);
        uint64 later = _createOrder();
        _answerOne(later, new uint256[](0));
        _refuseAnswer(_honest);
    }

    /// @dev Whatever is ordered and bid: what the rule says can be challenged by nobody.
    function testFuzz_honest_answers_are_right(uint256 seed, uint8 count, uint96 maximum) public {
        OrderTerms memory terms = _terms();
        terms.maximumRate = uint96(bound(maximum, 1, 200e18));
        if (seed & 1 == 1) terms.requirements |= uint256(1 + seed % 3) << 16;
        if (seed & 2 == 2) terms.regions = 2 + (seed >> 8) % 6;
        if (seed & 12 == 12) (terms.excludedSuppliers = new uint32[](1))[0] = _providers[(seed >> 16) & 3];
        if (seed & 48 == 48) (terms.wantedSuppliers = new uint32[](1))[0] = _providers[(seed >> 18) & 3];
        uint64 orderId = _createOrder(terms);
        // In each block every provider may bid once.
        for (uint256 i = 0; i < count % 9; i++) {
            if (i == 4) vm.roll(vm.getBlockNumber() + 1);
            uint256 rate = bound(uint256(keccak256(abi.encode(seed, i))), 1, terms.maximumRate);
            _bidAndKeep(_owners[i & 3], orderId, uint96(rate));
        }
        for (uint256 i = 0; i < 4; i++) {
            if (seed >> (32 + i) & 1 == 0) continue;
            vm.prank(address(registry));
            book.suspend(_providers[i], true);
        }
        IMatchingDisputes.Inputs memory inputs = _inputs(orderId, terms);
        IMatchingDisputes.Answer memory answer =
            _answer(_closeBlock(orderId), _matches(orderId, terms, _right(orderId, terms)), EVERYBODY);
        bytes memory right = abi.encodeWithSelector(IMatchingDisputes.AnswerIsRight.selector, orderId);
        _refuse(orderId, inputs, answer, right);
        // Nor after what happens to a lease, or to an order that went back.
        vm.roll(vm.getBlockNumber() + 1);
        if (book.order(orderId).state == OrderState.Leased) {
            vm.prank(user);
            leases.closeLease(orderId, OrderState.ClosedByUser, _leaseResources(terms));
        }
        _refuse(orderId, inputs, answer, right);
    }

    // ----------------------------------------------------------------- private

    function _slice(uint256[] memory words, uint256 from, uint256 to) private pure returns (uint256[] memory part) {
        part = new uint256[](to - from);
        for (uint256 i = from; i < to; i++) {
            part[i - from] = words[i];
        }
    }

    /// @dev With the bids sorted as they have to be.
    function _refuseBids(uint256[] memory bids) private {
        IMatchingDisputes.Inputs memory inputs = IMatchingDisputes.Inputs(_terms(), bids, _bidOrder(bids));
        _refusePartially(_orderId, inputs, _honest, IMatchingDisputes.WrongBids.selector);
    }

    function _refuseAnswer(IMatchingDisputes.Answer memory forged) private {
        _refusePartially(_orderId, _inputs(_orderId), forged, IMatchingDisputes.WrongAnswer.selector);
    }

    function _refuseSlash(bytes32 digest, uint32 closeBlock, bytes32 signatories) private {
        address[] memory honest = _one(operators[0].account);
        vm.expectPartialRevert(IMatchingDisputes.UnknownVerdict.selector);
        matchingDisputes.slash(digest, closeBlock, signatories, honest, abi.encode(new bytes32[](0)));
    }

    function _refuse(
        uint64 orderId,
        IMatchingDisputes.Inputs memory inputs,
        IMatchingDisputes.Answer memory answer,
        bytes memory refusal
    ) private {
        vm.prank(challenger);
        vm.expectRevert(refusal);
        matchingDisputes.challenge(orderId, inputs, answer);
    }

    function _refusePartially(
        uint64 orderId,
        IMatchingDisputes.Inputs memory inputs,
        IMatchingDisputes.Answer memory answer,
        bytes4 refusal
    ) private {
        vm.prank(challenger);
        vm.expectPartialRevert(refusal);
        matchingDisputes.challenge(orderId, inputs, answer);
    }
}
