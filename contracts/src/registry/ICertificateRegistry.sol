// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

/// @title TLS identities
/// @notice Fingerprint = SHA-256 of the certificate's public key (SubjectPublicKeyInfo, DER), so that renewing a
/// certificate needs no transaction. Certificate dates mean nothing here.
interface ICertificateRegistry {
    /// @notice Both fingerprints as they are now, whatever was there before; `next` is zero if none is announced.
    event CertificatePublished(address indexed holder, bytes32 current, bytes32 next);
    /// @notice The holder has no fingerprint any more.
    event CertificateRevoked(address indexed holder);

    /// @dev `current` must name a certificate: {revoke} removes it.
    error FingerprintIsZero();
    /// @dev {revoke}: the holder has no fingerprint.
    error NothingPublished(address holder);

    /// @notice Sets the caller's fingerprints. `next` may be zero.
    function publish(bytes32 current, bytes32 next) external;
    /// @notice Removes both fingerprints of the caller; open streams end.
    function revoke() external;
    /// @notice Either is good for the holder's connections. Both zero if nothing is published.
    function fingerprints(address holder) external view returns (bytes32 current, bytes32 next);
}
