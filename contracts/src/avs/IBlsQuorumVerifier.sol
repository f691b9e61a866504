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

    /// @dev The proof is not `abi.encode(BlsProof)`.
    error MalformedProof();
    /// @dev An array of the proof does not have one entry per quorum, or per non-signer.
    error WrongProofLength(uint256 given, uint256 expected);
    error ReferenceBlockNotPast(uint32 blockReference, uint256 blockNumber);
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
    error NoStake(uint8 quorum, uint32 blockReference);
    error ThresholdNotReached(uint8 quorum, uint256 signedStake, uint256 totalStake, uint8 threshold);
    error NobodySigned();
    /// @dev A coordinate is too large or a point is not on its curve.
    error InvalidPoint();
    error InvalidSignature(bytes32 message);
    /// @dev One of the roots is wrong, or there are more or fewer than the hash takes tries.
    error InvalidRoots(uint256 count);
    /// @dev Not every operator of the quorum had its stake refreshed lately.
    error StakeTooOld(uint8 quorum, uint256 refreshedAt, uint32 blockReference, uint32 limit);

    error QuorumCountOutOfRange(uint256 given, uint256 limit);
    error QuorumsNotAscending(uint8 previous, uint8 next);
    error UnknownQuorum(uint8 quorum, uint8 quorumCount);
    error ThresholdOutOfRange(uint8 quorum, uint8 threshold);

    /// @notice Quorum numbers that must all be reached, and the percentage of stake (1 to 100) each needs.
    function quorums() external view returns (uint8[] memory numbers, uint8[] memory thresholds);
    /// @notice Oldest refresh of a whole quorum's stake that counts, in blocks before the reference block; zero if age does
    /// not matter.
    function maximumStakeAge() external view returns (uint32);
    function registryCoordinator() external view returns (address);
    function stakeRegistry() external view returns (address);
    function blsApkRegistry() external view returns (address);
}
