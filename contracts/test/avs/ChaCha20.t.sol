// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

import {ChaCha20} from "../../src/avs/ChaCha20.sol";
import {Test} from "../Test.sol";

contract ChaCha20Test is Test {
    // ------------------------------------------------------------------- RFC

    function test_block_isThatOfRfc8439Section232() public pure {
        bytes32 key = hex"000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";
        // Counter 1, nonce 00:00:00:09:00:00:00:4a:00:00:00:00, as little-endian words.
        assertEq(
            _block(key, [uint256(1), 0x09000000, 0x4a000000, 0]),
            hex"10f1e7e4d13b5915500fdd1fa32071c4c7d1f4c733c068030422aa9ac3d46c4ed2826446079faa0914c2d705d98b02a2b5129cd1de164eb9cbd083e8a2503c4e",
            "section 2.3.2"
        );
    }

    function test_blocks_areThoseOfRfc8439AppendixA1() public pure {
        bytes32 zero = 0;
        bytes32 one = bytes32(uint256(1));
        bytes32 second = bytes32(uint256(0xff) << 240);
        assertEq(
            _block(zero, [uint256(0), 0, 0, 0]),
            hex"76b8e0ada0f13d90405d6ae55386bd28bdd219b8a08ded1aa836efcc8b770dc7da41597c5157488d7724e03fb8d84a376a43b8f41518a11cc387b669b2ee6586",
            "vector 1"
        );
        assertEq(
            _block(zero, [uint256(1), 0, 0, 0]),
            hex"9f07e7be5551387a98ba977c732d080dcb0f29a048e3656912c6533e32ee7aed29b721769ce64e43d57133b074d839d531ed1f28510afb45ace10a1f4b794d6f",
            "vector 2"
        );
        assertEq(
            _block(one, [uint256(1), 0, 0, 0]),
            hex"3aeb5224ecf849929b9d828db1ced4dd832025e8018b8160b82284f3c949aa5a8eca00bbb4a73bdad192b5c42f73f2fd4e273644c8b36125a64addeb006c13a0",
            "vector 3"
        );
        assertEq(
            _block(second, [uint256(2), 0, 0, 0]),
            hex"72d54dfbf12ec44b362692df94137f328fea8da73990265ec1bbbea1ae9af0ca13b25aa26cb4a648cb9b9d1be65b2c0924a66c54d545ec1b7374f4872e99f096",
            "vector 4"
        );
        assertEq(
            _block(zero, [uint256(0), 0, 0, 0x02000000]),
            hex"c2c64d378cd536374ae204b9ef933fcd1a8b2288b3dfa49672ab765b54ee27c78a970e0e955c14f3a88e741b97c286f75f8fc299e8148362fa198a39531bed6d",
            "vector 5"
        );
    }

    // --------------------------------------------------------------- vectors

    /// @dev Words of 64 bits as `rand_chacha` gives them: a counter of 64 bits from zero, a zero stream id.
    function test_streams_agreeWithVectors() public view {
        string memory json = vm.readFile("../avs/vectors/draws.json");
        for (uint256 index = 0; index < 4; ++index) {
            string memory path = string.concat(".streams[", vm.toString(index), "]");
            uint256[] memory expected = vm.parseJsonUintArray(json, string.concat(path, ".words"));
            bytes32 seed = vm.parseJsonBytes32(json, string.concat(path, ".seed"));
            assertEq(expected.length, 32, "words of a stream");
            for (uint256 counter = 0; counter < 4; ++counter) {
                bytes memory data = _block(seed, [counter, 0, 0, 0]);
                for (uint256 word = 0; word < 8; ++word) {
                    assertEq(_littleEndian(data, 8 * word, 8), expected[8 * counter + word], "stream word");
                }
            }
        }
    }

    // ------------------------------------------------------------- reference

    /// @notice The function as the RFC writes it, word by word, on any key, counter and nonce.
    function test_block_isThatOfTheTextbook(bytes32 key, uint32 counter, uint32[3] calldata nonce) public pure {
        uint256[4] memory last = [uint256(counter), nonce[0], nonce[1], nonce[2]];
        assertEq(_block(key, last), _textbook(key, last), "textbook");
    }

    function _textbook(bytes32 key, uint256[4] memory last) private pure returns (bytes memory data) {
        uint32[16] memory start;
        (start[0], start[1], start[2], start[3]) = (0x61707865, 0x3320646e, 0x79622d32, 0x6b206574);
        bytes memory keyBytes = abi.encodePacked(key);
        for (uint256 index = 0; index < 8; ++index) {
            start[4 + index] = uint32(_littleEndian(keyBytes, 4 * index, 4));
        }
        for (uint256 index = 0; index < 4; ++index) {
            start[12 + index] = uint32(last[index]);
        }
        uint32[16] memory state = abi.decode(abi.encode(start), (uint32[16]));
        for (uint256 rounds = 0; rounds < 10; ++rounds) {
            for (uint256 column = 0; column < 4; ++column) {
                _quarterRound(state, column, 4 + column, 8 + column, 12 + column);
            }
            for (uint256 column = 0; column < 4; ++column) {
                _quarterRound(state, column, 4 + (column + 1) % 4, 8 + (column + 2) % 4, 12 + (column + 3) % 4);
            }
        }
        data = new bytes(64);
        for (uint256 index = 0; index < 64; ++index) {
            uint32 word;
            unchecked {
                word = state[index / 4] + start[index / 4];
            }
            data[index] = bytes1(uint8(word >> (8 * (index % 4))));
        }
    }

    function _quarterRound(uint32[16] memory state, uint256 a, uint256 b, uint256 c, uint256 d) private pure {
        unchecked {
            state[a] += state[b];
            state[d] = _rotate(state[d] ^ state[a], 16);
            state[c] += state[d];
            state[b] = _rotate(state[b] ^ state[c], 12);
            state[a] += state[b];
            state[d] = _rotate(state[d] ^ state[a], 8);
            state[c] += state[d];
            state[b] = _rotate(state[b] ^ state[c], 7);
        }
    }

    function _rotate(uint32 word, uint32 by) private pure returns (uint32) {
        return (word << by) | (word >> (32 - by));
    }

    // --------------------------------------------------------------- our own

    /// @dev 64 bytes from the library, as the RFC serialises them.
    function _block(bytes32 key, uint256[4] memory last) private pure returns (bytes memory data) {
        (uint256 first, uint256 second) = ChaCha20.rows(key);
        uint256[4] memory rows;
        (rows[0], rows[1], rows[2], rows[3]) =
            ChaCha20.blockOf(first, second, last[0] | (last[1] << 64) | (last[2] << 128) | (last[3] << 192));
        data = new bytes(64);
        for (uint256 index = 0; index < 64; ++index) {
            uint256 word = rows[index / 16] >> (64 * (index / 4 % 4));
            data[index] = bytes1(uint8(word >> (8 * (index % 4))));
        }
        for (uint256 row = 0; row < 4; ++row) {
            assertEq(
                rows[row] & ~uint256(0x00000000ffffffff00000000ffffffff00000000ffffffff00000000ffffffff), 0, "clean"
            );
        }
    }

    function _littleEndian(bytes memory data, uint256 start, uint256 size) private pure returns (uint256 value) {
        for (uint256 index = size; index > 0; --index) {
            value = (value << 8) | uint8(data[start + index - 1]);
        }
    }
}
