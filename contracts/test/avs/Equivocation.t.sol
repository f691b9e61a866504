// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

import {Bn254} from "../../src/avs/Bn254.sol";
import {IAllocationSlasher} from "../../src/avs/IAllocationSlasher.sol";
import {IBlsQuorumVerifier} from "../../src/avs/IBlsQuorumVerifier.sol";
import {IMatchingDisputes} from "../../src/avs/IMatchingDisputes.sol";
import {ISlasher} from "../../src/avs/ISlasher.sol";
import {DisputesTest} from "./DisputesTest.sol";
import {StakeRegistry} from "./EigenLayer.sol";
import {G2} from "./G2.sol";

/// @notice Two signed outcomes of one order under one close block hash cost a signer stake by themselves, whether or not one of
/// them was ever posted.
contract EquivocationTest is DisputesTest {
    uint64 private _orderId;
    uint32 private _at;
    IMatchingDisputes.Answer private _first;
    IMatchingDisputes.Answer private _second;

    function setUp() public override {
        super.setUp();
        _orderId = _createOrder();
        _at = _closeBlock(_orderId);
        _first = IMatchingDisputes.Answer(_task(_at), _matches(_orderId, _terms(), _rank(1, 50e18)), 0);
        _second = IMatchingDisputes.Answer(_task(_at), _matches(_orderId, _terms(), _rank(2, 60e18)), 0);
        vm.roll(_at + 1);
    }

    function test_equivocator_is_slashed_in_every_quorum_and_counted_less_at_once() public {
        bytes32 verdict = keccak256(abi.encode("equivocation", _at));
        vm.expectEmit(disputes);
        emit IMatchingDisputes.EquivocationProven(verdict, _orderId, operators[2].account, _at, challenger);
        bytes memory evidence = _evidence(2);
        vm.prank(challenger);
        bytes32 given = matchingDisputes.reportEquivocation(_orderId, _first, _second, operators[2].account, evidence);
        assertEq(given, verdict, "verdict");
        for (uint8 quorum = 0; quorum < 2; quorum++) {
            assertEq(_weight(2, quorum), 270e18, "a tenth less");
            assertEq(_weight(3, quorum), 400e18, "nobody else");
        }
        assertTrue(matchingDisputes.isSlashed(verdict, operators[2].account), "marked");
        vm.snapshotValue("Disputes", "reportEquivocation", _gasOfReport(3));
    }

    /// @dev Once for a close block, however many pairs there are, in whatever order.
    function test_twice_is_refused() public {
        _report(2);
        bytes32 verdict = keccak256(abi.encode("equivocation", _at));
        bytes memory refusal =
            abi.encodeWithSelector(IMatchingDisputes.AlreadySlashed.selector, verdict, operators[2].account);
        _refuse(_first, _second, 2, _evidence(2), refusal);
        _refuse(_second, _first, 2, _evidenceOver(2, _second, _first), refusal);
        _report(3);
    }

    function test_both_signatures_are_needed() public {
        bytes32[2] memory digests = [_digest(_first), _digest(_second)];
        for (uint256 i = 0; i < 2; i++) {
            IAllocationSlasher.EquivocationEvidence memory evidence = _evidenceOf(2, _first, _second);
            evidence.signatures[i] = evidence.signatures[1 - i];
            _refuse(
                _first,
                _second,
                2,
                abi.encode(evidence),
                abi.encodeWithSelector(ISlasher.NotSignedBy.selector, operators[2].account, digests[i])
            );
        }
    }

    /// @dev Neither the other's signatures, nor under the other's key, nor a key made up from both.
    function test_signatures_of_somebody_else_are_refused() public {
        bytes memory refusal =
            abi.encodeWithSelector(ISlasher.NotSignedBy.selector, operators[2].account, _digest(_first));
        _refuse(_first, _second, 2, _evidence(3), refusal);
        IAllocationSlasher.EquivocationEvidence memory evidence = _evidenceOf(3, _first, _second);
        evidence.key = _evidenceOf(2, _first, _second).key;
        _refuse(_first, _second, 2, abi.encode(evidence), refusal);
        evidence = _evidenceOf(2, _first, _second);
        evidence.key = _evidenceOf(3, _first, _second).key;
        _refuse(_first, _second, 2, abi.encode(evidence), refusal);
        // The point at infinity signs for nobody.
        delete evidence.key;
        delete evidence.signatures;
        _refuse(_first, _second, 2, abi.encode(evidence), refusal);
        // Off the curve.
        evidence = _evidenceOf(2, _first, _second);
        evidence.signatures[0].X ^= 1;
        _refuse(_first, _second, 2, abi.encode(evidence), refusal);
    }

    function test_same_outcome_is_refused() public {
        bytes memory refusal = abi.encodeWithSelector(IMatchingDisputes.NoContradiction.selector, _orderId);
        _refuse(_first, _first, 2, _evidenceOver(2, _first, _first), refusal);

        // Two answers that differ about another order only.
        uint64 other = _orderId + 1;
        IMatchingDisputes.Answer memory longer = _first;
        longer.matches = _join(_first.matches, _matches(other, _terms(), _rank(1, 50e18)));
        _refuse(_first, longer, 2, _evidenceOver(2, _first, longer), refusal);
        bytes memory missing = abi.encodeWithSelector(IMatchingDisputes.NotInAnswer.selector, other);
        bytes memory evidence = _evidenceOver(2, _first, longer);
        vm.expectRevert(missing);
        matchingDisputes.reportEquivocation(other, _first, longer, operators[2].account, evidence);
    }

    /// @dev In two chunks, and under two versions, it is still two outcomes.
    function test_other_chunk_is_a_contradiction_too() public {
        _second.task.chunk = 3;
        _second.task.paramsVersion = 2;
        _report(2);
        assertEq(_weight(2, 0), 270e18, "slashed");
    }

    /// @dev Who signs again after a reorganisation has done nothing wrong.
    function test_other_close_block_or_hash_is_refused() public {
        bytes memory refusal = abi.encodeWithSelector(IMatchingDisputes.NoContradiction.selector, _orderId);
        IMatchingDisputes.Answer memory other = _second;
        other.task.closeBlockHash = keccak256("another branch");
        _refuse(_first, other, 2, _evidenceOver(2, _first, other), refusal);
        other = _second;
        other.task.closeBlock = _at - 1;
        _refuse(_first, other, 2, _evidenceOver(2, _first, other), refusal);
        _refuse(other, _first, 2, _evidenceOver(2, other, _first), refusal);
    }

    function test_malformed_matches_are_refused() public {
        _second.matches.pop();
        _refuse(
            _first, _second, 2, _evidence(2), abi.encodeWithSelector(IMatchingDisputes.MalformedMatches.selector, 0)
        );
    }

    function test_reported_until_the_window_ends() public {
        bytes memory evidence = _evidence(2);
        // As late as an answer of the response window's last block can be challenged.
        uint256 last = uint256(_at) + RESPONSE_WINDOW + CHALLENGE_BLOCKS;
        vm.roll(last + 1);
        _refuse(
            _first,
            _second,
            2,
            evidence,
            abi.encodeWithSelector(IMatchingDisputes.ChallengeWindowOver.selector, _at, last, last + 1)
        );
        vm.roll(last);
        _report(2);
        assertEq(_weight(2, 0), 270e18, "slashed");
    }

    /// @dev Stakes count as of the close block: an operator that joined later had none.
    function test_who_was_in_no_quorum_is_refused() public {
        addOperator(uint256(keccak256("late")), 500e18);
        _refuse(
            _first,
            _second,
            4,
            _evidence(4),
            abi.encodeWithSelector(ISlasher.NotSignatory.selector, operators[4].account)
        );
        _refuseStranger(anybody);
    }

    function test_no_slasher_no_slash() public {
        address other = makeAddress("other verifier");
        vm.mockCall(address(tasks), abi.encodeCall(tasks.quorumVerifierAt, (_at)), abi.encode(other));
        _refuse(_first, _second, 2, _evidence(2), abi.encodeWithSelector(IMatchingDisputes.NoSlasher.selector, other));
    }

    // ----------------------------------------------------------------- private

    function _refuseStranger(address stranger) private {
        bytes memory evidence = _evidence(2);
        vm.expectRevert(abi.encodeWithSelector(ISlasher.NotSignatory.selector, stranger));
        matchingDisputes.reportEquivocation(_orderId, _first, _second, stranger, evidence);
    }

    function _report(uint256 operator) private {
        bytes memory evidence = _evidence(operator);
        vm.prank(challenger);
        matchingDisputes.reportEquivocation(_orderId, _first, _second, operators[operator].account, evidence);
    }

    function _gasOfReport(uint256 operator) private returns (uint256) {
        _report(operator);
        return vm.lastCallGas().gasTotalUsed;
    }

    function _refuse(
        IMatchingDisputes.Answer memory one,
        IMatchingDisputes.Answer memory other,
        uint256 operator,
        bytes memory evidence,
        bytes memory refusal
    ) private {
        vm.prank(challenger);
        vm.expectRevert(refusal);
        matchingDisputes.reportEquivocation(_orderId, one, other, operators[operator].account, evidence);
    }

    function _evidence(uint256 operator) private view returns (bytes memory) {
        return _evidenceOver(operator, _first, _second);
    }

    function _evidenceOver(uint256 operator, IMatchingDisputes.Answer memory one, IMatchingDisputes.Answer memory other)
        private
        view
        returns (bytes memory)
    {
        return abi.encode(_evidenceOf(operator, one, other));
    }

    function _evidenceOf(uint256 operator, IMatchingDisputes.Answer memory one, IMatchingDisputes.Answer memory other)
        private
        view
        returns (IAllocationSlasher.EquivocationEvidence memory evidence)
    {
        uint256 secret = operators[operator].secret;
        (evidence.key.X, evidence.key.Y) = G2.multiply(secret);
        evidence.signatures[0] = _sign(secret, _digest(one));
        evidence.signatures[1] = _sign(secret, _digest(other));
    }

    function _sign(uint256 secret, bytes32 digest) private view returns (IBlsQuorumVerifier.G1Point memory) {
        (uint256 x, uint256 y) = Bn254.hashToG1(digest);
        return multiply(IBlsQuorumVerifier.G1Point(x, y), secret);
    }

    function _weight(uint256 operator, uint8 quorum) private view returns (uint256) {
        return StakeRegistry(coordinator.stakeRegistry()).getCurrentStake(operators[operator].id, quorum);
    }
}
