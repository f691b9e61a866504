// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

/// @title TLS identities
/// @notice Fingerprint = SHA-256 of the certificate's public key (SubjectPublicKeyInfo, DER), so that renewing a
/// certificate needs no transaction. Certificate dates mean nothing here.
interface ICertificateRegistry {
    event CertificatePublished(address indexed holder, bytes32 current, bytes32 next);
    event CertificateRevoked(address indexed holder);

    error FingerprintIsZero();
    error NothingPublished(address holder);

    /// @notice Sets the caller's fingerprints. `next` may be zero.
    function publish(bytes32 current, bytes32 next) external;
    /// @notice Removes both fingerprints of the caller; open streams end.
    function revoke() external;
    function fingerprints(address holder) external view returns (bytes32 current, bytes32 next);
}
