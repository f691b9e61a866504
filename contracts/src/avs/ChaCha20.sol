// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

/// @title ChaCha20's block function (RFC 8439)
/// @notice One row of the state in each word: four lanes of 64 bits, the row's word i of 32 bits at bit 64 * i with zeros
/// above it. So one operation works on four words, as it would with vector registers.
library ChaCha20 {
    /// @dev "expand 32-byte k".
    uint256 private constant CONSTANTS = 0x000000006b2065740000000079622d32000000003320646e0000000061707865;
    uint256 private constant LANES = 0x00000000ffffffff00000000ffffffff00000000ffffffff00000000ffffffff;

    /// @notice The two rows of a key.
    function rows(bytes32 key) internal pure returns (uint256 first, uint256 second) {
        uint256 words = _reverseBytes(uint256(key));
        first = _spread(uint128(words));
        second = _spread(words >> 128);
    }

    /// @notice The 16 words of one block.
    /// @param first First row of the key, see {rows}.
    /// @param second Second row of the key.
    /// @param last Row of the block counter and nonce.
    /// @return a Words 0 to 3; the others follow.
    function blockOf(uint256 first, uint256 second, uint256 last)
        internal
        pure
        returns (uint256 a, uint256 b, uint256 c, uint256 d)
    {
        // A word next to itself, in one lane of 64 bits, shifted right by 32 - n is the word rotated left by n. Multiplying
        // modulo 2^256 - 1 rotates the whole row instead of shifting it, which moves the words on to the next lanes in the
        // same step: columns become diagonals. (It takes a row of ones only for zero: one state in 2^128.)
        assembly ("memory-safe") {
            let lanes := LANES
            let ones := not(0)
            a := CONSTANTS
            b := first
            c := second
            d := last
            for { let rounds := 10 } rounds { rounds := sub(rounds, 1) } {
                // Columns.
                a := and(add(a, b), lanes)
                d := and(shr(16, mul(xor(d, a), 0x100000001)), lanes)
                c := and(add(c, d), lanes)
                b := and(shr(20, mul(xor(b, c), 0x100000001)), lanes)
                a := and(add(a, b), lanes)
                d := and(shr(24, mul(xor(d, a), 0x100000001)), lanes)
                c := and(add(c, d), lanes)
                // 25 bits, and one lane down: 89 to the right, 167 to the left.
                b := and(mulmod(xor(b, c), shl(167, 0x100000001), ones), lanes)
                c := mulmod(c, shl(128, 1), ones)
                d := mulmod(d, shl(64, 1), ones)

                // Diagonals.
                a := and(add(a, b), lanes)
                d := and(shr(16, mul(xor(d, a), 0x100000001)), lanes)
                c := and(add(c, d), lanes)
                b := and(shr(20, mul(xor(b, c), 0x100000001)), lanes)
                a := and(add(a, b), lanes)
                d := and(shr(24, mul(xor(d, a), 0x100000001)), lanes)
                c := and(add(c, d), lanes)
                // 25 bits, and one lane up: 39 to the left.
                b := and(mulmod(xor(b, c), shl(39, 0x100000001), ones), lanes)
                c := mulmod(c, shl(128, 1), ones)
                d := mulmod(d, shl(192, 1), ones)
            }
            a := and(add(a, CONSTANTS), lanes)
            b := and(add(b, first), lanes)
            c := and(add(c, second), lanes)
            d := and(add(d, last), lanes)
        }
    }

    /// @dev The four words of 32 bits in 128 bits, each into its lane.
    function _spread(uint256 words) private pure returns (uint256 row) {
        row = (words | (words << 64)) & 0x0000000000000000ffffffffffffffff0000000000000000ffffffffffffffff;
        row = (row | (row << 32)) & LANES;
    }

    /// @dev The state's words are little-endian, the machine's big-endian.
    function _reverseBytes(uint256 word) private pure returns (uint256) {
        uint256 mask = 0x00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff;
        word = ((word >> 8) & mask) | ((word & mask) << 8);
        mask = 0x0000ffff0000ffff0000ffff0000ffff0000ffff0000ffff0000ffff0000ffff;
        word = ((word >> 16) & mask) | ((word & mask) << 16);
        mask = LANES;
        word = ((word >> 32) & mask) | ((word & mask) << 32);
        mask = 0x0000000000000000ffffffffffffffff0000000000000000ffffffffffffffff;
        word = ((word >> 64) & mask) | ((word & mask) << 64);
        return (word >> 128) | (word << 128);
    }
}
