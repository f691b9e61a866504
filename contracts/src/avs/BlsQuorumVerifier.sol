// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

import {Bn254} from "./Bn254.sol";
import {EigenBlsApkRegistry, EigenRegistryCoordinator, EigenStakeRegistry} from "./EigenLayer.sol";
import {IBlsQuorumVerifier} from "./IBlsQuorumVerifier.sol";
import {IQuorumVerifier} from "./IQuorumVerifier.sol";

/// @title Quorum verifier on EigenLayer's middleware
/// @notice Has no owner: other quorums or thresholds are another verifier, named to the task manager. What it stores, anyone
/// may add to: when stakes were refreshed, and which aggregate keys are proven.
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
    /// @dev Tries of the hash to the curve that may be spared; more than this many fail once in 2^128.
    uint256 private constant MAXIMUM_ROOTS = 128;

    // Where in a {BlsProof}'s head the offsets of its arrays lie, in bytes; and apkG2, four words, right before sigma, two.
    uint256 private constant BITMAP_INDICES = 0;
    uint256 private constant KEYS = 32;
    uint256 private constant APKS = 2 * 32;
    uint256 private constant POINTS = 3 * 32;
    uint256 private constant APK_INDICES = 9 * 32;
    uint256 private constant TOTAL_STAKE_INDICES = 10 * 32;
    uint256 private constant STAKE_INDICES = 11 * 32;

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

    /// @dev When whole quorums were refreshed, two quorums a word in the order of their configuration, so that one or two cost
    /// one read. Per quorum, from the lowest bits: latest block 32, since 32, and the same of the run before. A run is
    /// refreshes of which each came within {maximumStakeAge} + 1 blocks of the one before it: every block from the first of
    /// them to {maximumStakeAge} blocks after the latest has one that is young enough, whichever they were. So runs tell
    /// exactly what a list of all refreshes would, and refreshing often pushes nothing out.
    uint256[(MAXIMUM_QUORUMS + 1) / 2] private _runs;
    /// @dev By the hash of both points' words.
    mapping(bytes32 keyHash => bool) private _proven;

    /// @param numbers Strictly ascending quorum numbers that exist.
    /// @param thresholds Percentage of each quorum's stake that must sign.
    constructor(
        EigenRegistryCoordinator coordinator,
        uint8[] memory numbers,
        uint8[] memory thresholds,
        uint32 stakeAge
    ) {
        if (numbers.length == 0 || numbers.length > MAXIMUM_QUORUMS) {
            revert QuorumCountOutOfRange(numbers.length, MAXIMUM_QUORUMS);
        }
        if (thresholds.length != numbers.length) revert QuorumCountOutOfRange(thresholds.length, numbers.length);

        uint8 existing = coordinator.quorumCount();
        uint256 bitmap;
        uint256 packed;
        for (uint256 i = 0; i < numbers.length; i++) {
            if (i != 0 && numbers[i] <= numbers[i - 1]) {
                revert QuorumsNotAscending(numbers[i - 1], numbers[i]);
            }
            if (numbers[i] >= existing) revert UnknownQuorum(numbers[i], existing);
            if (thresholds[i] < 1 || thresholds[i] > 100) revert ThresholdOutOfRange(numbers[i], thresholds[i]);
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
    function capped() external pure returns (bool) {
        return false;
    }

    // -------------------------------------------------------------- what is noted

    /// @inheritdoc IBlsQuorumVerifier
    function refresh(uint8 quorum, address[] calldata operators) external {
        uint256 i = _place(quorum);
        address[][] memory operatorsOfQuorum = new address[][](1);
        operatorsOfQuorum[0] = operators;
        EigenRegistryCoordinator(registryCoordinator)
            .updateOperatorsForQuorum(operatorsOfQuorum, abi.encodePacked(quorum));

        uint256 word = _runs[i >> 1];
        uint256 runs = _ofQuorum(word, i);
        uint256 latest = uint32(runs);
        uint256 changed = runs == 0 || block.number > latest + maximumStakeAge + 1
            ? uint128(runs << 64 | block.number << 32 | block.number)
            : runs ^ latest ^ block.number;
        _runs[i >> 1] = word ^ (runs ^ changed) << ((i & 1) << 7);
        emit QuorumRefreshed(quorum, operators.length);
    }

    /// @inheritdoc IBlsQuorumVerifier
    function refreshedAt(uint8 quorum, uint32 blockReference) external view returns (uint32) {
        return uint32(_refreshedAt(_place(quorum), blockReference));
    }

    /// @inheritdoc IBlsQuorumVerifier
    function proveKey(G1Point calldata keyG1, G2Point calldata keyG2) external {
        // An aggregate of nobody, which no signature is taken from.
        if (keyG1.X == 0 && keyG1.Y == 0) revert InvalidPoint();
        uint256 first;
        uint256 second;
        assembly ("memory-safe") {
            first := keyG1
            second := keyG2
        }
        (bool success, bool valid) = Bn254.isOneKey(first, second);
        if (!success) revert InvalidPoint();
        if (!valid) revert KeysDiffer();
        bytes32 hash = _keyHash(keyG1.X, keyG1.Y, second);
        _proven[hash] = true;
        emit KeyProven(hash);
    }

    /// @inheritdoc IBlsQuorumVerifier
    function isProvenKey(G1Point calldata keyG1, G2Point calldata keyG2) external view returns (bool) {
        uint256 second;
        assembly ("memory-safe") {
            second := keyG2
        }
        return _proven[_keyHash(keyG1.X, keyG1.Y, second)];
    }

    // ---------------------------------------------------------------- verify

    /// @inheritdoc IQuorumVerifier
    function verify(bytes32 message, uint32 blockReference, bytes calldata proof)
        external
        view
        returns (bytes32 signatories)
    {
        if (blockReference >= block.number) revert ReferenceBlockNotPast(blockReference, block.number);
        uint256 base = _base(proof);
        NonSigners memory absent = _nonSigners(base, blockReference);
        signatories = _signatories(blockReference, absent.operatorIds);

        // The signers' key is the sum of the quorums' keys without the keys of those who did not sign.
        Bn254.G1 memory key = absent.keys;
        key.negate();
        uint256 packed = _packedQuorums;
        for (uint256 i = 0; i < _quorumCount; ++i) {
            _addQuorumKey(base, i, uint8(packed), blockReference, key);
            _checkStake(base, i, uint8(packed), uint8(packed >> 8), blockReference, absent);
            packed >>= 16;
        }
        if (key.x == 0 && key.y == 0) revert NobodySigned();

        (uint256 x, uint256 y) = _hashToG1(message, proof, base);
        // The key is the registries', so that a proven G2 point is the signers' key too, and only the signature is left.
        (bool success, bool valid) = _proven[_keyHash(key.x, key.y, base + POINTS)]
            ? Bn254.verifySignature(x, y, base + POINTS)
            : Bn254.verify(message, x, y, key, base + POINTS);
        if (!success) revert InvalidPoint();
        if (!valid) revert InvalidSignature(message);
    }

    // ------------------------------------------------------------------ proof

    /// @dev The proof stays in calldata: this finds the struct, {_list} its arrays. Solidity's own nested calldata arrays are
    /// checked at every use, for 5 000 gas.
    function _base(bytes calldata proof) private pure returns (uint256 base) {
        uint256 offset;
        assembly ("memory-safe") {
            offset := calldataload(proof.offset)
            base := add(proof.offset, offset)
        }
        // The struct's own offset, perhaps roots, then its head of twelve words.
        unchecked {
            bool fits = offset - 32 <= 32 * MAXIMUM_ROOTS && proof.length >= offset + 12 * 32;
            if (!fits || offset & 31 != 0) revert MalformedProof();
        }
    }

    /// @dev First element of an array of the proof that must have `expected` elements, `size` bytes in all.
    /// @param place Where its offset lies, in bytes from `base`; the offset counts from `base` too.
    function _list(uint256 base, uint256 place, uint256 expected, uint256 size)
        private
        pure
        returns (uint256 elements)
    {
        uint256 wrong;
        assembly ("memory-safe") {
            let offset := calldataload(add(base, place))
            elements := add(add(base, offset), 0x20)
            // A large offset may wrap, and is refused for being large.
            wrong := or(
                xor(calldataload(sub(elements, 0x20)), expected),
                or(shr(32, offset), gt(add(elements, size), calldatasize()))
            )
        }
        if (wrong == 0) return elements;
        uint256 length = _length(base, place);
        if (length != expected) revert WrongProofLength(length, expected);
        revert MalformedProof();
    }

    function _length(uint256 base, uint256 place) private pure returns (uint256 length) {
        assembly ("memory-safe") {
            length := calldataload(add(base, calldataload(add(base, place))))
        }
    }

    /// @dev An index from a list of the proof.
    function _index(uint256 list, uint256 i) private pure returns (uint32 index) {
        uint256 word;
        assembly ("memory-safe") {
            word := calldataload(add(list, shl(5, i)))
            index := word
        }
        if (word > type(uint32).max) revert MalformedProof();
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
    function _nonSigners(uint256 base, uint32 blockReference) private view returns (NonSigners memory absent) {
        uint256 count = _length(base, KEYS);
        if (count > MAXIMUM_NON_SIGNERS) revert TooManyNonSigners(count, MAXIMUM_NON_SIGNERS);
        uint256 indices = _list(base, BITMAP_INDICES, count, count * 32);
        if (count == 0) return absent;
        uint256 keys = _list(base, KEYS, count, count * 64);
        absent.operatorIds = new bytes32[](count);
        absent.bitmaps = new uint256[](count);
        bytes32 previous;
        for (uint256 i = 0; i < count; ++i) {
            (uint256 x, uint256 y, bytes32 operatorId) = _point(keys, i);
            if (operatorId <= previous) revert NonSignersNotAscending(previous, operatorId);
            previous = operatorId;
            absent.operatorIds[i] = operatorId;

            uint256 bitmap = _bitmap(operatorId, blockReference, _index(indices, i));
            absent.bitmaps[i] = bitmap;
            // At most MAXIMUM_QUORUMS additions, each far cheaper than a multiplication.
            for (uint256 shared = bitmap & _quorumBitmap; shared != 0; shared &= shared - 1) {
                if (!absent.keys.add(x, y)) revert InvalidPoint();
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
        if (!answered) revert UnknownNonSigner(operatorId, index, blockReference);
    }

    // ---------------------------------------------------------------- quorums

    /// @dev Adds the quorum's aggregate key, which must be the one its registry recorded.
    function _addQuorumKey(uint256 base, uint256 i, uint8 quorum, uint32 blockReference, Bn254.G1 memory key)
        private
        view
    {
        uint32 index = _index(_list(base, APK_INDICES, _quorumCount, _quorumCount << 5), i);
        (bool answered, uint256 actual) = _read(
            blsApkRegistry,
            EigenBlsApkRegistry.getApkHashAtBlockNumberAndIndex.selector,
            3,
            quorum,
            blockReference,
            index,
            0
        );
        if (!answered) revert RegistryRefused(blsApkRegistry, quorum, index, blockReference);

        (uint256 x, uint256 y, bytes32 hash) = _point(_list(base, APKS, _quorumCount, _quorumCount << 6), i);
        // The registry keeps 24 bytes of the hash.
        if (bytes24(hash) != bytes32(actual)) revert WrongQuorumKey(quorum, bytes24(hash), bytes32(actual));
        if (!key.add(x, y)) revert InvalidPoint();
    }

    /// @dev The quorum's stake without that of its non-signers must reach the threshold.
    function _checkStake(
        uint256 base,
        uint256 i,
        uint8 quorum,
        uint8 threshold,
        uint32 blockReference,
        NonSigners memory absent
    ) private view {
        if (maximumStakeAge != 0) _checkStakeAge(i, quorum, blockReference);
        uint256 total = _totalStake(
            quorum, blockReference, _index(_list(base, TOTAL_STAKE_INDICES, _quorumCount, _quorumCount << 5), i)
        );
        if (total == 0) revert NoStake(quorum, blockReference);
        uint256 signed = total - _absentStake(base, i, quorum, blockReference, absent);

        // Checked at construction too; a threshold outside 1 to 100 would accept everything or nothing.
        if (threshold < 1 || threshold > 100) revert ThresholdOutOfRange(quorum, threshold);
        if (signed * 100 < total * threshold) revert ThresholdNotReached(quorum, signed, total, threshold);
    }

    /// @dev Sum of the stakes of the non-signers that were in the quorum.
    function _absentStake(uint256 base, uint256 i, uint8 quorum, uint32 blockReference, NonSigners memory absent)
        private
        view
        returns (uint256 sum)
    {
        uint256 lists = _list(base, STAKE_INDICES, _quorumCount, _quorumCount << 5);
        if (absent.operatorIds.length == 0) return 0;
        uint256 length = _length(lists, i * 32);
        if (length > MAXIMUM_NON_SIGNERS) revert TooManyNonSigners(length, MAXIMUM_NON_SIGNERS);
        uint256 indices = _list(lists, i * 32, length, length * 32);
        uint256 used;
        for (uint256 j = 0; j < absent.operatorIds.length; ++j) {
            if (absent.bitmaps[j] >> quorum & 1 == 0) continue;
            if (used >= length) revert WrongProofLength(length, used + 1);
            sum += _stake(quorum, blockReference, absent.operatorIds[j], _index(indices, used));
            ++used;
        }
    }

    function _checkStakeAge(uint256 i, uint8 quorum, uint32 blockReference) private view {
        uint256 refreshed = _refreshedAt(i, blockReference);
        if (refreshed == 0 || refreshed + maximumStakeAge < blockReference) {
            revert StakeTooOld(quorum, refreshed, blockReference, maximumStakeAge);
        }
    }

    /// @dev Latest block that is known not to be after the last refresh at or before the reference block; zero if none is known.
    function _refreshedAt(uint256 i, uint256 blockReference) private view returns (uint256) {
        for (uint256 runs = _ofQuorum(_runs[i >> 1], i); runs != 0; runs >>= 64) {
            uint256 latest = uint32(runs);
            if (latest <= blockReference) return latest;
            uint256 since = uint32(runs >> 32);
            if (since <= blockReference) {
                // Inside the run: the next one came at most the age and a block later.
                return since + maximumStakeAge < blockReference ? blockReference - maximumStakeAge : since;
            }
        }
        return 0;
    }

    function _ofQuorum(uint256 word, uint256 i) private pure returns (uint256 runs) {
        return uint128(word >> ((i & 1) << 7));
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
        if (!answered) revert RegistryRefused(stakeRegistry, quorum, index, blockReference);
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
        if (!answered) revert RegistryRefused(stakeRegistry, quorum, index, blockReference);
    }

    /// @dev The roots, if any, are all between the proof's leading offset and the struct.
    function _hashToG1(bytes32 message, bytes calldata proof, uint256 base)
        private
        view
        returns (uint256 x, uint256 y)
    {
        uint256 roots;
        assembly ("memory-safe") {
            roots := add(proof.offset, 0x20)
        }
        uint256 count;
        unchecked {
            count = (base - roots) >> 5;
        }
        if (count == 0) return Bn254.hashToG1(message);
        bool success;
        (success, x, y) = Bn254.hashToG1(message, roots, count);
        if (!success) revert InvalidRoots(count);
    }

    /// @dev keccak256 of two words and the four that lie at `keyG2` in calldata.
    function _keyHash(uint256 x, uint256 y, uint256 keyG2) private pure returns (bytes32 hash) {
        assembly ("memory-safe") {
            let buffer := mload(0x40)
            mstore(buffer, x)
            mstore(add(buffer, 0x20), y)
            calldatacopy(add(buffer, 0x40), keyG2, 0x80)
            hash := keccak256(buffer, 0xc0)
        }
    }

    // -------------------------------------------------------------- registries

    /// @dev Place of a quorum in the configuration.
    function _place(uint8 quorum) private view returns (uint256 i) {
        for (; i < _quorumCount; ++i) {
            (uint8 number,) = _quorum(i);
            if (number == quorum) return i;
        }
        revert QuorumNotConfigured(quorum);
    }

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
