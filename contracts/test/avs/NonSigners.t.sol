// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

import {BlsQuorumVerifier} from "../../src/avs/BlsQuorumVerifier.sol";
import {EigenRegistryCoordinator} from "../../src/avs/EigenLayer.sol";
import {SignatureChecker} from "./EigenLayer.sol";
import {EigenLayerTest} from "./EigenLayerTest.sol";

/// @notice What somebody who does not sign costs the responder, one quorum: whole transactions, cold.
contract NonSignersTest is EigenLayerTest {
    bytes32 private constant MESSAGE = keccak256("a response");

    function setUp() public {
        deployEigenLayer(1);
        for (uint256 i = 0; i < 12; i++) {
            addOperator(uint256(keccak256(abi.encode("operator", i))), 100e18);
        }
        vm.roll(vm.getBlockNumber() + 1);
    }

    function test_each_non_signer_costs_little() public {
        uint8[] memory thresholds = new uint8[](1);
        thresholds[0] = 10;
        BlsQuorumVerifier verifier =
            new BlsQuorumVerifier(EigenRegistryCoordinator(address(coordinator)), new uint8[](1), thresholds, 0);
        uint256 two = _verify(address(verifier), 2);
        uint256 ten = _verify(address(verifier), 10);
        uint256 each = (ten - two) / 8;
        vm.snapshotValue("Market", "respond.eachNonSigner", each);
        assertLe(each, 17_600, "each non-signer");

        // Never more than EigenLayer's own checker.
        address checker = deployRecorded("SquaringTask", abi.encode(coordinator, uint32(30)));
        assertLt(two, _check(checker, 2), "two non-signers");
        assertLt(ten, _check(checker, 10), "ten non-signers");
    }

    function _verify(address verifier, uint256 absent) private returns (uint256) {
        uint32 block_ = uint32(vm.getBlockNumber() - 1);
        bytes memory proof = withRoots(MESSAGE, prove(MESSAGE, block_, _signers(absent), 1));
        return transact(address(this), verifier, abi.encodeCall(BlsQuorumVerifier.verify, (MESSAGE, block_, proof)));
    }

    function _check(address checker, uint256 absent) private returns (uint256) {
        uint32 block_ = uint32(vm.getBlockNumber() - 1);
        return transact(
            address(this),
            checker,
            abi.encodeCall(
                SignatureChecker.checkSignatures,
                (MESSAGE, hex"00", block_, prove(MESSAGE, block_, _signers(absent), 1))
            )
        );
    }

    function _signers(uint256 absent) private pure returns (uint256) {
        return (1 << 12) - (1 << absent);
    }
}
