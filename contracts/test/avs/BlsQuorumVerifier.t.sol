// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

import {Bn254} from "../../src/avs/Bn254.sol";
import {BlsQuorumVerifier} from "../../src/avs/BlsQuorumVerifier.sol";
import {EigenRegistryCoordinator} from "../../src/avs/EigenLayer.sol";
import {IBlsQuorumVerifier} from "../../src/avs/IBlsQuorumVerifier.sol";
import {AllocationManager, SignatureChecker} from "./EigenLayer.sol";
import {QuorumTest} from "./QuorumTest.sol";

contract BlsQuorumVerifierTest is QuorumTest {
    bytes32 private constant MESSAGE = keccak256("a response");

    BlsQuorumVerifier private verifier;
    SignatureChecker private checker;
    uint32 private referenceBlock;

    function setUp() public {
        deployEigenLayer(2);
        addOperator(uint256(keccak256("one")), 100e18);
        addOperator(uint256(keccak256("two")), 200e18);
        addOperator(uint256(keccak256("three")), 300e18);
        addOperator(uint256(keccak256("four")), 400e18);
        verifier = newVerifier(67, 60, 0);
        checker = SignatureChecker(deployRecorded("SquaringTask", abi.encode(coordinator, uint32(30))));
        referenceBlock = uint32(vm.getBlockNumber());
        vm.roll(referenceBlock + 1);
        rememberKey(14, 2);
    }

    // ----------------------------------------------------------- differential

    /// @dev Every subset of signers: accepted exactly when the reference accepts and both thresholds are met.
    function test_agrees_with_the_reference_on_every_subset() public view {
        for (uint256 signers = 0; signers < 16; signers++) {
            IBlsQuorumVerifier.BlsProof memory proof = prove(MESSAGE, referenceBlock, signers, 2);
            (SignatureChecker.QuorumStakeTotals memory totals, bytes32 signatories) =
                checker.checkSignatures(MESSAGE, hex"0001", referenceBlock, proof);
            bool enough = totals.signedStakeForQuorum[0] * 100 >= uint256(totals.totalStakeForQuorum[0]) * 67
                && totals.signedStakeForQuorum[1] * 100 >= uint256(totals.totalStakeForQuorum[1]) * 60;

            try verifier.verify(MESSAGE, referenceBlock, abi.encode(proof)) returns (bytes32 ours) {
                assertTrue(enough, "accepted below a threshold");
                assertEq(ours, signatories, "commitment to the signatories");
            } catch (bytes memory reason) {
                assertFalse(enough, "refused at the thresholds");
                assertEq(bytes32(bytes4(reason)), bytes32(IBlsQuorumVerifier.ThresholdNotReached.selector), "reason");
            }
        }
    }

    /// @dev Operators in one quorum only, and one that joins after the reference block.
    function test_agrees_with_the_reference_on_mixed_membership() public {
        uint32[] memory first = new uint32[](1);
        addOperator(uint256(keccak256("only the first")), 500e18, first);
        uint32[] memory second = new uint32[](1);
        second[0] = 1;
        addOperator(uint256(keccak256("only the second")), 600e18, second);
        uint32 middle = uint32(vm.getBlockNumber() - 1);
        addOperator(uint256(keccak256("late")), 700e18);
        vm.roll(vm.getBlockNumber() + 5);

        uint256[] memory members = new uint256[](2);
        (members[0], members[1]) = (31, 47);
        for (uint256 signers = 1; signers < 64; signers += 3) {
            IBlsQuorumVerifier.BlsProof memory proof = prove(MESSAGE, middle, signers, members);
            (SignatureChecker.QuorumStakeTotals memory totals, bytes32 signatories) =
                checker.checkSignatures(MESSAGE, hex"0001", middle, proof);
            bool enough = totals.signedStakeForQuorum[0] * 100 >= uint256(totals.totalStakeForQuorum[0]) * 67
                && totals.signedStakeForQuorum[1] * 100 >= uint256(totals.totalStakeForQuorum[1]) * 60;
            try verifier.verify(MESSAGE, middle, abi.encode(proof)) returns (bytes32 ours) {
                assertTrue(enough, "accepted below a threshold");
                assertEq(ours, signatories, "commitment to the signatories");
            } catch {
                assertFalse(enough, "refused at the thresholds");
            }
        }
    }

    function test_fuzz_agrees_with_the_reference_on_damaged_proofs_of_a_proven_key(
        uint256 word,
        uint256 value,
        uint8 kind
    ) public {
        IBlsQuorumVerifier.G2Point memory key = prove(MESSAGE, referenceBlock, 14, 2).apkG2;
        verifier.proveKey(keyOf(14, 2), key);
        test_fuzz_agrees_with_the_reference_on_damaged_proofs(word, value, kind);
    }

    /// @dev Whatever word of a valid proof is changed, the two give the same verdict.
    function test_fuzz_agrees_with_the_reference_on_damaged_proofs(uint256 word, uint256 value, uint8 kind)
        public
        view
    {
        bytes memory proof = abi.encode(prove(MESSAGE, referenceBlock, 14, 2));
        word = bound(word, 1, proof.length / 32 - 1);
        if (kind % 3 == 0) value = bound(value, 0, 1024);
        assembly ("memory-safe") {
            let place := add(add(proof, 0x20), mul(word, 0x20))
            // A neighbouring value, a small one (offsets, lengths, indices), or any.
            if eq(mod(kind, 3), 1) { value := add(mload(place), 1) }
            mstore(place, value)
        }
        bytes memory ours = abi.encodeCall(verifier.verify, (MESSAGE, referenceBlock, proof));
        // The proof's own offset, relative to the reference's arguments.
        bytes memory theirs = abi.encodePacked(
            SignatureChecker.checkSignatures.selector,
            abi.encode(MESSAGE, uint256(128), uint256(referenceBlock), uint256(192), uint256(2), bytes32(hex"0001")),
            _tail(proof)
        );
        (bool accepted,) = address(verifier).staticcall{gas: 10_000_000}(ours);
        (bool reached, bytes memory result) = address(checker).staticcall{gas: 10_000_000}(theirs);
        if (reached) {
            (SignatureChecker.QuorumStakeTotals memory totals,) =
                abi.decode(result, (SignatureChecker.QuorumStakeTotals, bytes32));
            reached = totals.signedStakeForQuorum[0] * 100 >= uint256(totals.totalStakeForQuorum[0]) * 67
                && totals.signedStakeForQuorum[1] * 100 >= uint256(totals.totalStakeForQuorum[1]) * 60;
        }
        assertEq(accepted, reached, "verdict on a damaged proof");
    }

    // ------------------------------------------------------------- thresholds

    function test_refuses_when_only_one_quorum_reaches_its_threshold() public {
        // One operator holds most of quorum 0 and nothing of quorum 1.
        uint32[] memory first = new uint32[](1);
        addOperator(uint256(keccak256("whale")), 9000e18, first);
        uint32 block_ = uint32(vm.getBlockNumber());
        vm.roll(block_ + 1);
        uint256[] memory members = new uint256[](2);
        (members[0], members[1]) = (31, 15);

        IBlsQuorumVerifier.BlsProof memory proof = prove(MESSAGE, block_, 16 + 2, members);
        _refused(proof, block_, _thresholdNotReached(1, 200e18, 1000e18, 60));
        // The other way round: everybody but the whale.
        proof = prove(MESSAGE, block_, 15, members);
        _refused(proof, block_, _thresholdNotReached(0, 1000e18, 10000e18, 67));
        // Both.
        verifier.verify(MESSAGE, block_, abi.encode(prove(MESSAGE, block_, 16 + 8 + 4, members)));
    }

    function test_threshold_is_inclusive() public {
        // Signed: three and four, 700 of 1000.
        IBlsQuorumVerifier.BlsProof memory proof = prove(MESSAGE, referenceBlock, 12, 2);
        newVerifier(70, 70, 0).verify(MESSAGE, referenceBlock, abi.encode(proof));
        verifier = newVerifier(70, 71, 0);
        _refused(proof, referenceBlock, _thresholdNotReached(1, 700e18, 1000e18, 71));
        verifier = newVerifier(100, 100, 0);
        verifier.verify(MESSAGE, referenceBlock, abi.encode(prove(MESSAGE, referenceBlock, 15, 2)));
    }

    function test_refuses_zero_signers() public {
        verifier = newVerifier(1, 1, 0);
        _refused(prove(MESSAGE, referenceBlock, 0, 2), referenceBlock, _thresholdNotReached(0, 0, 1000e18, 1));
    }

    /// @dev Everybody left quorum 1: its key is the point at infinity and nothing is at stake there.
    function test_refuses_a_quorum_without_stake() public {
        uint32[] memory second = new uint32[](1);
        second[0] = 1;
        for (uint256 i = 0; i < operators.length; i++) {
            vm.prank(operators[i].account);
            allocationManager.deregisterFromOperatorSets(
                AllocationManager.DeregisterParams(operators[i].account, address(serviceManager), second)
            );
        }
        uint32 block_ = uint32(vm.getBlockNumber());
        vm.roll(block_ + 1);
        uint256[] memory members = new uint256[](2);
        members[0] = 15;
        _refused(
            prove(MESSAGE, block_, 15, members),
            block_,
            abi.encodeWithSelector(IBlsQuorumVerifier.NoStake.selector, 1, block_)
        );
    }

    // ------------------------------------------------------------ non-signers

    function test_refuses_unsorted_non_signers() public {
        IBlsQuorumVerifier.BlsProof memory proof = prove(MESSAGE, referenceBlock, 12, 2);
        (proof.nonSignerPubkeys[0], proof.nonSignerPubkeys[1]) = (proof.nonSignerPubkeys[1], proof.nonSignerPubkeys[0]);
        _refused(
            proof,
            referenceBlock,
            abi.encodeWithSelector(
                IBlsQuorumVerifier.NonSignersNotAscending.selector,
                _id(proof.nonSignerPubkeys[0]),
                _id(proof.nonSignerPubkeys[1])
            )
        );
    }

    function test_refuses_a_repeated_non_signer() public {
        IBlsQuorumVerifier.BlsProof memory proof = prove(MESSAGE, referenceBlock, 12, 2);
        proof.nonSignerPubkeys[1] = proof.nonSignerPubkeys[0];
        bytes32 id = _id(proof.nonSignerPubkeys[0]);
        _refused(
            proof, referenceBlock, abi.encodeWithSelector(IBlsQuorumVerifier.NonSignersNotAscending.selector, id, id)
        );
    }

    function test_refuses_a_non_signer_nobody_knows() public {
        IBlsQuorumVerifier.BlsProof memory proof = prove(MESSAGE, referenceBlock, 14, 2);
        proof.nonSignerPubkeys[0] = multiply(IBlsQuorumVerifier.G1Point(1, 2), 12345);
        _refused(
            proof,
            referenceBlock,
            abi.encodeWithSelector(
                IBlsQuorumVerifier.UnknownNonSigner.selector, _id(proof.nonSignerPubkeys[0]), 0, referenceBlock
            )
        );
    }

    function test_refuses_too_many_non_signers() public {
        IBlsQuorumVerifier.BlsProof memory proof = prove(MESSAGE, referenceBlock, 15, 2);
        proof.nonSignerPubkeys = new IBlsQuorumVerifier.G1Point[](401);
        _refused(proof, referenceBlock, abi.encodeWithSelector(IBlsQuorumVerifier.TooManyNonSigners.selector, 401, 400));
    }

    function test_refuses_non_signer_indices_that_are_missing() public {
        IBlsQuorumVerifier.BlsProof memory proof = prove(MESSAGE, referenceBlock, 14, 2);
        proof.nonSignerStakeIndices[1] = new uint32[](0);
        _refused(proof, referenceBlock, abi.encodeWithSelector(IBlsQuorumVerifier.WrongProofLength.selector, 0, 1));

        proof = prove(MESSAGE, referenceBlock, 14, 2);
        proof.nonSignerQuorumBitmapIndices = new uint32[](2);
        _refused(proof, referenceBlock, abi.encodeWithSelector(IBlsQuorumVerifier.WrongProofLength.selector, 2, 1));
    }

    // ------------------------------------------------------- indices and keys

    function test_refuses_history_entries_of_other_blocks() public {
        // The registries have an entry per block in which somebody joined; the last one is in force.
        IBlsQuorumVerifier.BlsProof memory proof = prove(MESSAGE, referenceBlock, 15, 2);
        proof.quorumApkIndices[1] -= 1;
        _refused(proof, referenceBlock, _registryRefused(verifier.blsApkRegistry(), 1, proof.quorumApkIndices[1]));

        proof = prove(MESSAGE, referenceBlock, 15, 2);
        proof.totalStakeIndices[0] += 1;
        _refused(proof, referenceBlock, _registryRefused(verifier.stakeRegistry(), 0, proof.totalStakeIndices[0]));

        proof = prove(MESSAGE, referenceBlock, 14, 2);
        proof.nonSignerStakeIndices[0][0] = 7;
        _refused(proof, referenceBlock, _registryRefused(verifier.stakeRegistry(), 0, 7));

        proof = prove(MESSAGE, referenceBlock, 14, 2);
        proof.nonSignerQuorumBitmapIndices[0] = 3;
        _refused(
            proof,
            referenceBlock,
            abi.encodeWithSelector(
                IBlsQuorumVerifier.UnknownNonSigner.selector, _id(proof.nonSignerPubkeys[0]), 3, referenceBlock
            )
        );
    }

    function test_refuses_entries_that_were_in_force_at_another_block() public {
        IBlsQuorumVerifier.BlsProof memory proof = prove(MESSAGE, referenceBlock, 15, 2);
        uint32 later = referenceBlock + 10;
        vm.roll(later);
        addOperator(uint256(keccak256("five")), 500e18);
        vm.roll(vm.getBlockNumber() + 1);
        // Still right for the block it is about.
        verifier.verify(MESSAGE, referenceBlock, abi.encode(proof));
        uint32 now_ = uint32(vm.getBlockNumber() - 1);
        vm.expectRevert(
            abi.encodeWithSelector(
                IBlsQuorumVerifier.RegistryRefused.selector,
                verifier.blsApkRegistry(),
                0,
                proof.quorumApkIndices[0],
                now_
            )
        );
        verifier.verify(MESSAGE, now_, abi.encode(proof));
    }

    function test_refuses_another_key_for_a_quorum() public {
        IBlsQuorumVerifier.BlsProof memory proof = prove(MESSAGE, referenceBlock, 15, 2);
        bytes32 actual = bytes24(_id(proof.quorumApks[1]));
        proof.quorumApks[1] = multiply(IBlsQuorumVerifier.G1Point(1, 2), 5);
        _refused(
            proof,
            referenceBlock,
            abi.encodeWithSelector(
                IBlsQuorumVerifier.WrongQuorumKey.selector, 1, bytes32(bytes24(_id(proof.quorumApks[1]))), actual
            )
        );
    }

    function test_refuses_a_reference_block_that_is_not_past() public {
        bytes memory proof = abi.encode(prove(MESSAGE, referenceBlock, 15, 2));
        uint32 present = uint32(vm.getBlockNumber());
        vm.expectRevert(
            abi.encodeWithSelector(IBlsQuorumVerifier.ReferenceBlockNotPast.selector, present, uint256(present))
        );
        verifier.verify(MESSAGE, present, proof);
    }

    // -------------------------------------------------------------- signature

    function test_refuses_a_signature_on_something_else() public {
        bytes memory proof = abi.encode(prove(MESSAGE, referenceBlock, 15, 2));
        bytes32 other = keccak256("another response");
        vm.expectRevert(abi.encodeWithSelector(IBlsQuorumVerifier.InvalidSignature.selector, other));
        verifier.verify(other, referenceBlock, proof);
    }

    function test_refuses_a_signature_of_fewer_than_claimed() public {
        IBlsQuorumVerifier.BlsProof memory proof = prove(MESSAGE, referenceBlock, 15, 2);
        IBlsQuorumVerifier.BlsProof memory partially = prove(MESSAGE, referenceBlock, 14, 2);
        proof.sigma = partially.sigma;
        _refused(proof, referenceBlock, abi.encodeWithSelector(IBlsQuorumVerifier.InvalidSignature.selector, MESSAGE));
        // Nor with the key that fits the signature: it is not the signers'.
        proof.apkG2 = partially.apkG2;
        _refused(proof, referenceBlock, abi.encodeWithSelector(IBlsQuorumVerifier.InvalidSignature.selector, MESSAGE));
    }

    function test_refuses_points_off_their_curve() public {
        IBlsQuorumVerifier.BlsProof memory proof = prove(MESSAGE, referenceBlock, 15, 2);
        proof.sigma.Y += 1;
        _refused(proof, referenceBlock, abi.encodeWithSelector(IBlsQuorumVerifier.InvalidPoint.selector));

        proof = prove(MESSAGE, referenceBlock, 15, 2);
        proof.apkG2.X[1] += 1;
        _refused(proof, referenceBlock, abi.encodeWithSelector(IBlsQuorumVerifier.InvalidPoint.selector));

        // The point at infinity is a point, but nobody's signature.
        proof = prove(MESSAGE, referenceBlock, 15, 2);
        proof.sigma = IBlsQuorumVerifier.G1Point(0, 0);
        _refused(proof, referenceBlock, abi.encodeWithSelector(IBlsQuorumVerifier.InvalidSignature.selector, MESSAGE));
    }

    // ------------------------------------------------------------------ roots

    function test_fuzz_roots_give_the_same_point(bytes32 message) public view {
        IBlsQuorumVerifier.BlsProof memory proof = prove(message, referenceBlock, 14, 2);
        bytes32 signatories = verifier.verify(message, referenceBlock, abi.encode(proof));
        assertEq(verifier.verify(message, referenceBlock, withRoots(message, proof)), signatories, "signatories");
    }

    /// @dev Nothing else passes: neither the negated point, nor a later x, nor more or fewer tries.
    function test_refuses_wrong_roots() public {
        // On its third try on the curve.
        bytes32 message = MESSAGE;
        while (rootsOf(message).length != 3) {
            message = keccak256(abi.encode(message));
        }
        IBlsQuorumVerifier.BlsProof memory proof = prove(message, referenceBlock, 15, 2);
        bytes memory good = withRoots(message, proof);
        verifier.verify(message, referenceBlock, good);
        for (uint256 i = 1; i <= 3; i++) {
            bytes memory bad = withRoots(message, proof);
            assembly ("memory-safe") {
                let place := add(add(bad, 0x20), mul(i, 0x20))
                mstore(place, add(mload(place), 1))
            }
            vm.expectRevert(abi.encodeWithSelector(IBlsQuorumVerifier.InvalidRoots.selector, 3));
            verifier.verify(message, referenceBlock, bad);
        }
        // A root of -y would make the negated point: there is none, y being a square and -1 none. Its own does not do.
        bytes memory negated = withRoots(message, proof);
        (, uint256 y) = Bn254.hashToG1(message);
        assembly ("memory-safe") {
            mstore(add(negated, 0x80), y)
        }
        vm.expectRevert(abi.encodeWithSelector(IBlsQuorumVerifier.InvalidRoots.selector, 3));
        verifier.verify(message, referenceBlock, negated);
        // Roots of another message.
        vm.expectRevert();
        verifier.verify(MESSAGE, referenceBlock, good);
    }

    // ------------------------------------------------------------ proof's form

    function test_refuses_malformed_proofs() public {
        vm.expectRevert(IBlsQuorumVerifier.MalformedProof.selector);
        verifier.verify(MESSAGE, referenceBlock, "");
        vm.expectRevert(IBlsQuorumVerifier.MalformedProof.selector);
        verifier.verify(MESSAGE, referenceBlock, new bytes(13 * 32));

        // A proof for one quorum does not pass for two.
        IBlsQuorumVerifier.BlsProof memory proof = prove(MESSAGE, referenceBlock, 15, 1);
        _refused(proof, referenceBlock, abi.encodeWithSelector(IBlsQuorumVerifier.WrongProofLength.selector, 1, 2));
        proof = prove(MESSAGE, referenceBlock, 15, 2);
        proof.totalStakeIndices = new uint32[](3);
        _refused(proof, referenceBlock, abi.encodeWithSelector(IBlsQuorumVerifier.WrongProofLength.selector, 3, 2));
    }

    // ----------------------------------------------------------- configuration

    function test_refuses_configurations_that_cannot_work() public {
        uint8[] memory none = new uint8[](0);
        uint8[] memory one = new uint8[](1);
        uint8[] memory two = new uint8[](2);
        EigenRegistryCoordinator registry = EigenRegistryCoordinator(address(coordinator));

        vm.expectRevert(abi.encodeWithSelector(IBlsQuorumVerifier.QuorumCountOutOfRange.selector, 0, 8));
        new BlsQuorumVerifier(registry, none, none, 0);
        vm.expectRevert(abi.encodeWithSelector(IBlsQuorumVerifier.QuorumCountOutOfRange.selector, 1, 2));
        new BlsQuorumVerifier(registry, two, one, 0);
        vm.expectRevert(abi.encodeWithSelector(IBlsQuorumVerifier.ThresholdOutOfRange.selector, 0, 0));
        new BlsQuorumVerifier(registry, one, one, 0);
        uint8[] memory thresholds = new uint8[](2);
        (thresholds[0], thresholds[1]) = (100, 101);
        vm.expectRevert(abi.encodeWithSelector(IBlsQuorumVerifier.QuorumsNotAscending.selector, 0, 0));
        new BlsQuorumVerifier(registry, two, thresholds, 0);
        two[1] = 1;
        vm.expectRevert(abi.encodeWithSelector(IBlsQuorumVerifier.ThresholdOutOfRange.selector, 1, 101));
        new BlsQuorumVerifier(registry, two, thresholds, 0);
        two[1] = 2;
        vm.expectRevert(abi.encodeWithSelector(IBlsQuorumVerifier.UnknownQuorum.selector, 2, 2));
        new BlsQuorumVerifier(registry, two, thresholds, 0);
    }

    function test_names_its_configuration() public view {
        (uint8[] memory numbers, uint8[] memory thresholds) = verifier.quorums();
        assertEq(keccak256(abi.encode(numbers)), keccak256(abi.encode([uint256(32), 2, 0, 1])), "quorum numbers");
        assertEq(keccak256(abi.encode(thresholds)), keccak256(abi.encode([uint256(32), 2, 67, 60])), "thresholds");
        assertEq(verifier.registryCoordinator(), address(coordinator), "coordinator");
    }

    // ---------------------------------------------------------------- helpers

    function _thresholdNotReached(uint8 quorum, uint256 signed, uint256 total, uint8 threshold)
        private
        pure
        returns (bytes memory)
    {
        return abi.encodeWithSelector(IBlsQuorumVerifier.ThresholdNotReached.selector, quorum, signed, total, threshold);
    }

    function _refused(IBlsQuorumVerifier.BlsProof memory proof, uint32 block_, bytes memory reason) private {
        vm.expectRevert(reason);
        verifier.verify{gas: 10_000_000}(MESSAGE, block_, abi.encode(proof));
    }

    function _registryRefused(address registry, uint8 quorum, uint32 index) private view returns (bytes memory) {
        return
            abi.encodeWithSelector(IBlsQuorumVerifier.RegistryRefused.selector, registry, quorum, index, referenceBlock);
    }

    function _id(IBlsQuorumVerifier.G1Point memory key) private pure returns (bytes32) {
        return keccak256(abi.encode(key.X, key.Y));
    }

    /// @dev The struct of `abi.encode(proof)` without its offset.
    function _tail(bytes memory proof) private pure returns (bytes memory tail) {
        tail = new bytes(proof.length - 32);
        for (uint256 i = 0; i < tail.length; i++) {
            tail[i] = proof[i + 32];
        }
    }
}
