// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

import {IAccessManaged} from "@openzeppelin/contracts/access/manager/IAccessManaged.sol";

import {AllocationSlasher} from "../../src/avs/AllocationSlasher.sol";
import {IAllocationSlasher} from "../../src/avs/IAllocationSlasher.sol";
import {IMatchingDisputes} from "../../src/avs/IMatchingDisputes.sol";
import {ISlasher} from "../../src/avs/ISlasher.sol";
import {AllocationManager, DelegationManager, StakeRegistry, StrategyManager} from "./EigenLayer.sol";
import {DisputesTest} from "./DisputesTest.sol";

/// @notice What a verdict costs whom, on EigenLayer's own contracts with the delays of a devnet: stake stays slashable for 60
/// blocks after it is deallocated, the registries look 40 blocks ahead.
contract AllocationSlasherTest is DisputesTest {
    address private _owner;
    uint32 private _dear;

    function setUp() public override {
        super.setUp();
        (_owner,) = _addProvider("cheap");
        address other;
        (other, _dear) = _addProvider("dear");
        vm.label(other, "dear");
    }

    // ----------------------------------------------------------------- signers

    function test_signers_are_slashed_in_every_quorum_and_counted_less_at_once() public {
        IMatchingDisputes.Answer memory answer = _proveWrong(ALL_BUT_FIRST);
        address[] memory signers = _accounts(1, 4);
        for (uint8 quorum = 0; quorum < 2; quorum++) {
            assertEq(_weight(1, quorum), 200e18, "weight before");
        }
        vm.expectEmit(address(slasher));
        emit ISlasher.OperatorSlashed(_verdict(answer), signers[0], 0, SLASH_FRACTION);
        _slash(answer, signers, ALL_BUT_FIRST);

        for (uint256 i = 1; i < 4; i++) {
            assertTrue(matchingDisputes.isSlashed(_verdict(answer), operators[i].account), "marked");
            for (uint8 quorum = 0; quorum < 2; quorum++) {
                assertEq(_weight(i, quorum), (i + 1) * 90e18, "weight of a tenth less");
                assertEq(_shares(i, quorum), (i + 1) * 90e18, "shares");
            }
        }
        assertEq(_weight(0, 0), 100e18, "who did not sign keeps all");
        // A tenth of 900 of the 1000 that were there.
        StrategyManager strategyManager = StrategyManager(core_("strategy_manager"));
        for (uint256 quorum = 0; quorum < 2; quorum++) {
            assertEq(strategyManager.getBurnableShares(strategies[quorum]), 90e18, "waits to be burned");
            uint256 before = restaked[quorum].balanceOf(strategies[quorum]);
            vm.prank(anybody);
            strategyManager.burnShares(strategies[quorum]);
            assertEq(before - restaked[quorum].balanceOf(strategies[quorum]), 90e18, "burned");
        }
    }

    function test_batches_and_each_once() public {
        IMatchingDisputes.Answer memory answer = _proveWrong(EVERYBODY);
        _slash(answer, _accounts(0, 2), EVERYBODY);
        _refuse(
            answer,
            _accounts(0, 2),
            EVERYBODY,
            abi.encodeWithSelector(IMatchingDisputes.AlreadySlashed.selector, _verdict(answer), operators[0].account)
        );
        // Who slashes one member of a batch first does not stop the batch, and nobody pays twice.
        address[] memory twice = new address[](3);
        (twice[0], twice[1], twice[2]) = (operators[1].account, operators[2].account, operators[2].account);
        _slash(answer, twice, EVERYBODY);
        _refuse(answer, new address[](0), EVERYBODY, abi.encodeWithSelector(IMatchingDisputes.NoOperators.selector));
        _slash(answer, _accounts(2, 4), EVERYBODY);
        for (uint256 i = 0; i < 4; i++) {
            assertEq(_weight(i, 0), (i + 1) * 90e18, "once");
        }
    }

    /// @dev Two answers, two verdicts: the second cuts a tenth of what is left.
    function test_each_wrong_answer_costs() public {
        IMatchingDisputes.Answer memory first = _proveWrong(EVERYBODY);
        _slash(first, _accounts(3, 4), EVERYBODY);
        IMatchingDisputes.Answer memory second = _proveWrong(EVERYBODY);
        _slash(second, _accounts(3, 4), EVERYBODY);
        assertEq(_weight(3, 0), 324e18, "nine tenths of nine tenths");
    }

    function test_nobody_is_slashed_without_a_verdict() public {
        uint64 orderId = _createOrder();
        _bidAndKeep(_owner, orderId, 50e18);
        IMatchingDisputes.Answer memory answer = _answerOne(orderId, _right(orderId));
        _refuse(
            answer,
            _accounts(0, 1),
            EVERYBODY,
            abi.encodeWithSelector(IMatchingDisputes.UnknownVerdict.selector, _verdict(answer))
        );
    }

    function test_who_is_in_one_quorum_is_slashed_there() public {
        uint32[] memory second = new uint32[](1);
        second[0] = 1;
        addOperator(uint256(keccak256("one quorum")), 100e18, second);
        uint256[] memory members = new uint256[](2);
        (members[0], members[1]) = (EVERYBODY, 31);
        IMatchingDisputes.Answer memory answer = _proveWrongByMembers(members);
        _slash(answer, _accounts(4, 5), 31);
        assertEq(_weight(4, 1), 90e18, "a tenth less");
        assertEq(_weight(4, 0), 0, "was never there");
    }

    /// @dev The refresh removes it from the quorums, which does not keep anybody from being slashed.
    function test_who_falls_below_the_minimum_stake_is_out() public {
        addOperator(uint256(keccak256("small")), 1.05e18);
        IMatchingDisputes.Answer memory answer = _proveWrong(31);
        _slash(answer, _accounts(3, 5), 31);
        assertEq(_shares(4, 0), 0.945e18, "slashed");
        assertEq(_weight(4, 0), 0, "out");
        assertEq(_weight(3, 0), 360e18, "the other one is not");
    }

    // ---------------------------------------------------------------- evidence

    function test_who_did_not_sign_is_refused() public {
        IMatchingDisputes.Answer memory answer = _proveWrong(ALL_BUT_FIRST);
        _refuse(
            answer,
            _accounts(0, 1),
            ALL_BUT_FIRST,
            abi.encodeWithSelector(ISlasher.NotSignatory.selector, operators[0].account)
        );
        // One who did not in a batch of those who did.
        _refuse(
            answer,
            _accounts(0, 4),
            ALL_BUT_FIRST,
            abi.encodeWithSelector(ISlasher.NotSignatory.selector, operators[0].account)
        );
    }

    function test_forged_lists_of_the_absent_are_refused() public {
        IMatchingDisputes.Answer memory answer = _proveWrong(ALL_BUT_FIRST);
        bytes32[] memory right = _absent(ALL_BUT_FIRST);
        bytes32[] memory lists;
        address[] memory first = _accounts(0, 1);
        // Nobody absent; another absent; one more; the same twice.
        for (uint256 i = 0; i < 4; i++) {
            lists = new bytes32[](i < 2 ? i : 2);
            if (i != 0) lists[0] = i == 1 ? operators[1].id : right[0];
            if (i >= 2) lists[1] = i == 2 ? operators[1].id : right[0];
            _refuseEvidence(answer, first, abi.encode(lists));
        }
    }

    function test_unsorted_list_of_the_absent_is_refused() public {
        uint256 signers = 12;
        vm.roll(vm.getBlockNumber() + 1);
        // 700 of 1000 signed.
        IMatchingDisputes.Answer memory answer = _proveWrong(signers);
        bytes32[] memory absent = _absent(signers);
        assertEq(absent.length, 2, "two are absent");
        (absent[0], absent[1]) = (absent[1], absent[0]);
        // Searched in halves, the unsorted list would hide one of the two.
        _refuseEvidence(answer, _accounts(0, 1), abi.encode(absent));
        _refuseEvidence(answer, _accounts(1, 2), abi.encode(absent));
        _slash(answer, _accounts(2, 4), signers);
    }

    function test_strangers_and_late_comers_are_refused() public {
        IMatchingDisputes.Answer memory answer = _proveWrong(EVERYBODY);
        _refuse(answer, _one(anybody), EVERYBODY, abi.encodeWithSelector(ISlasher.NotSignatory.selector, anybody));
        // Joined after the reference block.
        address late = addOperator(uint256(keccak256("late")), 500e18).account;
        bytes32 digest = _digest(answer);
        bytes memory nobodyAbsent = abi.encode(new bytes32[](0));
        vm.expectRevert(abi.encodeWithSelector(ISlasher.NotSignatory.selector, late));
        matchingDisputes.slash(digest, answer.task.closeBlock, answer.signatories, _one(late), nobodyAbsent);
    }

    /// @dev Known to the coordinator, in no quorum any more when the task closed.
    function test_who_had_left_before_the_reference_block_is_refused() public {
        _deregister(0, 2);
        uint256[] memory members = new uint256[](2);
        (members[0], members[1]) = (ALL_BUT_FIRST, ALL_BUT_FIRST);
        IMatchingDisputes.Answer memory answer = _proveWrongByMembers(members);
        address[] memory gone = _accounts(0, 1);
        bytes memory nobodyAbsent = abi.encode(new bytes32[](0));
        bytes32 digest = _digest(answer);
        vm.expectRevert(abi.encodeWithSelector(ISlasher.NotSignatory.selector, gone[0]));
        matchingDisputes.slash(digest, answer.task.closeBlock, answer.signatories, gone, nobodyAbsent);
    }

    // ------------------------------------------------------------------ timing

    function test_deallocated_but_still_slashable_stake_is_slashed() public {
        IMatchingDisputes.Answer memory answer = _proveWrong(EVERYBODY);
        _deallocate(3);
        vm.roll(vm.getBlockNumber() + allocationManager.DEALLOCATION_DELAY());
        _slash(answer, _accounts(3, 4), EVERYBODY);
        assertEq(_shares(3, 0), 360e18, "slashed until the last block");
    }

    function test_late_slash_is_refused() public {
        IMatchingDisputes.Answer memory answer = _proveWrong(EVERYBODY);
        _deallocate(3);
        vm.roll(vm.getBlockNumber() + allocationManager.DEALLOCATION_DELAY() + 1);
        _refuse(
            answer,
            _accounts(3, 4),
            EVERYBODY,
            abi.encodeWithSelector(ISlasher.NothingCut.selector, operators[3].account)
        );
        assertFalse(matchingDisputes.isSlashed(_verdict(answer), operators[3].account), "not marked");
        // The others are not spared.
        _slash(answer, _accounts(0, 3), EVERYBODY);
    }

    function test_deregistered_operators_are_slashed_until_the_delay_ends() public {
        IMatchingDisputes.Answer memory answer = _proveWrong(EVERYBODY);
        _deregister(3, 2);
        _deregister(2, 2);
        uint256 left = vm.getBlockNumber();
        vm.roll(left + allocationManager.DEALLOCATION_DELAY());
        _slash(answer, _accounts(3, 4), EVERYBODY);
        assertEq(_shares(3, 1), 360e18, "slashed after it left");
        vm.roll(left + allocationManager.DEALLOCATION_DELAY() + 1);
        _refuse(
            answer,
            _accounts(2, 3),
            EVERYBODY,
            abi.encodeWithSelector(ISlasher.NothingCut.selector, operators[2].account)
        );
    }

    /// @dev Out of reach in one quorum, it is slashed in the other.
    function test_who_left_one_quorum_is_slashed_in_the_other() public {
        IMatchingDisputes.Answer memory answer = _proveWrong(EVERYBODY);
        _deregister(3, 1);
        vm.roll(vm.getBlockNumber() + allocationManager.DEALLOCATION_DELAY() + 1);
        _slash(answer, _accounts(3, 4), EVERYBODY);
        assertEq(_shares(3, 0), 400e18, "left");
        assertEq(_shares(3, 1), 360e18, "slashed");
    }

    function test_queued_withdrawal_is_slashed() public {
        IMatchingDisputes.Answer memory answer = _proveWrong(EVERYBODY);
        DelegationManager delegations = DelegationManager(core_("delegation_manager"));
        DelegationManager.QueuedWithdrawalParams[] memory queued = new DelegationManager.QueuedWithdrawalParams[](1);
        queued[0].strategies = new address[](1);
        queued[0].strategies[0] = strategies[0];
        queued[0].depositShares = new uint256[](1);
        queued[0].depositShares[0] = 400e18;
        vm.prank(operators[3].account);
        delegations.queueWithdrawals(queued);
        vm.roll(vm.getBlockNumber() + 60);
        _slash(answer, _accounts(3, 4), EVERYBODY);
        assertEq(_shares(3, 0), 0, "all of it is in the queue");
        uint256 burnable = StrategyManager(core_("strategy_manager")).getBurnableShares(strategies[0]);
        assertEq(burnable, 40e18, "and is cut there");
    }

    // -------------------------------------------------------------- who decides

    function test_only_disputes_slash() public {
        bytes memory refusal = abi.encodeWithSelector(ISlasher.NotDisputes.selector, anybody);
        address[] memory one = _accounts(0, 1);
        bytes32[2] memory digests;
        vm.startPrank(anybody);
        vm.expectRevert(refusal);
        slasher.slash(0, 1, 0, one, "");
        vm.expectRevert(refusal);
        slasher.slashEquivocator(0, 1, digests, one[0], "");
        vm.stopPrank();
    }

    function test_slash_fraction_is_governed_and_never_more_than_half() public {
        vm.prank(anybody);
        vm.expectRevert(abi.encodeWithSelector(IAccessManaged.AccessManagedUnauthorized.selector, anybody));
        slasher.setSlashFraction(0.2e18);
        for (uint256 i = 0; i < 2; i++) {
            uint64 fraction = i == 0 ? 0 : 0.5e18 + 1;
            bytes memory refusal =
                abi.encodeWithSelector(IAllocationSlasher.SlashFractionOutOfRange.selector, fraction, 0.5e18);
            vm.expectRevert(refusal);
            slasher.setSlashFraction(fraction);
            vm.expectRevert(refusal);
            new AllocationSlasher(address(accessManager), matchingDisputes, serviceManager, verifier, fraction);
        }
        slasher.setSlashFraction(0.5e18);
        IMatchingDisputes.Answer memory answer = _proveWrong(EVERYBODY);
        _slash(answer, _accounts(0, 1), EVERYBODY);
        assertEq(_weight(0, 0), 50e18, "half");
    }

    // --------------------------------------------------------------------- gas

    function test_gas_of_an_operator() public {
        IMatchingDisputes.Answer memory answer = _proveWrong(EVERYBODY);
        _slash(answer, _accounts(0, 1), EVERYBODY);
        uint256 one = vm.lastCallGas().gasTotalUsed;
        _slash(answer, _accounts(1, 4), EVERYBODY);
        uint256 three = vm.lastCallGas().gasTotalUsed;
        vm.snapshotValue("Disputes", "slash.1", one);
        vm.snapshotValue("Disputes", "slash.each", (three - one) / 2);
        // Two quorums, refreshed.
        assertLe((three - one) / 2, 700_000, "each further operator");
    }

    // ----------------------------------------------------------------- private

    /// @dev An answer that the dear provider won, proven wrong.
    function _proveWrong(uint256 signers) private returns (IMatchingDisputes.Answer memory answer) {
        uint64 orderId = _createOrder();
        _bidAndKeep(_owner, orderId, 50e18);
        uint32 closeBlock = _closeBlock(orderId);
        answer = _answer(closeBlock, _matches(orderId, _terms(), _rank(_dear, 90e18)), signers);
        _challenge(orderId, answer);
    }

    /// @dev As above, everybody who is in a quorum having signed.
    function _proveWrongByMembers(uint256[] memory members) private returns (IMatchingDisputes.Answer memory answer) {
        uint64 orderId = _createOrder();
        _bidAndKeep(_owner, orderId, 50e18);
        answer.task = _task(_closeBlock(orderId));
        answer.matches = _matches(orderId, _terms(), _rank(_dear, 90e18));
        answer.signatories = keccak256(abi.encodePacked(answer.task.closeBlock));
        vm.roll(answer.task.closeBlock + 1);
        vm.setBlockhash(answer.task.closeBlock, _blockHash(answer.task.closeBlock));
        uint256 signers = members[0] | members[1];
        bytes memory proof = abi.encode(prove(_digest(answer), answer.task.closeBlock, signers, members));
        tasks.respond(answer.task, answer.matches, proof);
        _challenge(orderId, answer);
    }

    function _slash(IMatchingDisputes.Answer memory answer, address[] memory who, uint256 signers) private {
        bytes32 digest = _digest(answer);
        bytes memory evidence = abi.encode(_absent(signers));
        vm.prank(anybody);
        matchingDisputes.slash(digest, answer.task.closeBlock, answer.signatories, who, evidence);
    }

    function _refuse(
        IMatchingDisputes.Answer memory answer,
        address[] memory who,
        uint256 signers,
        bytes memory refusal
    ) private {
        bytes32 digest = _digest(answer);
        bytes memory evidence = abi.encode(_absent(signers));
        vm.expectRevert(refusal);
        matchingDisputes.slash(digest, answer.task.closeBlock, answer.signatories, who, evidence);
    }

    function _refuseEvidence(IMatchingDisputes.Answer memory answer, address[] memory who, bytes memory evidence)
        private
    {
        bytes32 digest = _digest(answer);
        vm.expectPartialRevert(ISlasher.WrongSignatories.selector);
        matchingDisputes.slash(digest, answer.task.closeBlock, answer.signatories, who, evidence);
    }

    function _accounts(uint256 from, uint256 to) private view returns (address[] memory list) {
        list = new address[](to - from);
        for (uint256 i = from; i < to; i++) {
            list[i - from] = operators[i].account;
        }
    }

    function _weight(uint256 operator, uint8 quorum) private view returns (uint256) {
        return StakeRegistry(coordinator.stakeRegistry()).getCurrentStake(operators[operator].id, quorum);
    }

    function _shares(uint256 operator, uint256 quorum) private view returns (uint256) {
        return
            DelegationManager(core_("delegation_manager"))
                .operatorShares(operators[operator].account, strategies[quorum]);
    }

    /// @dev Takes everything out of both sets.
    function _deallocate(uint256 operator) private {
        AllocationManager.AllocateParams[] memory changes = new AllocationManager.AllocateParams[](2);
        for (uint32 set = 0; set < 2; set++) {
            changes[set].operatorSet = AllocationManager.OperatorSet(address(serviceManager), set);
            changes[set].strategies = _one(strategies[set]);
            changes[set].newMagnitudes = new uint64[](1);
        }
        vm.prank(operators[operator].account);
        allocationManager.modifyAllocations(operators[operator].account, changes);
    }

    /// @dev From the first sets.
    function _deregister(uint256 operator, uint32 sets) private {
        uint32[] memory numbers = new uint32[](sets);
        for (uint32 set = 0; set < sets; set++) {
            numbers[set] = set;
        }
        address account_ = operators[operator].account;
        vm.prank(account_);
        allocationManager.deregisterFromOperatorSets(
            AllocationManager.DeregisterParams(account_, address(serviceManager), numbers)
        );
    }
}
