// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

import {IQuorumVerifier} from "./IQuorumVerifier.sol";

/// @title BN254 quorum proofs over EigenLayer's middleware registries
/// @notice Same proof as the middleware's `NonSignerStakesAndSignature` (EigenLayer `IBLSSignatureChecker`), differentially
/// tested against its `checkSignatures`.
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

    /// @notice Quorum numbers that must all be reached, and the percentage of stake (1 to 100) each needs.
    function quorums() external view returns (uint8[] memory numbers, uint8[] memory thresholds);
}
