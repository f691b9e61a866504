// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

import {IMatchingDisputes} from "../../src/avs/IMatchingDisputes.sol";
import {StakeRegistry} from "./EigenLayer.sol";
import {DisputesTest} from "./DisputesTest.sol";

/// @notice As many operators as a quorum holds, all of whom signed: they do not fit one transaction, and need not.
contract SlashBatchesTest is DisputesTest {
    uint256 private constant OPERATORS = 200;
    /// @dev EIP-7825.
    uint256 private constant TRANSACTION_GAS = 16_777_216;
    uint256 private constant BATCH = 20;

    function _addOperators() internal override {
        // Small secrets: their keys are quick to compute.
        for (uint256 i = 0; i < OPERATORS; i++) {
            addOperator(1_000 + i, 100e18);
        }
    }

    function test_200_signers_are_slashed_in_batches() public {
        (address owner,) = _addProvider("cheap");
        (, uint32 dear) = _addProvider("dear");
        uint64 orderId = _createOrder();
        _bidAndKeep(owner, orderId, 50e18);
        IMatchingDisputes.Answer memory answer =
            _answer(_closeBlock(orderId), _matches(orderId, _terms(), _rank(dear, 90e18)), (1 << OPERATORS) - 1);
        bytes32 verdict = _challenge(orderId, answer);

        uint256 most = 0;
        bytes32 digest = _digest(answer);
        for (uint256 first = 0; first < OPERATORS; first += BATCH) {
            address[] memory batch = new address[](BATCH);
            for (uint256 i = 0; i < BATCH; i++) {
                batch[i] = operators[first + i].account;
            }
            vm.prank(anybody);
            matchingDisputes.slash(
                digest, answer.task.closeBlock, answer.signatories, batch, abi.encode(new bytes32[](0))
            );
            uint256 gas = vm.lastCallGas().gasTotalUsed;
            if (gas > most) most = gas;
        }
        vm.snapshotValue("Disputes", "slash.batchOf20", most);
        assertLe(most, TRANSACTION_GAS, "a batch is a transaction");
        for (uint8 quorum = 0; quorum < 2; quorum++) {
            assertEq(
                StakeRegistry(coordinator.stakeRegistry()).getCurrentTotalStake(quorum),
                OPERATORS * 90e18,
                "everybody lost a tenth"
            );
        }
        for (uint256 i = 0; i < OPERATORS; i++) {
            assertTrue(matchingDisputes.isSlashed(verdict, operators[i].account), "marked");
        }
    }
}
