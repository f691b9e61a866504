// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

import {BlsQuorumVerifier} from "../../src/avs/BlsQuorumVerifier.sol";
import {IBlsQuorumVerifier} from "../../src/avs/IBlsQuorumVerifier.sol";
import {AllocationManager, DelegationManager, RegistryCoordinator} from "./EigenLayer.sol";
import {G2} from "./G2.sol";
import {QuorumTest} from "./QuorumTest.sol";

/// @dev What the registry of keys says, from its published ABI.
interface KeyRegistryErrors {
    error ZeroPubKey();
    error BLSPubkeyAlreadyRegistered();
    error InvalidBLSSignatureOrPrivateKey();
}

/// @notice Where keys come from: operators register theirs with EigenLayer, anyone proves that a sum of them is one key.
contract AggregateKeysTest is QuorumTest {
    bytes32 private constant MESSAGE = keccak256("a response");
    uint256 private constant P = 0x30644e72e131a029b85045b68181585d97816a916871ca8d3c208c16d87cfd47;

    BlsQuorumVerifier private verifier;
    uint32 private referenceBlock;

    function setUp() public {
        deployEigenLayer(1);
        addOperator(uint256(keccak256("one")), 100e18);
        addOperator(uint256(keccak256("two")), 200e18);
        addOperator(uint256(keccak256("three")), 300e18);
        verifier = newVerifier(50, 0);
        referenceBlock = uint32(vm.getBlockNumber());
        vm.roll(referenceBlock + 1);

        address manager = core_("delegation_manager");
        vm.prank(makeAddress("rogue"));
        DelegationManager(manager).registerAsOperator(address(0), 0, "");
    }

    // ------------------------------------------------------------ proven keys

    function test_a_proven_key_changes_nothing_but_the_gas() public {
        IBlsQuorumVerifier.BlsProof memory proof = prove(MESSAGE, referenceBlock, 6, 1);
        IBlsQuorumVerifier.G1Point memory key = keyOf(6, 1);
        bytes memory call = abi.encodeCall(verifier.verify, (MESSAGE, referenceBlock, abi.encode(proof)));
        bytes32 signatories = verifier.verify(MESSAGE, referenceBlock, abi.encode(proof));
        uint256 before = transact(address(this), address(verifier), call);
        assertFalse(verifier.isProvenKey(key, proof.apkG2), "proven already");

        bytes32 hash = keccak256(abi.encode(key, proof.apkG2));
        vm.expectEmit(address(verifier));
        emit IBlsQuorumVerifier.KeyProven(hash);
        vm.prank(makeAddress("anybody"));
        verifier.proveKey(key, proof.apkG2);
        vm.snapshotGasLastCall("Market", "proveKey");
        assertTrue(verifier.isProvenKey(key, proof.apkG2), "not proven");

        assertEq(verifier.verify(MESSAGE, referenceBlock, abi.encode(proof)), signatories, "signatories");
        assertLe(transact(address(this), address(verifier), call) + 12_000, before, "gas");
    }

    function test_a_proven_key_does_not_sign_by_itself() public {
        IBlsQuorumVerifier.BlsProof memory proof = prove(MESSAGE, referenceBlock, 6, 1);
        verifier.proveKey(keyOf(6, 1), proof.apkG2);

        proof.sigma = prove(keccak256("another response"), referenceBlock, 6, 1).sigma;
        _refused(proof, abi.encodeWithSelector(IBlsQuorumVerifier.InvalidSignature.selector, MESSAGE));
        proof.sigma = IBlsQuorumVerifier.G1Point(0, 0);
        _refused(proof, abi.encodeWithSelector(IBlsQuorumVerifier.InvalidSignature.selector, MESSAGE));
        proof.sigma = IBlsQuorumVerifier.G1Point(1, 1);
        _refused(proof, abi.encodeWithSelector(IBlsQuorumVerifier.InvalidPoint.selector));
    }

    /// @dev Neither other signers' proven key, nor a stranger's: the G1 key is always that of the registries.
    function test_a_proven_key_of_others_does_not_pass_for_the_signers() public {
        IBlsQuorumVerifier.BlsProof memory two = prove(MESSAGE, referenceBlock, 6, 1);
        IBlsQuorumVerifier.BlsProof memory three = prove(MESSAGE, referenceBlock, 7, 1);
        verifier.proveKey(keyOf(6, 1), two.apkG2);
        verifier.proveKey(keyOf(7, 1), three.apkG2);
        // "Everybody signed", with what only two of them signed.
        (three.apkG2, three.sigma) = (two.apkG2, two.sigma);
        _refused(three, abi.encodeWithSelector(IBlsQuorumVerifier.InvalidSignature.selector, MESSAGE));

        // A key that its prover owns.
        (three.apkG2.X, three.apkG2.Y) = G2.multiply(5);
        verifier.proveKey(multiply(IBlsQuorumVerifier.G1Point(1, 2), 5), three.apkG2);
        three.sigma = multiply(_messagePoint(two), 5);
        _refused(three, abi.encodeWithSelector(IBlsQuorumVerifier.InvalidSignature.selector, MESSAGE));
    }

    function test_refuses_to_prove_what_is_not_one_key() public {
        IBlsQuorumVerifier.G1Point memory key = keyOf(6, 1);
        IBlsQuorumVerifier.G2Point memory keyG2 = prove(MESSAGE, referenceBlock, 6, 1).apkG2;

        IBlsQuorumVerifier.G1Point memory another = keyOf(7, 1);
        vm.expectRevert(IBlsQuorumVerifier.KeysDiffer.selector);
        verifier.proveKey(another, keyG2);
        // Negated, the point has the same X.
        vm.expectRevert(IBlsQuorumVerifier.KeysDiffer.selector);
        verifier.proveKey(IBlsQuorumVerifier.G1Point(key.X, P - key.Y), keyG2);
        IBlsQuorumVerifier.G2Point memory infinity;
        vm.expectRevert(IBlsQuorumVerifier.KeysDiffer.selector);
        verifier.proveKey(key, infinity);
        vm.expectRevert(IBlsQuorumVerifier.InvalidPoint.selector);
        verifier.proveKey(IBlsQuorumVerifier.G1Point(0, 0), infinity);

        _invalid(IBlsQuorumVerifier.G1Point(key.X, key.Y + 1), keyG2);
        // The same point by another name would be another entry.
        _invalid(IBlsQuorumVerifier.G1Point(key.X + P, key.Y), keyG2);
        keyG2.X[1] += 1;
        _invalid(key, keyG2);
        // On the curve of G2 but not in the group.
        keyG2 = IBlsQuorumVerifier.G2Point(
            [uint256(0), 1],
            [
                0x0d1271953ed9ea0836846e70a1934187998c7f790cb4d7511b7f8da82de048a4,
                0x2869111d5381f072f8e2728fdb825a51aadd70e52c9830e9ab4b871c0531f1bb
            ]
        );
        _invalid(key, keyG2);
        assertFalse(verifier.isProvenKey(key, keyG2), "proven");
    }

    // ------------------------------------------------------------ registration

    function test_refuses_a_zero_key() public {
        RegistryCoordinator.PubkeyRegistrationParams memory nothing;
        _registrationRefused(nothing, KeyRegistryErrors.ZeroPubKey.selector);
    }

    /// @dev A key that would cancel the others' keys in a sum: its owner does not know the secret, and cannot sign with it.
    function test_refuses_a_rogue_key() public {
        uint256 known = uint256(keccak256("known"));
        IBlsQuorumVerifier.G1Point memory others = keyOf(7, 1);
        RegistryCoordinator.PubkeyRegistrationParams memory parameters = _parameters("rogue", known);
        // known * G1 - others: with everybody's "signature" being the rogue's own.
        parameters.pubkeyG1 = _add(parameters.pubkeyG1, IBlsQuorumVerifier.G1Point(others.X, P - others.Y));
        _registrationRefused(parameters, KeyRegistryErrors.InvalidBLSSignatureOrPrivateKey.selector);
        // Nor with the fitting key in G2, which can be computed from public keys.
        IBlsQuorumVerifier.G2Point memory othersG2 = prove(MESSAGE, referenceBlock, 7, 1).apkG2;
        (parameters.pubkeyG2.X, parameters.pubkeyG2.Y) =
            G2.subtract(parameters.pubkeyG2.X, parameters.pubkeyG2.Y, othersG2.X, othersG2.Y);
        verifier.proveKey(parameters.pubkeyG1, parameters.pubkeyG2);
        _registrationRefused(parameters, KeyRegistryErrors.InvalidBLSSignatureOrPrivateKey.selector);
    }

    /// @dev Somebody else's proof of possession, seen in a transaction before it was mined.
    function test_refuses_a_proof_of_possession_of_somebody_else() public {
        _registrationRefused(
            _parameters("somebody else", uint256(keccak256("their secret"))),
            KeyRegistryErrors.InvalidBLSSignatureOrPrivateKey.selector
        );
    }

    function test_refuses_keys_that_differ_in_the_two_groups() public {
        RegistryCoordinator.PubkeyRegistrationParams memory parameters = _parameters("rogue", 12345);
        (parameters.pubkeyG2.X, parameters.pubkeyG2.Y) = G2.multiply(54321);
        _registrationRefused(parameters, KeyRegistryErrors.InvalidBLSSignatureOrPrivateKey.selector);
    }

    function test_refuses_a_key_that_is_registered() public {
        _registrationRefused(
            _parameters("rogue", operators[0].secret), KeyRegistryErrors.BLSPubkeyAlreadyRegistered.selector
        );
    }

    // ---------------------------------------------------------------- private

    function _refused(IBlsQuorumVerifier.BlsProof memory proof, bytes memory reason) private {
        vm.expectRevert(reason);
        verifier.verify{gas: 10_000_000}(MESSAGE, referenceBlock, abi.encode(proof));
    }

    function _invalid(IBlsQuorumVerifier.G1Point memory key, IBlsQuorumVerifier.G2Point memory keyG2) private {
        vm.expectRevert(IBlsQuorumVerifier.InvalidPoint.selector);
        verifier.proveKey{gas: 1_000_000}(key, keyG2);
    }

    /// @dev H(message): the signature without the secret.
    function _messagePoint(IBlsQuorumVerifier.BlsProof memory proof)
        private
        view
        returns (IBlsQuorumVerifier.G1Point memory)
    {
        uint256 order = 0x30644e72e131a029b85045b68181585d2833e84879b9709143e1f593f0000001;
        (, bytes memory inverse) = address(5).staticcall(abi.encode(32, 32, 32, secretOf(6), order - 2, order));
        return multiply(proof.sigma, abi.decode(inverse, (uint256)));
    }

    /// @dev What the named account would register for this secret.
    function _parameters(string memory name, uint256 secret)
        private
        returns (RegistryCoordinator.PubkeyRegistrationParams memory parameters)
    {
        parameters.pubkeyRegistrationSignature =
            multiply(coordinator.pubkeyRegistrationMessageHash(makeAddress(name)), secret);
        parameters.pubkeyG1 = multiply(IBlsQuorumVerifier.G1Point(1, 2), secret);
        (parameters.pubkeyG2.X, parameters.pubkeyG2.Y) = G2.multiply(secret);
    }

    function _registrationRefused(RegistryCoordinator.PubkeyRegistrationParams memory parameters, bytes4 reason)
        private
    {
        address rogue = makeAddress("rogue");
        vm.expectRevert(reason);
        vm.prank(rogue);
        allocationManager.registerForOperatorSets(
            rogue,
            AllocationManager.RegisterParams(
                address(serviceManager), new uint32[](1), abi.encode(uint8(0), "http://127.0.0.1:1", parameters)
            )
        );
    }

    function _add(IBlsQuorumVerifier.G1Point memory a, IBlsQuorumVerifier.G1Point memory b)
        private
        view
        returns (IBlsQuorumVerifier.G1Point memory)
    {
        (bool success, bytes memory result) = address(6).staticcall(abi.encode(a, b));
        require(success, "ecAdd failed");
        return abi.decode(result, (IBlsQuorumVerifier.G1Point));
    }
}
