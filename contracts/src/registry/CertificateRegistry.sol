// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

import {ICertificateRegistry} from "./ICertificateRegistry.sol";

/// @title CertificateRegistry
/// @notice Nobody governs it: an identity is its holder's alone.
contract CertificateRegistry is ICertificateRegistry {
    struct Fingerprints {
        bytes32 current;
        bytes32 next;
    }

    mapping(address holder => Fingerprints) private _fingerprints;

    /// @inheritdoc ICertificateRegistry
    function publish(bytes32 current, bytes32 next) external override {
        require(current != 0, FingerprintIsZero());
        _fingerprints[msg.sender] = Fingerprints(current, next);
        emit CertificatePublished(msg.sender, current, next);
    }

    /// @inheritdoc ICertificateRegistry
    function revoke() external override {
        require(_fingerprints[msg.sender].current != 0, NothingPublished(msg.sender));
        delete _fingerprints[msg.sender];
        emit CertificateRevoked(msg.sender);
    }

    /// @inheritdoc ICertificateRegistry
    function fingerprints(address holder) external view override returns (bytes32 current, bytes32 next) {
        Fingerprints storage held = _fingerprints[holder];
        return (held.current, held.next);
    }
}
