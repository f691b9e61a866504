// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

import {BlsQuorumVerifier} from "../../src/avs/BlsQuorumVerifier.sol";
import {StakeRegistry} from "./EigenLayer.sol";
import {QuorumTest} from "./QuorumTest.sol";

/// @notice What a refresh of a whole quorum costs, in one transaction that names every operator: this bounds a quorum's size.
contract RefreshGasTest is QuorumTest {
    /// @dev EIP-7825.
    uint256 private constant TRANSACTION_GAS_LIMIT = 16_777_216;
    uint256 private constant LARGEST_QUORUM = 200;

    BlsQuorumVerifier private verifier;

    function setUp() public {
        deployEigenLayer(1);
        verifier = newVerifier(67, 20);
    }

    function test_the_largest_quorum_fits_a_transaction() public {
        _grow(4);
        uint256 four = _refresh();
        _grow(50);
        uint256 fifty = _refresh();
        _grow(LARGEST_QUORUM);
        uint256 largest = _refresh();
        vm.snapshotValue("Market", "refresh.4", four);
        vm.snapshotValue("Market", "refresh.50", fifty);
        vm.snapshotValue("Market", "refresh.200", largest);
        vm.snapshotValue("Market", "refresh.eachOperator", (largest - fifty) / (LARGEST_QUORUM - 50));
        assertLe(largest, TRANSACTION_GAS_LIMIT, "nobody's stake changed");

        _restakeEverybody();
        uint256 changed = _refresh();
        vm.snapshotValue("Market", "refresh.200.allChanged", changed);
        assertLe(changed, TRANSACTION_GAS_LIMIT, "everybody's stake changed");
        assertEq(
            StakeRegistry(coordinator.stakeRegistry()).getCurrentTotalStake(0), LARGEST_QUORUM * 150e18, "new stakes"
        );
    }

    /// @dev The second refresh in a row: that nobody's stake changes, and the words are there.
    function _refresh() private returns (uint256) {
        vm.roll(vm.getBlockNumber() + 1);
        address[] memory accounts = accountsOf(everybody());
        if (verifier.refreshedAt(0, uint32(vm.getBlockNumber())) == 0) {
            verifier.refresh(0, accounts);
            vm.roll(vm.getBlockNumber() + 1);
        }
        return transact(address(this), address(verifier), abi.encodeCall(BlsQuorumVerifier.refresh, (0, accounts)));
    }

    /// @dev Short secrets, because keys in G2 are slow to compute here.
    function _grow(uint256 count) private {
        while (operators.length < count) {
            addOperator(0x10001 + operators.length, 100e18);
        }
    }

    function _restakeEverybody() private {
        for (uint256 i = 0; i < operators.length; ++i) {
            restake(i, 0, 50e18);
        }
    }
}
