// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

import {Bn254} from "./Bn254.sol";
import {IBlsQuorumVerifier} from "./IBlsQuorumVerifier.sol";

/// @title One operator's BN254 signature
/// @notice For evidence: in memory, with points as the registries return them. {Bn254} is made for the answers' calldata.
library Bn254Signature {
    /// @dev Order of the groups.
    uint256 private constant R = 0x30644e72e131a029b85045b68181585d2833e84879b9709143e1f593f0000001;

    /// @dev The negated generator of G2, imaginary parts first.
    bytes private constant NEGATED_G2 = hex"198e9393920d483a7260bfb731fb5d25f1aa493335a9e71297e485b7aef312c2"
        hex"1800deef121f1e76426a00665e5c4479674322d4f75edadd46debd5cd992f6ed"
        hex"275dc4a288d1afb3cbb1ac09187524c7db36395df7be3b99e673b13a075a65ec"
        hex"1d9befcd05a5323e6da4d435f3b617cdb3af83285c2df711ef39c01571827f9d";

    /// @notice Whether `sigma` is a signature on `message` under `key`, and `keyG2` the same key in G2:
    /// e(sigma + g key, -G2) e(H(message) + g G1, keyG2) = 1 with g = hash of everything. Points off their curve are no
    /// signature; a precompile that meets one takes the gas it was given.
    function isValid(
        bytes32 message,
        IBlsQuorumVerifier.G1Point memory key,
        IBlsQuorumVerifier.G2Point memory keyG2,
        IBlsQuorumVerifier.G1Point memory sigma
    ) internal view returns (bool) {
        uint256 g =
            uint256(keccak256(abi.encode(message, key, keyG2, sigma))) % R;
        (uint256 hashX, uint256 hashY) = Bn254.hashToG1(message);
        (bool success, IBlsQuorumVerifier.G1Point memory left) = _addMultiple(sigma, key, g);
        if (!success) return false;
        IBlsQuorumVerifier.G1Point memory right;
        (success, right) = _addMultiple(IBlsQuorumVerifier.G1Point(hashX, hashY), IBlsQuorumVerifier.G1Point(1, 2), g);
        if (!success) return false;

        bytes memory output;
        (success, output) =
            address(8).staticcall(abi.encodePacked(abi.encode(left), NEGATED_G2, abi.encode(right, keyG2)));
        return success && abi.decode(output, (uint256)) == 1;
    }

    /// @dev point + scalar * other.
    function _addMultiple(
        IBlsQuorumVerifier.G1Point memory point,
        IBlsQuorumVerifier.G1Point memory other,
        uint256 scalar
    ) private view returns (bool success, IBlsQuorumVerifier.G1Point memory sum) {
        bytes memory output;
        (success, output) = address(7).staticcall(abi.encode(other, scalar));
        if (!success) return (false, sum);
        (success, output) = address(6).staticcall(abi.encodePacked(output, abi.encode(point)));
        if (success) sum = abi.decode(output, (IBlsQuorumVerifier.G1Point));
    }
}
