// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

/// @title BN254 (alt_bn128) on the precompiles of EIP-196, EIP-197 and EIP-198
/// @notice What one aggregate signature needs, in as few memory words and calls as it takes. Points are (X, Y), the point at
/// infinity is (0, 0). Functions that can meet a point off its curve return false instead of reverting: the precompile then
/// has burnt all gas it was given, so callers revert.
library Bn254 {
    struct G1 {
        uint256 x;
        uint256 y;
    }

    /// @dev Order of the base field.
    uint256 internal constant P = 0x30644e72e131a029b85045b68181585d97816a916871ca8d3c208c16d87cfd47;
    /// @dev Order of the groups.
    uint256 private constant R = 0x30644e72e131a029b85045b68181585d2833e84879b9709143e1f593f0000001;
    /// @dev (P + 1) / 4: P is 3 mod 4, so a power is the square root.
    uint256 private constant SQUARE_ROOT = 0x0c19139cb84c680a6e14116da060561765e05aa45a1c72a34f082305b61f3f52;

    /// @dev The negated generator of G2, imaginary part first, as the pairing precompile takes it.
    uint256 private constant NEGATED_G2_X1 = 0x198e9393920d483a7260bfb731fb5d25f1aa493335a9e71297e485b7aef312c2;
    uint256 private constant NEGATED_G2_X0 = 0x1800deef121f1e76426a00665e5c4479674322d4f75edadd46debd5cd992f6ed;
    uint256 private constant NEGATED_G2_Y1 = 0x275dc4a288d1afb3cbb1ac09187524c7db36395df7be3b99e673b13a075a65ec;
    uint256 private constant NEGATED_G2_Y0 = 0x1d9befcd05a5323e6da4d435f3b617cdb3af83285c2df711ef39c01571827f9d;

    /// @dev Adds (x, y) to `sum` in place.
    function add(G1 memory sum, uint256 x, uint256 y) internal view returns (bool success) {
        assembly ("memory-safe") {
            let buffer := mload(0x40)
            mcopy(buffer, sum, 0x40)
            mstore(add(buffer, 0x40), x)
            mstore(add(buffer, 0x60), y)
            success := staticcall(gas(), 6, buffer, 0x80, sum, 0x40)
        }
    }

    /// @dev Negates in place.
    function negate(G1 memory point) internal pure {
        if (point.y != 0) point.y = P - point.y;
    }

    /// @dev Whether `sigma` is a signature on `message` under `key`, and `keyG2` the same key in G2: one check of two pairings,
    ///   e(sigma + g key, -G2) e(H(message) + g G1, keyG2) = 1, with g = hash of everything (EigenLayer's
    /// `trySignatureAndApkVerification`).
    /// @param points Calldata offset of keyG2 (four words) and sigma (two words), one after the other.
    function verify(bytes32 message, uint256 hashX, uint256 hashY, G1 memory key, uint256 points)
        internal
        view
        returns (bool success, bool valid)
    {
        uint256 input;
        assembly ("memory-safe") {
            input := mload(0x40)
            // g, over message, key, keyG2, sigma
            mstore(input, message)
            mcopy(add(input, 0x20), key, 0x40)
            calldatacopy(add(input, 0x60), points, 0xc0)
            let g := mod(keccak256(input, 0x120), R)

            // sigma + g key
            mcopy(input, key, 0x40)
            mstore(add(input, 0x40), g)
            success := staticcall(gas(), 7, input, 0x60, input, 0x40)
            calldatacopy(add(input, 0x40), add(points, 0x80), 0x40)
            success := and(success, staticcall(gas(), 6, input, 0x80, input, 0x40))

            // H(message) + g G1
            let second := add(input, 0xc0)
            mstore(second, 1)
            mstore(add(second, 0x20), 2)
            mstore(add(second, 0x40), g)
            success := and(success, staticcall(gas(), 7, second, 0x60, second, 0x40))
            mstore(add(second, 0x40), hashX)
            mstore(add(second, 0x60), hashY)
            success := and(success, staticcall(gas(), 6, second, 0x80, second, 0x40))
        }
        // Not attempted after a failure: the precompile would burn what gas is left.
        if (success) (success, valid) = _pair(input, points);
    }

    /// @dev Whether `sigma` is a signature on what was hashed to (hashX, hashY) under the key `keyG2`:
    ///   e(sigma, -G2) e(H(message), keyG2) = 1.
    /// @param points As in {verify}.
    function verifySignature(uint256 hashX, uint256 hashY, uint256 points)
        internal
        view
        returns (bool success, bool valid)
    {
        uint256 input;
        assembly ("memory-safe") {
            input := mload(0x40)
            calldatacopy(input, add(points, 0x80), 0x40)
            mstore(add(input, 0xc0), hashX)
            mstore(add(input, 0xe0), hashY)
        }
        return _pair(input, points);
    }

    /// @dev Whether `keyG1` and `keyG2` are one key: e(keyG1, -G2) e(G1, keyG2) = 1. True for two points at infinity.
    /// @param keyG1 Calldata offset of two words.
    /// @param keyG2 Calldata offset of four words.
    function isOneKey(uint256 keyG1, uint256 keyG2) internal view returns (bool success, bool valid) {
        uint256 input;
        assembly ("memory-safe") {
            input := mload(0x40)
            calldatacopy(input, keyG1, 0x40)
            mstore(add(input, 0xc0), 1)
            mstore(add(input, 0xe0), 2)
        }
        return _pair(input, keyG2);
    }

    /// @dev Whether e(a, -G2) e(b, keyG2) = 1. The precompile refuses what is not in the groups.
    /// @param input Free memory of twelve words, in which a lies at 0 and b at 0xc0.
    /// @param keyG2 Calldata offset.
    function _pair(uint256 input, uint256 keyG2) private view returns (bool success, bool valid) {
        assembly ("memory-safe") {
            mstore(add(input, 0x40), NEGATED_G2_X1)
            mstore(add(input, 0x60), NEGATED_G2_X0)
            mstore(add(input, 0x80), NEGATED_G2_Y1)
            mstore(add(input, 0xa0), NEGATED_G2_Y0)
            calldatacopy(add(input, 0x100), keyG2, 0x80)
            success := staticcall(gas(), 8, input, 0x180, 0, 0x20)
            valid := and(success, mload(0))
        }
    }

    /// @dev EigenLayer's try-and-increment: the first x, counted from `message` mod P, that is on the curve, with the root
    /// that is a power.
    function hashToG1(bytes32 message) internal view returns (uint256 x, uint256 y) {
        assembly ("memory-safe") {
            // base^exponent mod modulus; only the base changes between tries.
            let input := mload(0x40)
            mstore(input, 0x20)
            mstore(add(input, 0x20), 0x20)
            mstore(add(input, 0x40), 0x20)
            mstore(add(input, 0x80), SQUARE_ROOT)
            mstore(add(input, 0xa0), P)
            x := mod(message, P)
            for {} 1 { x := addmod(x, 1, P) } {
                let square := addmod(mulmod(mulmod(x, x, P), x, P), 3, P)
                mstore(add(input, 0x60), square)
                // Fails only without gas, and then the caller is out of gas too.
                if iszero(staticcall(gas(), 5, input, 0xc0, 0, 0x20)) { invalid() }
                y := mload(0)
                if eq(mulmod(y, y, P), square) { break }
            }
        }
    }

    /// @dev The same point from roots that the caller found, without a modular exponentiation (4 300 gas for every try).
    ///
    /// P is 3 mod 4, so of v and -v exactly one is a square (v is never zero here: the curve's order is odd, no point has y = 0).
    /// For an x that is not on the curve, w with w^2 = -(x^3 + 3) proves it. For the x that is, z with (z^2)^2 = x^3 + 3 gives
    /// y = z^2, the root that is itself a square, which is the one that is a power; -y is none.
    /// @param roots Calldata offset of `count` words: w for every x tried in vain, then z.
    function hashToG1(bytes32 message, uint256 roots, uint256 count)
        internal
        pure
        returns (bool success, uint256 x, uint256 y)
    {
        assembly ("memory-safe") {
            x := mod(message, P)
            success := 1
            let last := add(roots, shl(5, sub(count, 1)))
            for {} lt(roots, last) { roots := add(roots, 0x20) } {
                let w := calldataload(roots)
                let right := addmod(mulmod(mulmod(x, x, P), x, P), 3, P)
                success := and(success, iszero(addmod(mulmod(w, w, P), right, P)))
                x := addmod(x, 1, P)
            }
            let z := calldataload(last)
            y := mulmod(z, z, P)
            success := and(success, eq(mulmod(y, y, P), addmod(mulmod(mulmod(x, x, P), x, P), 3, P)))
        }
    }
}
