// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

import {IAccessManaged} from "@openzeppelin/contracts/access/manager/IAccessManaged.sol";

import {IMatchingDisputes} from "../../src/avs/IMatchingDisputes.sol";
import {ISingleMatchmaker} from "../../src/avs/ISingleMatchmaker.sol";
import {ISlasher} from "../../src/avs/ISlasher.sol";
import {SingleMatchmaker} from "../../src/avs/SingleMatchmaker.sol";
import {OrderState, Task} from "../../src/Types.sol";
import {DisputesTest} from "./DisputesTest.sol";

/// @notice One key in place of a quorum: the same answers, the same disputes, a bond of SPON that caps what can be disputed and
/// is slashed. The quorum decides before the switch and after the switch back.
contract SingleMatchmakerTest is DisputesTest {
    uint256 private constant KEY = uint256(keccak256("matchmaker"));
    /// @dev Units of the plain token that a whole SPON covers.
    uint256 private constant UNITS_PER_SPON = 2e18;
    uint256 private constant SLASH_AMOUNT = 50e18;
    uint256 private constant BOND = 1_000e18;
    /// @dev What an order of the usual terms holds: an hour at 50 tokens an hour in 36 000ths, two percent, the match fee.
    uint256 private constant LOCK = 5e18 + 0.1e18 + MATCH_FEE;

    SingleMatchmaker private _single;
    address private _key = vm.addr(KEY);
    address private _owner;
    uint32 private _cheap;
    uint32 private _dear;

    function setUp() public override {
        super.setUp();
        (_owner, _cheap) = _addProvider("cheap");
        (, _dear) = _addProvider("dear");
        _single = new SingleMatchmaker(address(accessManager), matchingDisputes, spon, _key, SLASH_AMOUNT);
        _single.setCoverage(PLAIN_TOKEN, UNITS_PER_SPON);
        matchingDisputes.setSlasher(address(_single), address(_single));
        _depositBond(BOND);
        // In force at once: only the switching test is about switching.
        tasks.setQuorumVerifier(address(_single), uint32(vm.getBlockNumber() + 1_000));
        vm.roll(vm.getBlockNumber() + 1_000);
        assertEq(tasks.quorumVerifier(), address(_single), "in force");
    }

    // --------------------------------------------------------------- signature

    function test_answers_are_the_matchmakers() public {
        uint64 orderId = _order();
        IMatchingDisputes.Answer memory answer = _answerSingle(orderId, _right(orderId));
        assertState(orderId, OrderState.Leased);
        assertEq(tasks.commitmentOf(answer.task.closeBlock, 0), uint224(uint256(_verdict(answer)) >> 32), "commitment");
        assertTrue(_single.capped(), "capped");
        assertEq(_single.exposure(), LOCK / 2, "half a SPON for a token");
        _expectRight(orderId, answer);
    }

    function test_other_signatures_are_refused() public {
        bytes32 message = keccak256("message");
        uint32 past = uint32(vm.getBlockNumber() - 1);
        bytes memory refusal = abi.encodeWithSelector(ISingleMatchmaker.InvalidSignature.selector, message);
        (uint8 v, bytes32 r, bytes32 s) = vm.sign(KEY, message);
        _single.verify(message, past, abi.encodePacked(r, s, v));

        // Another key, another message, the mirrored signature, a short one, a compact one, nothing.
        vm.expectRevert(refusal);
        _single.verify(message, past, _signed(uint256(keccak256("other")), message));
        vm.expectRevert(refusal);
        _single.verify(message, past, _signed(KEY, keccak256("other")));
        bytes32 mirrored = bytes32(0xfffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141 - uint256(s));
        vm.expectRevert(refusal);
        _single.verify(message, past, abi.encodePacked(r, mirrored, v == 27 ? 28 : 27));
        vm.expectRevert(refusal);
        _single.verify(message, past, abi.encodePacked(r, s));
        vm.expectRevert(refusal);
        _single.verify(message, past, abi.encodePacked(r, bytes32(uint256(s) | (uint256(v - 27) << 255))));
        vm.expectRevert(refusal);
        _single.verify(message, past, "");
        vm.expectRevert(refusal);
        _single.verify(message, past, new bytes(65));
    }

    function test_reference_block_is_past() public {
        bytes32 message = keccak256("message");
        bytes memory proof = _signed(KEY, message);
        uint32 now_ = uint32(vm.getBlockNumber());
        vm.expectRevert(abi.encodeWithSelector(ISingleMatchmaker.ReferenceBlockNotPast.selector, now_, now_));
        _single.verify(message, now_, proof);
        assertEq(_single.verify(message, now_ - 1, proof), _signatoriesOf(now_ - 1), "signatories");
    }

    // --------------------------------------------------------------------- cap

    function test_cap_is_reached_and_refills_after_the_window() public {
        // Three leases fit, a fourth does not.
        _single.setSlashAmount(1);
        _leave(BOND - 3 * LOCK / 2);
        _windowStart();
        for (uint256 i = 0; i < 3; i++) {
            uint64 orderId = _order();
            _answerSingle(orderId, _right(orderId));
        }
        assertEq(_single.exposure(), 3 * LOCK / 2, "all of it");
        uint256 answered = vm.getBlockNumber();
        uint64 fourth = _order();
        _refuseAnswer(fourth, abi.encodeWithSelector(ISingleMatchmaker.BondTooSmall.selector, 2 * LOCK, 3 * LOCK / 2));
        assertState(fourth, OrderState.Open);

        // Counted as long as they can be disputed, and at most two windows.
        vm.roll(answered + CHALLENGE_BLOCKS);
        assertEq(_single.exposure(), 3 * LOCK / 2, "can still be disputed");
        vm.roll(answered + 2 * CHALLENGE_BLOCKS);
        assertEq(_single.exposure(), 0, "cannot any more");
        uint64 fifth = _order();
        _answerSingle(fifth, _right(fifth));
        assertState(fifth, OrderState.Leased);
        assertEq(_single.exposure(), LOCK / 2, "one");
    }

    function test_more_bond_covers_more() public {
        _single.setSlashAmount(1);
        _leave(BOND - LOCK / 2 + 1);
        uint64 orderId = _order();
        _refuseAnswer(orderId, abi.encodeWithSelector(ISingleMatchmaker.BondTooSmall.selector, LOCK / 2, LOCK / 2 - 1));
        _depositBond(1);
        _answerSingle(orderId, _right(orderId));
        assertState(orderId, OrderState.Leased);
    }

    /// @dev An answer that opens no lease can be wrong too: what a verdict costs stands behind every one.
    function test_answers_need_the_bond_that_a_verdict_costs() public {
        _leave(BOND - SLASH_AMOUNT + 1);
        uint64 orderId = _order();
        Task memory task = _task(_closeBlock(orderId));
        uint256[] memory expires = _matches(orderId, _terms(), new uint256[](0));
        bytes memory proof = _prepare(task, expires);
        vm.expectRevert(abi.encodeWithSelector(ISingleMatchmaker.BondTooSmall.selector, SLASH_AMOUNT, SLASH_AMOUNT - 1));
        tasks.respond(task, expires, proof);
        _depositBond(1);
        IMatchingDisputes.Answer memory answer = _answerSingle(task, expires);
        _challenge(orderId, answer);
        _slash(answer, _one(_key));
        // What leaves goes first.
        _assertBond(SLASH_AMOUNT, BOND - 2 * SLASH_AMOUNT + 1);
    }

    function test_tokens_without_coverage_are_refused() public {
        _single.setCoverage(PLAIN_TOKEN, 0);
        uint64 orderId = _order();
        _refuseAnswer(orderId, abi.encodeWithSelector(ISingleMatchmaker.NotCovered.selector, PLAIN_TOKEN));
        // An answer that opens no lease needs no coverage.
        _answerSingle(orderId, new uint256[](0));
        assertState(orderId, OrderState.Expired);
    }

    function test_exposure_rounds_up() public {
        _single.setCoverage(7, 3e18);
        vm.prank(address(tasks));
        _single.hold(_list(uint256(1) << 8 | 7));
        assertEq(_single.exposure(), 1, "a third");
    }

    /// @dev However long nobody answers, and wherever in its period an answer falls.
    function testFuzz_exposure_counts_what_can_be_disputed(uint16[8] calldata gaps) public {
        _depositBond(1_000_000e18);
        uint256[8] memory answeredAt;
        for (uint256 i = 0; i < 8; i++) {
            vm.roll(vm.getBlockNumber() + gaps[i] % 150);
            answeredAt[i] = vm.getBlockNumber();
            vm.prank(address(tasks));
            _single.hold(_list((UNITS_PER_SPON << i) << 8 | PLAIN_TOKEN));
            uint256 disputable = 0;
            uint256 most = 0;
            for (uint256 j = 0; j <= i; j++) {
                if (answeredAt[j] + CHALLENGE_BLOCKS >= answeredAt[i]) disputable += 1e18 << j;
                if (answeredAt[j] + 2 * CHALLENGE_BLOCKS > answeredAt[i]) most += 1e18 << j;
            }
            assertGe(_single.exposure(), disputable, "all that can be disputed");
            assertLe(_single.exposure(), most, "nothing older than two windows");
        }
    }

    function test_only_the_task_manager_reports_leases() public {
        vm.prank(anybody);
        vm.expectRevert(abi.encodeWithSelector(ISingleMatchmaker.NotTaskManager.selector, anybody));
        _single.hold(new uint256[](0));
    }

    // ---------------------------------------------------------------- slashing

    function test_wrong_answer_is_undone_and_the_bond_burns() public {
        uint64 orderId = _order();
        IMatchingDisputes.Answer memory answer = _answerSingle(orderId, _list(_rank(_dear, 90e18)));
        _challenge(orderId, answer);
        assertState(orderId, OrderState.ClosedUndone);

        uint256 supply = spon.totalSupply();
        vm.expectEmit(address(_single));
        emit ISlasher.OperatorSlashed(_verdict(answer), _key, 0, SLASH_AMOUNT);
        _slash(answer, _one(_key));
        assertEq(supply - spon.totalSupply(), SLASH_AMOUNT, "burned");
        _assertBond(BOND - SLASH_AMOUNT, 0);
        assertEq(spon.balanceOf(address(_single)), BOND - SLASH_AMOUNT, "held");

        _refuseSlash(
            answer,
            _one(_key),
            answer.signatories,
            abi.encodeWithSelector(IMatchingDisputes.AlreadySlashed.selector, _verdict(answer), _key)
        );
        _refuseSlash(
            answer, _one(anybody), answer.signatories, abi.encodeWithSelector(ISlasher.NotSignatory.selector, anybody)
        );
    }

    function test_bond_that_leaves_is_slashed_first_and_then_the_rest() public {
        uint64 orderId = _order();
        IMatchingDisputes.Answer memory answer = _answerSingle(orderId, _list(_rank(_dear, 90e18)));
        _challenge(orderId, answer);
        _leave(BOND - 20e18);
        _single.setSlashAmount(BOND - 5e18);
        uint256 snapshot = vm.snapshotState();
        _slash(answer, _one(_key));
        _assertBond(5e18, 0);

        // Never more than is there.
        vm.revertToState(snapshot);
        _single.setSlashAmount(BOND + 1);
        uint256 supply = spon.totalSupply();
        _slash(answer, _one(_key));
        _assertBond(0, 0);
        assertEq(supply - spon.totalSupply(), BOND, "all of it");
        _depositBond(1);
    }

    function test_empty_bond_cannot_be_slashed() public {
        uint64[2] memory orders = [_order(), _order()];
        IMatchingDisputes.Answer memory first = _answerSingle(orders[0], _list(_rank(_dear, 90e18)));
        Task memory task = _task(_closeBlock(orders[1]));
        task.chunk = 1;
        IMatchingDisputes.Answer memory second = _answerSingle(task, _matches(orders[1], _terms(), _rank(_dear, 90e18)));
        _challenge(orders[0], first);
        _challenge(orders[1], second);
        _single.setSlashAmount(BOND);
        _slash(first, _one(_key));
        _refuseSlash(second, _one(_key), second.signatories, abi.encodeWithSelector(ISlasher.NothingCut.selector, _key));
        // What comes later can be.
        _depositBond(3);
        _slash(second, _one(_key));
        _assertBond(0, 0);
    }

    function test_only_disputes_slash() public {
        bytes memory refusal = abi.encodeWithSelector(ISlasher.NotDisputes.selector, anybody);
        bytes32[2] memory digests;
        vm.startPrank(anybody);
        vm.expectRevert(refusal);
        _single.slash(0, 1, 0, _one(_key), "");
        vm.expectRevert(refusal);
        _single.slashEquivocator(0, 1, digests, _key, "");
        vm.stopPrank();
        vm.prank(disputes);
        vm.expectRevert(
            abi.encodeWithSelector(ISlasher.WrongSignatories.selector, _signatoriesOf(7), bytes32(uint256(1)))
        );
        _single.slash(0, 7, bytes32(uint256(1)), _one(_key), "");
    }

    function test_equivocation() public {
        uint64 orderId = _order();
        uint32 closeBlock = _closeBlock(orderId);
        IMatchingDisputes.Answer memory first =
            IMatchingDisputes.Answer(_task(closeBlock), _matches(orderId, _terms(), _rank(1, 50e18)), 0);
        IMatchingDisputes.Answer memory second =
            IMatchingDisputes.Answer(_task(closeBlock), _matches(orderId, _terms(), _rank(2, 50e18)), 0);
        vm.roll(closeBlock + 1);
        bytes memory one = _signed(KEY, _digest(first));
        bytes memory other = _signed(KEY, _digest(second));
        bytes memory strangers = _signed(uint256(keccak256("stranger")), _digest(second));

        vm.expectRevert(abi.encodeWithSelector(ISlasher.NotSignedBy.selector, _key, _digest(second)));
        matchingDisputes.reportEquivocation(orderId, first, second, _key, abi.encode(one, one));
        vm.expectRevert(abi.encodeWithSelector(ISlasher.NotSignedBy.selector, _key, _digest(first)));
        matchingDisputes.reportEquivocation(orderId, first, second, _key, abi.encode(other, other));
        vm.expectRevert(abi.encodeWithSelector(ISlasher.NotSignedBy.selector, _key, _digest(second)));
        matchingDisputes.reportEquivocation(orderId, first, second, _key, abi.encode(one, strangers));
        vm.expectRevert(abi.encodeWithSelector(ISlasher.NotSignatory.selector, anybody));
        matchingDisputes.reportEquivocation(orderId, first, second, anybody, abi.encode(one, other));
        vm.expectRevert(abi.encodeWithSelector(IMatchingDisputes.NoContradiction.selector, orderId));
        matchingDisputes.reportEquivocation(orderId, first, first, _key, abi.encode(one, one));

        bytes32 verdict = matchingDisputes.reportEquivocation(orderId, first, second, _key, abi.encode(one, other));
        _assertBond(BOND - SLASH_AMOUNT, 0);
        vm.expectRevert(abi.encodeWithSelector(IMatchingDisputes.AlreadySlashed.selector, verdict, _key));
        matchingDisputes.reportEquivocation(orderId, second, first, _key, abi.encode(other, one));
    }

    // -------------------------------------------------------------------- bond

    /// @dev An answer given with the last block's bond can be disputed, and slashed for, before that bond leaves.
    function test_withdrawal_outlasts_every_dispute() public {
        uint64 orderId = _order();
        IMatchingDisputes.Answer memory answer = _answerSingle(orderId, _list(_rank(_dear, 90e18)));
        uint256 requested = vm.getBlockNumber();
        _leave(BOND);
        _assertBond(0, BOND);
        uint64 next = _order();
        _refuseAnswer(next, abi.encodeWithSelector(ISingleMatchmaker.BondTooSmall.selector, SLASH_AMOUNT, 0));

        uint256 fromBlock = requested + RESPONSE_WINDOW + 2 * CHALLENGE_BLOCKS + 1;
        vm.roll(requested + CHALLENGE_BLOCKS);
        _challenge(orderId, answer);
        vm.roll(fromBlock - 1);
        vm.prank(_key);
        vm.expectRevert(abi.encodeWithSelector(ISingleMatchmaker.WithdrawalTooEarly.selector, fromBlock, fromBlock - 1));
        _single.withdraw(_key);
        _slash(answer, _one(_key));
        vm.roll(fromBlock);
        vm.prank(_key);
        assertEq(_single.withdraw(_key), BOND - SLASH_AMOUNT, "what is left");
        assertEq(spon.balanceOf(_key), BOND - SLASH_AMOUNT, "paid");
        vm.prank(_key);
        vm.expectRevert(ISingleMatchmaker.NothingRequested.selector);
        _single.withdraw(_key);
    }

    function test_second_request_starts_the_delay_anew() public {
        _leave(1e18);
        vm.roll(vm.getBlockNumber() + 2 * CHALLENGE_BLOCKS);
        _leave(2e18);
        (uint256 counting, uint256 leaving, uint256 fromBlock) = _single.bond();
        assertEq(counting, BOND - 3e18, "counting");
        assertEq(leaving, 3e18, "leaving");
        assertEq(fromBlock, vm.getBlockNumber() + RESPONSE_WINDOW + 2 * CHALLENGE_BLOCKS + 1, "anew");
    }

    function test_only_the_matchmaker_takes_bond_out() public {
        bytes memory refusal = abi.encodeWithSelector(ISingleMatchmaker.NotMatchmaker.selector, anybody);
        vm.startPrank(anybody);
        vm.expectRevert(refusal);
        _single.requestWithdrawal(1);
        vm.expectRevert(refusal);
        _single.withdraw(anybody);
        vm.expectRevert(ISingleMatchmaker.ZeroAmount.selector);
        _single.deposit(0);
        vm.stopPrank();
        vm.startPrank(_key);
        vm.expectRevert(ISingleMatchmaker.ZeroAmount.selector);
        _single.requestWithdrawal(0);
        vm.expectRevert(abi.encodeWithSelector(ISingleMatchmaker.InsufficientBond.selector, BOND, BOND + 1));
        _single.requestWithdrawal(BOND + 1);
        vm.stopPrank();
    }

    function test_only_governance_sets_coverage_and_price() public {
        bytes memory refusal = abi.encodeWithSelector(IAccessManaged.AccessManagedUnauthorized.selector, anybody);
        vm.startPrank(anybody);
        vm.expectRevert(refusal);
        _single.setCoverage(1, 1);
        vm.expectRevert(refusal);
        _single.setSlashAmount(1);
        vm.stopPrank();
        vm.expectRevert(ISingleMatchmaker.ZeroAmount.selector);
        _single.setSlashAmount(0);
        vm.expectRevert(abi.encodeWithSelector(ISingleMatchmaker.NotMatchmaker.selector, address(0)));
        new SingleMatchmaker(address(accessManager), matchingDisputes, spon, address(0), SLASH_AMOUNT);
    }

    // --------------------------------------------------------------- switching

    /// @dev Fixed by the close block: orders on both sides of a switch are answered by whom they were made under, even when the
    /// other is already in force, and disputes find the one who stood behind each.
    function test_switching_to_the_quorum_and_back_loses_no_order() public {
        (uint64 singles, uint64 quorums) = _switchTo(address(verifier));
        IMatchingDisputes.Answer memory byQuorum = _answerOne(quorums, _list(_rank(_dear, 90e18)));
        uint256 exposed = _single.exposure();
        IMatchingDisputes.Answer memory bySingle = _answerSingle(singles, _list(_rank(_dear, 90e18)));
        assertEq(_single.exposure() - exposed, _locked(90e18) / 2, "counted after the switch too");
        assertState(quorums, OrderState.Leased);
        assertState(singles, OrderState.Leased);

        _challenge(singles, bySingle);
        _challenge(quorums, byQuorum);
        (uint64 last, uint64 first) = _switchTo(address(_single));
        _answerSingle(first, _right(first));
        _answerOne(last, _right(last));
        assertState(first, OrderState.Leased);
        assertState(last, OrderState.Leased);
        _slashAfterwards(bySingle, byQuorum);
    }

    function test_nobody_answers_for_the_other() public {
        (uint64 singles, uint64 quorums) = _switchTo(address(verifier));
        _refuseAnyAnswer(quorums, true);
        _refuseAnyAnswer(singles, false);
    }

    // ----------------------------------------------------------------- private

    /// @dev Two orders, the first closing in the last block of whom the switch replaces.
    function _switchTo(address next) private returns (uint64 before, uint64 afterwards) {
        uint256 ahead = 2 * (uint256(MAXIMUM_BID_WINDOW) + RESPONSE_WINDOW + MATCH_WINDOW) + 1;
        uint32 fromBlock = uint32(vm.getBlockNumber() + ahead);
        tasks.setQuorumVerifier(next, fromBlock);
        vm.roll(fromBlock - BID_WINDOW - 1);
        before = _order();
        vm.roll(vm.getBlockNumber() + 1);
        afterwards = _order();
        assertEq(_closeBlock(before), fromBlock - 1, "the last block of the old one");
        assertEq(_closeBlock(afterwards), fromBlock, "the first block of the new one");
        vm.roll(fromBlock + 1);
    }

    /// @dev A challenged answer costs whom stood behind it, two switches later.
    function _slashAfterwards(IMatchingDisputes.Answer memory bySingle, IMatchingDisputes.Answer memory byQuorum)
        private
    {
        _slash(bySingle, _one(_key));
        _assertBond(BOND - SLASH_AMOUNT, 0);
        bytes32 digest = _digest(byQuorum);
        address[] memory signer = _one(operators[3].account);
        bytes memory nobodyAbsent = abi.encode(new bytes32[](0));
        matchingDisputes.slash(digest, byQuorum.task.closeBlock, byQuorum.signatories, signer, nobodyAbsent);
        assertTrue(matchingDisputes.isSlashed(_verdict(byQuorum), signer[0]), "an operator for the quorum's");
    }

    /// @dev Signed by the matchmaker, or by the quorum.
    function _refuseAnyAnswer(uint64 orderId, bool single) private {
        Task memory task = _task(_closeBlock(orderId));
        uint256[] memory matches = _matches(orderId, _terms(), _right(orderId));
        bytes memory proof = _prepare(task, matches);
        if (!single) proof = abi.encode(prove(tasks.responseDigest(task, matches), task.closeBlock, EVERYBODY, 2));
        vm.expectRevert();
        tasks.respond(task, matches, proof);
        assertState(orderId, OrderState.Open);
    }

    function _order() private returns (uint64 orderId) {
        orderId = _createOrder();
        _bidAndKeep(_owner, orderId, 50e18);
    }

    /// @dev What an order of the usual terms holds at a rate.
    function _locked(uint256 rate) private pure returns (uint256) {
        return rate / 10 + rate / 500 + MATCH_FEE;
    }

    function _signed(uint256 key, bytes32 message) private pure returns (bytes memory) {
        (uint8 v, bytes32 r, bytes32 s) = vm.sign(key, message);
        return abi.encodePacked(r, s, v);
    }

    function _signatoriesOf(uint32 closeBlock) private view returns (bytes32) {
        return keccak256(abi.encodePacked(closeBlock, _key));
    }

    function _answerSingle(uint64 orderId, uint256[] memory ranks) private returns (IMatchingDisputes.Answer memory) {
        return _answerSingle(_task(_closeBlock(orderId)), _matches(orderId, _terms(), ranks));
    }

    function _answerSingle(Task memory task, uint256[] memory matches)
        private
        returns (IMatchingDisputes.Answer memory)
    {
        bytes memory proof = _prepare(task, matches);
        vm.prank(responder);
        tasks.respond(task, matches, proof);
        return IMatchingDisputes.Answer(task, matches, _signatoriesOf(task.closeBlock));
    }

    function _prepare(Task memory task, uint256[] memory matches) private returns (bytes memory) {
        if (vm.getBlockNumber() <= task.closeBlock) vm.roll(task.closeBlock + 1);
        vm.setBlockhash(task.closeBlock, _blockHash(task.closeBlock));
        return _signed(KEY, tasks.responseDigest(task, matches));
    }

    function _refuseAnswer(uint64 orderId, bytes memory refusal) private {
        Task memory task = _task(_closeBlock(orderId));
        uint256[] memory matches = _matches(orderId, _terms(), _right(orderId));
        bytes memory proof = _prepare(task, matches);
        vm.expectRevert(refusal);
        tasks.respond(task, matches, proof);
    }

    function _expectRight(uint64 orderId, IMatchingDisputes.Answer memory answer) private {
        IMatchingDisputes.Inputs memory inputs = _inputs(orderId);
        vm.expectRevert(abi.encodeWithSelector(IMatchingDisputes.AnswerIsRight.selector, orderId));
        matchingDisputes.challenge(orderId, inputs, answer);
    }

    function _slash(IMatchingDisputes.Answer memory answer, address[] memory who) private {
        bytes32 digest = _digest(answer);
        vm.prank(anybody);
        matchingDisputes.slash(digest, answer.task.closeBlock, answer.signatories, who, "");
    }

    function _refuseSlash(
        IMatchingDisputes.Answer memory answer,
        address[] memory who,
        bytes32 signatories,
        bytes memory refusal
    ) private {
        bytes32 digest = _digest(answer);
        vm.expectRevert(refusal);
        matchingDisputes.slash(digest, answer.task.closeBlock, signatories, who, "");
    }

    function _depositBond(uint256 amount) private {
        spon.approve(address(_single), amount);
        _single.deposit(amount);
    }

    function _leave(uint256 amount) private {
        vm.prank(_key);
        _single.requestWithdrawal(amount);
    }

    /// @dev Early in a period, so that what follows falls into it.
    function _windowStart() private {
        vm.roll((vm.getBlockNumber() / CHALLENGE_BLOCKS + 1) * CHALLENGE_BLOCKS);
    }

    function _assertBond(uint256 counting, uint256 leaving) private view {
        (uint256 actualCounting, uint256 actualLeaving,) = _single.bond();
        assertEq(actualCounting, counting, "counting");
        assertEq(actualLeaving, leaving, "leaving");
    }
}
