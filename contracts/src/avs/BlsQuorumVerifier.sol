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

    /// @dev Where the parts of a {BlsProof} lie in calldata: the first element of each array, and the two points.
    struct ProofLists {
        uint256 nonSigners;
        uint256 nonSignerBitmapIndices;
        uint256 nonSignerKeys;
        uint256 quorumApks;
        uint256 points;
        uint256 quorumApkIndices;
        uint256 totalStakeIndices;
        uint256 nonSignerStakeIndices;
        uint256 roots;
        uint256 rootCount;
    }

    /// @dev Every non-signer costs gas: this many, two full quorums of 200, cost about 7 million.
    uint256 private constant MAXIMUM_NON_SIGNERS = 400;
    uint256 private constant MAXIMUM_QUORUMS = 8;
    /// @dev Tries of the hash to the curve that may be spared; more than this many fail once in 2^128.
    uint256 private constant MAXIMUM_ROOTS = 128;

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
        ProofLists memory given = _decode(proof);
        NonSigners memory absent = _nonSigners(given, blockReference);
        signatories = _signatories(blockReference, absent.operatorIds);

        // The signers' key is the sum of the quorums' keys without the keys of those who did not sign.
        Bn254.G1 memory key = absent.keys;
        key.negate();
        uint256 count = _quorumCount;
        uint256 packed = _packedQuorums;
        for (uint256 i = 0; i < count; ++i) {
            _addQuorumKey(given, i, uint8(packed), blockReference, key);
            _checkStake(given, i, uint8(packed), uint8(packed >> 8), blockReference, absent);
            packed >>= 16;
        }
        require(key.x != 0 || key.y != 0, NobodySigned());

        (uint256 x, uint256 y) = _hashToG1(message, given);
        (bool success, bool valid) = Bn254.verify(message, x, y, key, given.points);
        require(success, InvalidPoint());
        require(valid, InvalidSignature(message));
    }

    // ------------------------------------------------------------------ proof

    /// @dev The proof stays in calldata; this finds its parts and checks every length once. Reading them through Solidity's
    /// nested calldata arrays checks them at each use, for 5 000 gas.
    function _decode(bytes calldata proof) private view returns (ProofLists memory given) {
        uint256 base;
        uint256 offset;
        assembly ("memory-safe") {
            offset := calldataload(proof.offset)
            base := add(proof.offset, offset)
        }
        // The struct's own offset, perhaps roots, then its head of twelve words.
        require(
            offset >= 32 && offset & 31 == 0 && offset <= 32 * (MAXIMUM_ROOTS + 1) && proof.length >= offset + 12 * 32,
            MalformedProof()
        );
        uint256 nonSigners = _length(base, 1);
        require(nonSigners <= MAXIMUM_NON_SIGNERS, TooManyNonSigners(nonSigners, MAXIMUM_NON_SIGNERS));
        given.nonSigners = nonSigners;
        uint256 count = _quorumCount;
        bool wellFormed = true;
        unchecked {
            given.roots = base - offset + 32;
            given.rootCount = offset / 32 - 1;
            // apkG2 (four words) and sigma (two words) lie in the head, one behind the other.
            given.points = base + 3 * 32;
        }
        (given.nonSignerBitmapIndices, wellFormed) = _list(base, 0, nonSigners, 32, wellFormed);
        (given.nonSignerKeys, wellFormed) = _list(base, 1, nonSigners, 64, wellFormed);
        (given.quorumApks, wellFormed) = _list(base, 2, count, 64, wellFormed);
        (given.quorumApkIndices, wellFormed) = _list(base, 9, count, 32, wellFormed);
        (given.totalStakeIndices, wellFormed) = _list(base, 10, count, 32, wellFormed);
        (given.nonSignerStakeIndices, wellFormed) = _list(base, 11, count, 32, wellFormed);
        if (!wellFormed) _refuse(base, nonSigners);
    }

    /// @dev First element of an array whose offset is the given word after `base`, itself counted from there; and whether it
    /// and everything before was well formed.
    function _list(uint256 base, uint256 word, uint256 expected, uint256 elementSize, bool soFar)
        private
        pure
        returns (uint256 elements, bool wellFormed)
    {
        assembly ("memory-safe") {
            let offset := calldataload(add(base, shl(5, word)))
            elements := add(add(base, offset), 0x20)
            // The expected length is small, so that nothing overflows when the offset is small too.
            wellFormed := and(
                and(eq(calldataload(sub(elements, 0x20)), expected), lt(offset, 0xffffffff)),
                and(iszero(gt(add(elements, mul(expected, elementSize)), calldatasize())), soFar)
            )
        }
    }

    /// @dev Says which length is wrong, if one is.
    function _refuse(uint256 base, uint256 nonSigners) private view {
        uint8[5] memory words = [0, 2, 9, 10, 11];
        for (uint256 i = 0; i < words.length; ++i) {
            uint256 expected = i == 0 ? nonSigners : _quorumCount;
            uint256 length = _length(base, words[i]);
            require(length == expected, WrongProofLength(length, expected));
        }
        revert MalformedProof();
    }

    function _length(uint256 base, uint256 word) private pure returns (uint256 length) {
        assembly ("memory-safe") {
            length := calldataload(add(base, calldataload(add(base, shl(5, word)))))
        }
    }

    /// @dev An index from a list of the proof.
    function _index(uint256 list, uint256 i) private pure returns (uint32) {
        uint256 index;
        assembly ("memory-safe") {
            index := calldataload(add(list, shl(5, i)))
        }
        require(index <= type(uint32).max, MalformedProof());
        return uint32(index);
    }

    /// @dev A point from a list of the proof, and its hash: what registries know it by.
    function _point(uint256 list, uint256 i) private pure returns (uint256 x, uint256 y, bytes32 hash) {
        assembly ("memory-safe") {
            let place := add(list, shl(6, i))
            x := calldataload(place)
            y := calldataload(add(place, 0x20))
            mstore(0, x)
            mstore(0x20, y)
            hash := keccak256(0, 0x40)
        }
    }

    // ------------------------------------------------------------ non-signers

    /// @dev Sum of the non-signers' keys, each as often as quorums count it, their operator ids, and the quorums each was in.
    function _nonSigners(ProofLists memory given, uint32 blockReference)
        private
        view
        returns (NonSigners memory absent)
    {
        uint256 count = given.nonSigners;
        if (count == 0) return absent;
        absent.operatorIds = new bytes32[](count);
        absent.bitmaps = new uint256[](count);
        bytes32 previous;
        for (uint256 i = 0; i < count; ++i) {
            (uint256 x, uint256 y, bytes32 operatorId) = _point(given.nonSignerKeys, i);
            require(operatorId > previous, NonSignersNotAscending(previous, operatorId));
            previous = operatorId;
            absent.operatorIds[i] = operatorId;

            uint256 bitmap = _bitmap(operatorId, blockReference, _index(given.nonSignerBitmapIndices, i));
            absent.bitmaps[i] = bitmap;
            // At most MAXIMUM_QUORUMS additions, each far cheaper than a multiplication.
            for (uint256 shared = bitmap & _quorumBitmap; shared != 0; shared &= shared - 1) {
                require(absent.keys.add(x, y), InvalidPoint());
            }
        }
    }

    /// @dev keccak256(abi.encodePacked(blockReference, operatorIds)): the block fits into the word of the array's length, right
    /// before its elements.
    function _signatories(uint32 blockReference, bytes32[] memory operatorIds) private pure returns (bytes32 hash) {
        assembly ("memory-safe") {
            let count := mload(operatorIds)
            switch count
            case 0 {
                mstore(0, blockReference)
                hash := keccak256(28, 4)
            }
            default {
                mstore(operatorIds, blockReference)
                hash := keccak256(add(operatorIds, 28), add(4, shl(5, count)))
                mstore(operatorIds, count)
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
    function _addQuorumKey(ProofLists memory given, uint256 i, uint8 quorum, uint32 blockReference, Bn254.G1 memory key)
        private
        view
    {
        uint32 index = _index(given.quorumApkIndices, i);
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

        (uint256 x, uint256 y, bytes32 hash) = _point(given.quorumApks, i);
        // The registry keeps 24 bytes of the hash.
        require(bytes24(hash) == bytes32(actual), WrongQuorumKey(quorum, bytes24(hash), bytes32(actual)));
        require(key.add(x, y), InvalidPoint());
    }

    /// @dev The quorum's stake without that of its non-signers must reach the threshold.
    function _checkStake(
        ProofLists memory given,
        uint256 i,
        uint8 quorum,
        uint8 threshold,
        uint32 blockReference,
        NonSigners memory absent
    ) private view {
        if (maximumStakeAge != 0) _checkStakeAge(quorum, blockReference);
        uint256 total = _totalStake(quorum, blockReference, _index(given.totalStakeIndices, i));
        require(total != 0, NoStake(quorum, blockReference));
        uint256 signed = given.nonSigners == 0 ? total : total - _absentStake(given, i, quorum, blockReference, absent);

        // Checked at construction too; a threshold outside 1 to 100 would accept everything or nothing.
        require(threshold >= 1 && threshold <= 100, ThresholdOutOfRange(quorum, threshold));
        require(signed * 100 >= total * threshold, ThresholdNotReached(quorum, signed, total, threshold));
    }

    /// @dev Sum of the stakes of the non-signers that were in the quorum.
    function _absentStake(
        ProofLists memory given,
        uint256 i,
        uint8 quorum,
        uint32 blockReference,
        NonSigners memory absent
    ) private view returns (uint256 sum) {
        uint256 lists = given.nonSignerStakeIndices;
        uint256 length = _length(lists, i);
        require(length <= MAXIMUM_NON_SIGNERS, TooManyNonSigners(length, MAXIMUM_NON_SIGNERS));
        (uint256 indices, bool wellFormed) = _list(lists, i, length, 32, true);
        require(wellFormed, MalformedProof());
        uint256 used;
        for (uint256 j = 0; j < given.nonSigners; ++j) {
            if (absent.bitmaps[j] >> quorum & 1 == 0) continue;
            require(used < length, WrongProofLength(length, used + 1));
            sum += _stake(quorum, blockReference, absent.operatorIds[j], _index(indices, used));
            ++used;
        }
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

    function _hashToG1(bytes32 message, ProofLists memory given) private view returns (uint256 x, uint256 y) {
        if (given.rootCount == 0) return Bn254.hashToG1(message);
        bool success;
        (success, x, y) = Bn254.hashToG1(message, given.roots, given.rootCount);
        require(success, InvalidRoots(given.rootCount));
    }

    // -------------------------------------------------------------- registries

    function _quorum(uint256 i) private view returns (uint8 number, uint8 threshold) {
        uint256 packed = _packedQuorums >> (16 * i);
        return (uint8(packed), uint8(packed >> 8));
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
