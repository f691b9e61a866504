// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

import {BlsQuorumVerifier} from "../../src/avs/BlsQuorumVerifier.sol";
import {EigenRegistryCoordinator} from "../../src/avs/EigenLayer.sol";
import {IBlsQuorumVerifier} from "../../src/avs/IBlsQuorumVerifier.sol";
import {StakeRegistry} from "./EigenLayer.sol";
import {QuorumTest} from "./QuorumTest.sol";

/// @dev What the coordinator says to a wrong list of operators, from its published ABI.
interface CoordinatorErrors {
    error NotSorted();
    error QuorumOperatorCountMismatch();
}

/// @notice Age of stakes: which reference blocks a quorum's refreshes make usable.
contract StakeRefreshTest is QuorumTest {
    bytes32 private constant MESSAGE = keccak256("a response");
    uint32 private constant AGE = 20;

    BlsQuorumVerifier private verifier;
    /// @dev A verifier of the quorum that nobody is in, which is cheap to refresh, and the blocks of all its refreshes, ascending:
    /// what one with boundless memory would know.
    BlsQuorumVerifier private noted;
    uint256[] private refreshes;

    function setUp() public {
        deployEigenLayer(3);
        uint32[] memory sets = new uint32[](2);
        sets[1] = 1;
        addOperator(uint256(keccak256("one")), 100e18, sets);
        addOperator(uint256(keccak256("two")), 200e18, sets);
        addOperator(uint256(keccak256("three")), 300e18, sets);
        addOperator(uint256(keccak256("four")), 400e18, sets);
        verifier = newVerifier(67, 60, AGE);
        rememberKey(15, 2);
        rememberKey(15, 1);

        uint8[] memory numbers = new uint8[](1);
        uint8[] memory thresholds = new uint8[](1);
        (numbers[0], thresholds[0]) = (2, 67);
        noted = new BlsQuorumVerifier(EigenRegistryCoordinator(address(coordinator)), numbers, thresholds, AGE);
    }

    // ------------------------------------------------------------- boundaries

    function test_refuses_everything_before_the_first_refresh() public {
        uint32 block_ = uint32(vm.getBlockNumber());
        vm.roll(block_ + 1);
        _refused(block_, 0, 0);
        assertEq(verifier.refreshedAt(0, block_), 0, "noted");
        _refreshBoth();
        // The one before the refresh is not helped by it.
        vm.roll(block_ + 2);
        _refused(block_, 0, 0);
        _accepted(block_ + 1);
    }

    /// @dev Stakes of a block are those after all its updates, so a refresh counts from its own block on.
    function test_counts_from_its_own_block_until_the_age_is_over() public {
        uint32 refreshed = uint32(vm.getBlockNumber()) + 5;
        vm.roll(refreshed);
        _refreshBoth();
        vm.roll(refreshed + AGE + 2);
        _refused(refreshed - 1, 0, 0);
        _accepted(refreshed);
        _accepted(refreshed + 1);
        _accepted(refreshed + AGE);
        _refused(refreshed + AGE + 1, 0, refreshed);
    }

    /// @dev The stake that somebody has since the middle of a block counts in that block.
    function test_stakes_of_a_block_are_those_after_its_refresh() public {
        restake(3, 0, 1000e18);
        restake(3, 1, 1000e18);
        uint32 block_ = uint32(vm.getBlockNumber());
        StakeRegistry stakes = StakeRegistry(coordinator.stakeRegistry());
        assertEq(stakes.getCurrentTotalStake(0), 1000e18, "before the refresh");
        _refreshBoth();
        assertEq(stakes.getCurrentTotalStake(0), 2000e18, "after the refresh");
        vm.roll(block_ + 1);
        // The fourth alone had 400 of 1 000 and has 1 400 of 2 000.
        verifier.verify(MESSAGE, block_, abi.encode(prove(MESSAGE, block_, 8, 2)));
        bytes memory others = abi.encode(prove(MESSAGE, block_, 7, 2));
        vm.expectRevert(abi.encodeWithSelector(IBlsQuorumVerifier.ThresholdNotReached.selector, 0, 600e18, 2000e18, 67));
        verifier.verify(MESSAGE, block_, others);
    }

    /// @dev The coordinator's own number says "fresh" once somebody refreshed, whatever the reference block.
    function test_refuses_stakes_that_were_refreshed_too_late() public {
        uint32 refreshed = uint32(vm.getBlockNumber());
        _refreshBoth();
        uint32 stale = refreshed + AGE + 1;
        vm.roll(stale + 1);
        _refreshBoth();
        assertEq(coordinator.quorumUpdateBlockNumber(0), stale + 1, "the coordinator's number");
        vm.roll(stale + 2);
        _refused(stale, 0, refreshed);
        _accepted(stale + 1);
    }

    function test_does_not_count_refreshes_that_went_past_it() public {
        address[][] memory accounts = new address[][](2);
        (accounts[0], accounts[1]) = (accountsOf(15), accountsOf(15));
        coordinator.updateOperatorsForQuorum(accounts, hex"0001");
        uint32 block_ = uint32(vm.getBlockNumber());
        vm.roll(block_ + 1);
        _refused(block_, 0, 0);
    }

    function test_every_quorum_must_be_refreshed() public {
        uint32 first = uint32(vm.getBlockNumber());
        verifier.refresh(0, accountsOf(15));
        vm.roll(first + 1);
        _refused(first, 1, 0);
        verifier.refresh(1, accountsOf(15));
        vm.roll(first + AGE + 2);
        _refused(first, 1, 0);
        _accepted(first + 1);
        _accepted(first + AGE);
        _refused(first + AGE + 1, 0, first);
        verifier.refresh(0, accountsOf(15));
        vm.roll(first + AGE + 3);
        _refused(first + AGE + 2, 1, first + 1);
    }

    function test_an_age_of_zero_takes_any_stake() public {
        verifier = newVerifier(67, 60, 0);
        uint32 block_ = uint32(vm.getBlockNumber());
        vm.roll(block_ + 1);
        _accepted(block_);
        _refreshBoth();
        assertEq(verifier.refreshedAt(0, block_), 0, "before");
        assertEq(verifier.refreshedAt(0, block_ + 1), block_ + 1, "noted");
        assertEq(verifier.refreshedAt(1, block_ + 9), block_ + 1, "after");
    }

    // ---------------------------------------------------------------- callers

    function test_refuses_lists_that_are_not_the_whole_quorum() public {
        vm.expectRevert(CoordinatorErrors.QuorumOperatorCountMismatch.selector);
        verifier.refresh(0, accountsOf(7));

        address[] memory accounts = accountsOf(15);
        (accounts[1], accounts[2]) = (accounts[2], accounts[1]);
        vm.expectRevert(CoordinatorErrors.NotSorted.selector);
        verifier.refresh(0, accounts);
        accounts[2] = accounts[1];
        vm.expectRevert(CoordinatorErrors.NotSorted.selector);
        verifier.refresh(0, accounts);
        assertEq(verifier.refreshedAt(0, uint32(vm.getBlockNumber())), 0, "noted");
    }

    /// @dev There is a quorum 2, but nobody needs to reach it.
    function test_refuses_quorums_that_it_does_not_verify() public {
        vm.expectRevert(abi.encodeWithSelector(IBlsQuorumVerifier.QuorumNotConfigured.selector, 2));
        verifier.refresh(2, new address[](0));
        vm.expectRevert(abi.encodeWithSelector(IBlsQuorumVerifier.QuorumNotConfigured.selector, 255));
        verifier.refreshedAt(255, 1);
    }

    function test_tells_what_it_did() public {
        vm.expectEmit(address(verifier));
        emit IBlsQuorumVerifier.QuorumRefreshed(1, 4);
        vm.prank(makeAddress("anybody"));
        verifier.refresh(1, accountsOf(15));
    }

    // ----------------------------------------------------------------- memory

    /// @dev Refreshing every block pushes nothing out: what was usable stays usable.
    function test_refreshing_often_pushes_nothing_out() public {
        uint32 first = uint32(vm.getBlockNumber());
        for (uint32 i = 0; i < 300; ++i) {
            vm.roll(first + i);
            _refreshBoth();
        }
        vm.roll(first + 300);
        for (uint32 i = 0; i < 300; i += 23) {
            _accepted(first + i);
        }
        _refused(first - 1, 0, 0);
    }

    /// @dev Whatever the sequence of refreshes, the verifier knows what a list of them all would tell: it never takes a reference
    /// block without a refresh in the blocks up to it, and takes every one with one as far back as the age and a block.
    /// forge-config: default.fuzz.runs = 100
    /// forge-config: deep.fuzz.runs = 2000
    function test_fuzz_knows_what_a_list_of_all_refreshes_would(uint8[24] calldata gaps, uint8 late) public {
        uint256 start = vm.getBlockNumber();
        for (uint256 i = 0; i < gaps.length; ++i) {
            if (_wait(gaps[i])) _note();
            uint256 present = vm.getBlockNumber();
            for (uint256 block_ = present < start + 70 ? start : present - 70; block_ <= present; block_ += 7) {
                _checkKnowledge(uint32(block_), block_ + AGE + 1 >= present);
            }
        }
        vm.roll(vm.getBlockNumber() + late);
        for (uint256 block_ = start; block_ <= vm.getBlockNumber(); block_ += 7) {
            _checkKnowledge(uint32(block_), block_ + AGE + 1 >= vm.getBlockNumber());
        }
    }

    /// @dev If no two refreshes are further apart than the age and a block, every block since the first is usable, however long ago.
    /// forge-config: default.fuzz.runs = 100
    /// forge-config: deep.fuzz.runs = 2000
    function test_fuzz_refreshing_in_time_forgets_nothing(uint8[24] calldata gaps) public {
        uint256 start = vm.getBlockNumber();
        for (uint256 i = 0; i < gaps.length; ++i) {
            _note();
            vm.roll(vm.getBlockNumber() + gaps[i] % (AGE + 2));
        }
        for (uint256 block_ = start; block_ <= refreshes[refreshes.length - 1] + AGE; ++block_) {
            uint256 told = noted.refreshedAt(2, uint32(block_));
            assertTrue(told != 0 && told + AGE >= block_, "a usable block was forgotten");
            _checkKnowledge(uint32(block_), true);
        }
    }

    /// @dev What {refreshedAt} tells is what {verify} does.
    /// forge-config: default.fuzz.runs = 100
    /// forge-config: deep.fuzz.runs = 2000
    function test_fuzz_verifies_what_it_tells(uint8[6] calldata gaps, uint8[4] calldata back) public {
        verifier = newVerifier(67, AGE);
        uint256 start = vm.getBlockNumber();
        for (uint256 i = 0; i < gaps.length; ++i) {
            if (_wait(gaps[i])) verifier.refresh(0, accountsOf(15));
        }
        vm.roll(vm.getBlockNumber() + 1);
        for (uint256 i = 0; i < back.length; ++i) {
            uint256 block_ = vm.getBlockNumber() - 1 - bound(back[i], 0, vm.getBlockNumber() - 1 - start);
            uint256 told = verifier.refreshedAt(0, uint32(block_));
            bytes memory proof = abi.encode(prove(MESSAGE, uint32(block_), 15, 1));
            if (told == 0 || told + AGE < block_) {
                vm.expectRevert(abi.encodeWithSelector(IBlsQuorumVerifier.StakeTooOld.selector, 0, told, block_, AGE));
            }
            verifier.verify(MESSAGE, uint32(block_), proof);
        }
    }

    /// @dev Quorums share words: none changes what is known of another.
    /// forge-config: default.fuzz.runs = 100
    /// forge-config: deep.fuzz.runs = 2000
    function test_fuzz_quorums_are_noted_apart(uint8[30] calldata steps) public {
        uint8[] memory thresholds = new uint8[](3);
        (thresholds[0], thresholds[1], thresholds[2]) = (67, 67, 67);
        verifier = newVerifier(thresholds, AGE);
        address[][] memory accounts = new address[][](3);
        (accounts[0], accounts[1], accounts[2]) = (accountsOf(15), accountsOf(15), new address[](0));
        uint32[3] memory last;
        for (uint256 i = 0; i < steps.length; ++i) {
            uint8 quorum = steps[i] % 3;
            verifier.refresh(quorum, accounts[quorum]);
            last[quorum] = uint32(vm.getBlockNumber());
            for (uint8 q = 0; q < 3; ++q) {
                assertEq(verifier.refreshedAt(q, uint32(vm.getBlockNumber())), last[q], "last refresh");
            }
            vm.roll(vm.getBlockNumber() + steps[i] / 3 % 40);
        }
    }

    // ---------------------------------------------------------------- private

    /// @return refreshed Whether a refresh comes now: in half of the cases one that is in time, in a quarter one that may be late.
    function _wait(uint256 random) private returns (bool refreshed) {
        vm.roll(vm.getBlockNumber() + (random % 4 == 1 ? random / 4 % 64 : random / 4 % (AGE + 2)));
        return random % 4 != 0;
    }

    function _note() private {
        noted.refresh(2, new address[](0));
        refreshes.push(vm.getBlockNumber());
    }

    /// @param remembered Whether the verifier has to know.
    function _checkKnowledge(uint32 block_, bool remembered) private view {
        uint256 told = noted.refreshedAt(2, block_);
        uint256 last;
        for (uint256 i = refreshes.length; i != 0 && last == 0; --i) {
            if (refreshes[i - 1] <= block_) last = refreshes[i - 1];
        }
        assertLe(told, last, "told to be younger than it is");
        bool usable = last != 0 && last + AGE >= block_;
        bool taken = told != 0 && told + AGE >= block_;
        assertFalse(taken && !usable, "took stakes that are too old");
        assertFalse(remembered && usable && !taken, "forgot a refresh");
        if (remembered && !usable) assertEq(told, last, "the last refresh, when it is too old");
    }

    function _refreshBoth() private {
        verifier.refresh(0, accountsOf(15));
        verifier.refresh(1, accountsOf(15));
    }

    function _accepted(uint32 block_) private view {
        verifier.verify(MESSAGE, block_, abi.encode(prove(MESSAGE, block_, 15, 2)));
    }

    function _refused(uint32 block_, uint8 quorum, uint256 refreshed) private {
        bytes memory proof = abi.encode(prove(MESSAGE, block_, 15, 2));
        vm.expectRevert(abi.encodeWithSelector(IBlsQuorumVerifier.StakeTooOld.selector, quorum, refreshed, block_, AGE));
        verifier.verify(MESSAGE, block_, proof);
    }
}
