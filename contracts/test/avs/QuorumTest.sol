// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

import {BlsQuorumVerifier} from "../../src/avs/BlsQuorumVerifier.sol";
import {EigenRegistryCoordinator} from "../../src/avs/EigenLayer.sol";
import {IBlsQuorumVerifier} from "../../src/avs/IBlsQuorumVerifier.sol";
import {StrategyManager} from "./EigenLayer.sol";
import {EigenLayerTest} from "./EigenLayerTest.sol";

/// @notice Quorum verifiers on EigenLayer's real registries.
abstract contract QuorumTest is EigenLayerTest {
    /// @dev For the first quorums, one per threshold.
    function newVerifier(uint8[] memory thresholds, uint32 stakeAge) internal returns (BlsQuorumVerifier) {
        uint8[] memory numbers = new uint8[](thresholds.length);
        for (uint8 q = 0; q < numbers.length; ++q) {
            numbers[q] = q;
        }
        return new BlsQuorumVerifier(EigenRegistryCoordinator(address(coordinator)), numbers, thresholds, stakeAge);
    }

    function newVerifier(uint8 threshold, uint32 stakeAge) internal returns (BlsQuorumVerifier) {
        uint8[] memory thresholds = new uint8[](1);
        thresholds[0] = threshold;
        return newVerifier(thresholds, stakeAge);
    }

    function newVerifier(uint8 first, uint8 second, uint32 stakeAge) internal returns (BlsQuorumVerifier) {
        uint8[] memory thresholds = new uint8[](2);
        (thresholds[0], thresholds[1]) = (first, second);
        return newVerifier(thresholds, stakeAge);
    }

    /// @dev Accounts of the operators whose bit is set, ascending, as a refresh takes them.
    function accountsOf(uint256 chosen) internal view returns (address[] memory accounts) {
        uint256 count;
        for (uint256 rest = chosen; rest != 0; rest &= rest - 1) {
            ++count;
        }
        accounts = new address[](count);
        uint256 placed;
        for (uint256 i = 0; i < operators.length; ++i) {
            if (chosen >> i & 1 == 0) continue;
            address account = operators[i].account;
            uint256 position = placed++;
            for (; position != 0 && accounts[position - 1] > account; --position) {
                accounts[position] = accounts[position - 1];
            }
            accounts[position] = account;
        }
    }

    /// @dev Deposits more for an operator; the registry learns of it at a refresh.
    function restake(uint256 operator, uint256 quorum, uint256 amount) internal {
        address account = operators[operator].account;
        address manager = core_("strategy_manager");
        restaked[quorum].mint(account, amount);
        vm.startPrank(account);
        restaked[quorum].approve(manager, amount);
        StrategyManager(manager).depositIntoStrategy(strategies[quorum], address(restaked[quorum]), amount);
        vm.stopPrank();
    }

    function everybody() internal view returns (uint256) {
        return (1 << operators.length) - 1;
    }

    /// @dev Aggregate key of these signers, every one of them being in every one of the first `quorumCount` quorums.
    function keyOf(uint256 signers, uint256 quorumCount) internal view returns (IBlsQuorumVerifier.G1Point memory) {
        IBlsQuorumVerifier.G1Point memory once = multiply(IBlsQuorumVerifier.G1Point(1, 2), secretOf(signers));
        return multiply(once, quorumCount);
    }
}
