// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

import {Bn254} from "./Bn254.sol";
import {EigenBlsApkRegistry, EigenRegistryCoordinator, EigenStakeRegistry} from "./EigenLayer.sol";
import {IBlsQuorumVerifier} from "./IBlsQuorumVerifier.sol";
import {IQuorumVerifier} from "./IQuorumVerifier.sol";

/// @title Quorum verifier on EigenLayer's middleware
/// @notice Has no storage and no owner: other quorums or thresholds are another verifier, named to the task manager.
/// @dev The middleware's registries stand behind proxies, so every word read costs a call: what is read is exactly what
/// `checkSignatures` reads, and nothing else.
contract BlsQuorumVerifier is IBlsQuorumVerifier {
    using Bn254 for Bn254.G1;

    /// @dev Who did not sign: the sum of their keys, their operator ids, the quorums each was in at the reference block.
    struct NonSigners {
        Bn254.G1 keys;
        bytes32[] operatorIds;
        uint256[] bitmaps;
    }

    /// @dev Every non-signer costs gas: this many, two full quorums of 200, cost about 7 million.
    uint256 private constant MAXIMUM_NON_SIGNERS = 400;
    uint256 private constant MAXIMUM_QUORUMS = 8;

    /// @inheritdoc IBlsQuorumVerifier
    address public immutable registryCoordinator;
    /// @inheritdoc IBlsQuorumVerifier
    address public immutable stakeRegistry;
    /// @inheritdoc IBlsQuorumVerifier
    address public immutable blsApkRegistry;
    /// @inheritdoc IBlsQuorumVerifier
    uint32 public immutable maximumStakeAge;

    uint256 private immutable _quorumCount;
    /// @dev Bit q is set for quorum number q.
    uint256 private immutable _quorumBitmap;
    /// @dev Per quorum, from the lowest bits: number 8, threshold 8.
    uint256 private immutable _packedQuorums;

    /// @param numbers Strictly ascending quorum numbers that exist.
    /// @param thresholds Percentage of each quorum's stake that must sign.
    constructor(
        EigenRegistryCoordinator coordinator,
        uint8[] memory numbers,
        uint8[] memory thresholds,
        uint32 stakeAge
    ) {
        require(
            numbers.length != 0 && numbers.length <= MAXIMUM_QUORUMS,
            QuorumCountOutOfRange(numbers.length, MAXIMUM_QUORUMS)
        );
        require(thresholds.length == numbers.length, QuorumCountOutOfRange(thresholds.length, numbers.length));

        uint8 existing = coordinator.quorumCount();
        uint256 bitmap;
        uint256 packed;
        for (uint256 i = 0; i < numbers.length; i++) {
            require(i == 0 || numbers[i] > numbers[i - 1], QuorumsNotAscending(numbers[i == 0 ? 0 : i - 1], numbers[i]));
            require(numbers[i] < existing, UnknownQuorum(numbers[i], existing));
            require(thresholds[i] >= 1 && thresholds[i] <= 100, ThresholdOutOfRange(numbers[i], thresholds[i]));
            bitmap |= 1 << numbers[i];
            packed |= (uint256(thresholds[i]) << 8 | numbers[i]) << (16 * i);
        }

        registryCoordinator = address(coordinator);
        stakeRegistry = coordinator.stakeRegistry();
        blsApkRegistry = coordinator.blsApkRegistry();
        maximumStakeAge = stakeAge;
        _quorumCount = numbers.length;
        _quorumBitmap = bitmap;
        _packedQuorums = packed;
    }

    /// @inheritdoc IBlsQuorumVerifier
    function quorums() external view returns (uint8[] memory numbers, uint8[] memory thresholds) {
        numbers = new uint8[](_quorumCount);
        thresholds = new uint8[](_quorumCount);
        for (uint256 i = 0; i < _quorumCount; i++) {
            (numbers[i], thresholds[i]) = _quorum(i);
        }
    }

    /// @inheritdoc IQuorumVerifier
    function verify(bytes32 message, uint32 blockReference, bytes calldata proof)
        external
        view
        returns (bytes32 signatories)
    {
        require(blockReference < block.number, ReferenceBlockNotPast(blockReference, block.number));
        BlsProof calldata given = _decode(proof);

        // The signers' key is the sum of the quorums' keys without the keys of those who did not sign.
        NonSigners memory absent = _nonSigners(given, blockReference);
        signatories = keccak256(abi.encodePacked(blockReference, absent.operatorIds));
        Bn254.G1 memory key = absent.keys;
        key.negate();
        for (uint256 i = 0; i < _quorumCount; i++) {
            _addQuorumKey(given, blockReference, i, key);
            _checkStake(given, blockReference, i, absent);
        }
        require(key.x != 0 || key.y != 0, NobodySigned());

        _checkSignature(message, key, given);
    }

    // ------------------------------------------------------------------ proof

    /// @dev The proof is read where it lies in calldata; Solidity checks every array against the end of calldata.
    function _decode(bytes calldata proof) private view returns (BlsProof calldata given) {
        // Twelve words are the struct's head; its own offset comes first.
        require(proof.length >= 13 * 32 && bytes32(proof[:32]) == bytes32(uint256(32)), MalformedProof());
        assembly ("memory-safe") {
            given := add(proof.offset, 0x20)
        }
        uint256 count = _quorumCount;
        require(given.quorumApks.length == count, WrongProofLength(given.quorumApks.length, count));
        require(given.quorumApkIndices.length == count, WrongProofLength(given.quorumApkIndices.length, count));
        require(given.totalStakeIndices.length == count, WrongProofLength(given.totalStakeIndices.length, count));
        require(
            given.nonSignerStakeIndices.length == count, WrongProofLength(given.nonSignerStakeIndices.length, count)
        );

        uint256 nonSigners = given.nonSignerPubkeys.length;
        require(nonSigners <= MAXIMUM_NON_SIGNERS, TooManyNonSigners(nonSigners, MAXIMUM_NON_SIGNERS));
        require(
            given.nonSignerQuorumBitmapIndices.length == nonSigners,
            WrongProofLength(given.nonSignerQuorumBitmapIndices.length, nonSigners)
        );
    }

    // ------------------------------------------------------------ non-signers

    /// @dev Sum of the non-signers' keys, each as often as quorums count it, their operator ids, and the quorums each was in.
    function _nonSigners(BlsProof calldata given, uint32 blockReference)
        private
        view
        returns (NonSigners memory absent)
    {
        uint256 count = given.nonSignerPubkeys.length;
        absent.operatorIds = new bytes32[](count);
        absent.bitmaps = new uint256[](count);
        bytes32 previous;
        for (uint256 i = 0; i < count; i++) {
            G1Point calldata key = given.nonSignerPubkeys[i];
            bytes32 operatorId = _hash(key.X, key.Y);
            require(operatorId > previous, NonSignersNotAscending(previous, operatorId));
            previous = operatorId;
            absent.operatorIds[i] = operatorId;

            uint256 bitmap = _bitmap(operatorId, blockReference, given.nonSignerQuorumBitmapIndices[i]);
            absent.bitmaps[i] = bitmap;
            // At most MAXIMUM_QUORUMS additions, each far cheaper than a multiplication.
            for (uint256 shared = bitmap & _quorumBitmap; shared != 0; shared &= shared - 1) {
                require(absent.keys.add(key.X, key.Y), InvalidPoint());
            }
        }
    }

    function _bitmap(bytes32 operatorId, uint32 blockReference, uint32 index) private view returns (uint256 bitmap) {
        bool answered;
        (answered, bitmap) = _read(
            registryCoordinator,
            EigenRegistryCoordinator.getQuorumBitmapAtBlockNumberByIndex.selector,
            3,
            uint256(operatorId),
            blockReference,
            index,
            0
        );
        require(answered, UnknownNonSigner(operatorId, index, blockReference));
    }

    // ---------------------------------------------------------------- quorums

    /// @dev Adds the quorum's aggregate key, which must be the one its registry recorded.
    function _addQuorumKey(BlsProof calldata given, uint32 blockReference, uint256 i, Bn254.G1 memory key)
        private
        view
    {
        (uint8 quorum,) = _quorum(i);
        uint32 index = given.quorumApkIndices[i];
        (bool answered, uint256 actual) = _read(
            blsApkRegistry,
            EigenBlsApkRegistry.getApkHashAtBlockNumberAndIndex.selector,
            3,
            quorum,
            blockReference,
            index,
            0
        );
        require(answered, RegistryRefused(blsApkRegistry, quorum, index, blockReference));

        uint256 x = given.quorumApks[i].X;
        uint256 y = given.quorumApks[i].Y;
        // The registry keeps 24 bytes of the hash.
        bytes32 hash = bytes24(_hash(x, y));
        require(hash == bytes32(actual), WrongQuorumKey(quorum, hash, bytes32(actual)));
        require(key.add(x, y), InvalidPoint());
    }

    /// @dev The quorum's stake without that of its non-signers must reach the threshold.
    function _checkStake(BlsProof calldata given, uint32 blockReference, uint256 i, NonSigners memory absent)
        private
        view
    {
        (uint8 quorum, uint8 threshold) = _quorum(i);
        if (maximumStakeAge != 0) _checkStakeAge(quorum, blockReference);

        uint256 total = _totalStake(quorum, blockReference, given.totalStakeIndices[i]);
        require(total != 0, NoStake(quorum, blockReference));

        uint256 signed = total;
        uint32[] calldata indices = given.nonSignerStakeIndices[i];
        uint256 used;
        for (uint256 j = 0; j < absent.operatorIds.length; j++) {
            if (absent.bitmaps[j] >> quorum & 1 == 0) continue;
            require(used < indices.length, WrongProofLength(indices.length, used + 1));
            signed -= _stake(quorum, blockReference, absent.operatorIds[j], indices[used]);
            used++;
        }

        // Checked at construction too; a threshold outside 1 to 100 would accept everything or nothing.
        require(threshold >= 1 && threshold <= 100, ThresholdOutOfRange(quorum, threshold));
        require(signed * 100 >= total * threshold, ThresholdNotReached(quorum, signed, total, threshold));
    }

    function _checkStakeAge(uint8 quorum, uint32 blockReference) private view {
        (bool answered, uint256 refreshedAt) =
            _read(registryCoordinator, EigenRegistryCoordinator.quorumUpdateBlockNumber.selector, 1, quorum, 0, 0, 0);
        require(answered, RegistryRefused(registryCoordinator, quorum, 0, blockReference));
        require(
            refreshedAt + maximumStakeAge >= blockReference,
            StakeTooOld(quorum, refreshedAt, blockReference, maximumStakeAge)
        );
    }

    function _totalStake(uint8 quorum, uint32 blockReference, uint32 index) private view returns (uint256 stake) {
        bool answered;
        (answered, stake) = _read(
            stakeRegistry,
            EigenStakeRegistry.getTotalStakeAtBlockNumberFromIndex.selector,
            3,
            quorum,
            blockReference,
            index,
            0
        );
        require(answered, RegistryRefused(stakeRegistry, quorum, index, blockReference));
    }

    function _stake(uint8 quorum, uint32 blockReference, bytes32 operatorId, uint32 index)
        private
        view
        returns (uint256 stake)
    {
        bool answered;
        (answered, stake) = _read(
            stakeRegistry,
            EigenStakeRegistry.getStakeAtBlockNumberAndIndex.selector,
            4,
            quorum,
            blockReference,
            uint256(operatorId),
            index
        );
        require(answered, RegistryRefused(stakeRegistry, quorum, index, blockReference));
    }

    // -------------------------------------------------------------- signature

    function _checkSignature(bytes32 message, Bn254.G1 memory key, BlsProof calldata given) private view {
        G2Point calldata keyG2 = given.apkG2;
        uint256 points;
        // The struct keeps sigma right behind apkG2.
        assembly ("memory-safe") {
            points := keyG2
        }
        (bool success, bool valid) = Bn254.verify(message, key, points);
        require(success, InvalidPoint());
        require(valid, InvalidSignature(message));
    }

    // ---------------------------------------------------------------- helpers

    function _quorum(uint256 i) private view returns (uint8 number, uint8 threshold) {
        uint256 packed = _packedQuorums >> (16 * i);
        return (uint8(packed), uint8(packed >> 8));
    }

    function _hash(uint256 x, uint256 y) private pure returns (bytes32 hash) {
        assembly ("memory-safe") {
            mstore(0, x)
            mstore(0x20, y)
            hash := keccak256(0, 0x40)
        }
    }

    /// @dev One word from a registry; `answered` is false if it reverted or returned less.
    function _read(address registry, bytes4 selector, uint256 arguments, uint256 a, uint256 b, uint256 c, uint256 d)
        private
        view
        returns (bool answered, uint256 word)
    {
        assembly ("memory-safe") {
            let input := mload(0x40)
            mstore(input, selector)
            mstore(add(input, 0x04), a)
            mstore(add(input, 0x24), b)
            mstore(add(input, 0x44), c)
            mstore(add(input, 0x64), d)
            answered := staticcall(gas(), registry, input, add(4, shl(5, arguments)), 0, 0x20)
            answered := and(answered, gt(returndatasize(), 0x1f))
            word := mload(0)
        }
    }
}
