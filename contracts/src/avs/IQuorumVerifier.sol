// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

/// @title Whether a quorum of stake signed a message
/// @notice The seam between the market and one generation of EigenLayer: the proof is opaque to the caller.
interface IQuorumVerifier {
    /// @notice Reverts unless every configured quorum's threshold is reached.
    /// @param message What was signed.
    /// @param blockReference Block whose stakes count; must be past.
    /// @return signatories Commitment to who signed, for disputes.
    function verify(bytes32 message, uint32 blockReference, bytes calldata proof)
        external
        view
        returns (bytes32 signatories);

    /// @notice Whether what stands behind the answers covers only so much value: then the task manager reports the leases it
    /// opened ({ISingleMatchmaker-hold}). Asked once, when the verifier is named.
    function capped() external view returns (bool);
}
