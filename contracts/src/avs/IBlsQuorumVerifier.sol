// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

import {IQuorumVerifier} from "./IQuorumVerifier.sol";

/// @title BN254 quorum proofs over EigenLayer's middleware registries
/// @notice Same proof as the middleware's `NonSignerStakesAndSignature` (EigenLayer `IBLSSignatureChecker`), differentially
/// tested against its `checkSignatures`. A proof is `abi.encode(BlsProof)`; the signatories' commitment is
/// `keccak256(abi.encodePacked(uint32 blockReference, bytes32[] hashes of the non-signers' keys))`.
///
/// Roots spare the hash to the curve its modular exponentiations, about 4 300 gas a try. They are optional words between the
/// proof's leading offset and the struct it points to: the offset is `0x20 + 32 n` for n roots, otherwise nothing changes.
/// EigenLayer's hash tries x = message mod p, x + 1, ...: for every x that is not on the curve any w with
/// w^2 = -(x^3 + 3), last any z with z^2 = y (all mod p).
interface IBlsQuorumVerifier is IQuorumVerifier {
    /// @dev Affine coordinates; both zero is the point at infinity.
    struct G1Point {
        uint256 X;
        uint256 Y;
    }

    /// @dev X and Y are (imaginary, real), as the precompile takes them.
    struct G2Point {
        uint256[2] X;
        uint256[2] Y;
    }

    /// @param nonSignerPubkeys Sorted strictly ascending by hash.
    /// @param quorumApks Aggregate key of every configured quorum, in order.
    /// @param apkG2 Aggregate G2 key of the signers.
    /// @param sigma Aggregate signature.
    struct BlsProof {
        uint32[] nonSignerQuorumBitmapIndices;
        G1Point[] nonSignerPubkeys;
        G1Point[] quorumApks;
        G2Point apkG2;
        G1Point sigma;
        uint32[] quorumApkIndices;
        uint32[] totalStakeIndices;
        uint32[][] nonSignerStakeIndices;
    }

    /// @notice All `operators` operators of the quorum had their stake refreshed in this block.
    event QuorumRefreshed(uint8 indexed quorum, uint256 operators);
    /// @notice A pair of points was proven to be one key. `keyHash` is the keccak256 of their six words.
    event KeyProven(bytes32 indexed keyHash);

    /// @dev The proof is not `abi.encode(BlsProof)`.
    error MalformedProof();
    /// @dev An array of the proof does not have one entry per quorum, or per non-signer.
    error WrongProofLength(uint256 given, uint256 expected);
    /// @dev Stakes of a block are known when it has ended.
    error ReferenceBlockNotPast(uint32 blockReference, uint256 blockNumber);
    /// @dev Also raised for a quorum's list of their stakes.
    error TooManyNonSigners(uint256 given, uint256 limit);
    /// @dev Hashes of the non-signers' keys must ascend strictly, so that nobody is counted twice.
    error NonSignersNotAscending(bytes32 previous, bytes32 next);
    /// @dev The given aggregate key is not the quorum's at the reference block.
    error WrongQuorumKey(uint8 quorum, bytes32 givenHash, bytes32 actualHash);
    /// @dev A registry does not answer for this quorum, entry of its history and reference block: the entry does not exist,
    /// or another one was in force at that block.
    error RegistryRefused(address registry, uint8 quorum, uint32 index, uint32 blockReference);
    /// @dev The operator has no such entry in its quorum history in force at the reference block.
    error UnknownNonSigner(bytes32 operatorId, uint32 index, uint32 blockReference);
    /// @dev Nobody had stake in the quorum at the reference block.
    error NoStake(uint8 quorum, uint32 blockReference);
    /// @dev `threshold` in percent of `totalStake`, both in EigenLayer's weights.
    error ThresholdNotReached(uint8 quorum, uint256 signedStake, uint256 totalStake, uint8 threshold);
    /// @dev Of all quorums together nobody is left who signed.
    error NobodySigned();
    /// @dev A coordinate is too large or a point is not on its curve.
    error InvalidPoint();
    /// @dev The signature is not the signers' over this message, or `apkG2` is not their key.
    error InvalidSignature(bytes32 message);
    /// @dev One of the roots is wrong, or there are more or fewer than the hash takes tries.
    error InvalidRoots(uint256 count);
    /// @dev Not every operator of the quorum had its stake refreshed (through {refresh}) in the blocks up to the reference
    /// block. `refreshedAt` as {refreshedAt} tells it.
    error StakeTooOld(uint8 quorum, uint256 refreshedAt, uint32 blockReference, uint32 limit);
    /// @dev The quorum is none of those that must be reached.
    error QuorumNotConfigured(uint8 quorum);
    /// @dev The two points are not one key.
    error KeysDiffer();
    /// @dev At deployment: no quorum, more than `limit`, or not one threshold for each.
    error QuorumCountOutOfRange(uint256 given, uint256 limit);
    /// @dev At deployment: numbers ascend strictly.
    error QuorumsNotAscending(uint8 previous, uint8 next);
    /// @dev At deployment: the coordinator has only `quorumCount` quorums, from 0.
    error UnknownQuorum(uint8 quorum, uint8 quorumCount);
    /// @dev Thresholds are 1 to 100 percent.
    error ThresholdOutOfRange(uint8 quorum, uint8 threshold);

    /// @notice Quorum numbers that must all be reached, and the percentage of stake (1 to 100) each needs.
    function quorums() external view returns (uint8[] memory numbers, uint8[] memory thresholds);
    /// @notice Oldest refresh of a whole quorum's stake that counts, in blocks before the reference block; zero if age does
    /// not matter.
    function maximumStakeAge() external view returns (uint32);
    /// @notice Refreshes the stake of every operator of a quorum (EigenLayer `updateOperatorsForQuorum`) and notes that it was
    /// done. Refreshes that go past this contract do not count: the coordinator remembers only the last one, and what counts
    /// is the last one before a reference block. One in the reference block itself counts, because the stakes of a block are
    /// those after all its updates. Anyone may call; nothing is noted before the first call.
    /// @param operators All operators of the quorum, strictly ascending by address.
    function refresh(uint8 quorum, address[] calldata operators) external;
    /// @notice The last refresh at or before `blockReference` is not older than this block, zero if none is remembered. {verify}
    /// takes the reference block if `refreshedAt + maximumStakeAge >= blockReference`.
    /// @dev It is exactly the last refresh, unless later ones followed, none later than {maximumStakeAge} + 1 blocks after the
    /// one before. Of such a run only its first and last block are remembered, and what they prove is told. Runs are the
    /// present one and the one before it.
    function refreshedAt(uint8 quorum, uint32 blockReference) external view returns (uint32);
    /// @notice Proves once that two points are one key, which spares every later proof with this aggregate key about 13 000
    /// gas. Anyone may call. The point at infinity is no key.
    function proveKey(G1Point calldata keyG1, G2Point calldata keyG2) external;
    /// @notice Whether {proveKey} was called with these points.
    function isProvenKey(G1Point calldata keyG1, G2Point calldata keyG2) external view returns (bool);
    /// @notice The middleware's coordinator, which knows who was in which quorum. Immutable.
    function registryCoordinator() external view returns (address);
    /// @notice The coordinator's stake registry as it was at deployment. Immutable.
    function stakeRegistry() external view returns (address);
    /// @notice The coordinator's registry of keys as it was at deployment. Immutable.
    function blsApkRegistry() external view returns (address);
}
