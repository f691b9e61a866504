"""Keccak-256 as Ethereum uses it (padding 0x01), from the Keccak reference. `hashlib` only checks the sponge, with SHA-3's padding."""

import hashlib

_MASK = (1 << 64) - 1
_ROTATIONS = [
    [0, 36, 3, 41, 18],
    [1, 44, 10, 45, 2],
    [62, 6, 43, 15, 61],
    [28, 55, 25, 21, 56],
    [27, 20, 39, 8, 14],
]


def _round_constants():
    """The constants, from the reference's linear feedback shift register."""
    constants, state = [], 1
    for _ in range(24):
        constant = 0
        for j in range(7):
            if state & 1:
                constant |= 1 << ((1 << j) - 1)
            state = (state << 1) ^ (0x171 if state & 0x80 else 0)
        constants.append(constant)
    return constants


_CONSTANTS = _round_constants()


# Lane (x, y) is number x + 5 * y. Rotated, it moves to (y, 2x + 3y): for each place, where its lane comes from, that lane's
# column, and the rotation as a shift to the left and one to the right.
_MOVES = {
    y + 5 * ((2 * x + 3 * y) % 5): (x + 5 * y, x, _ROTATIONS[x][y], 64 - _ROTATIONS[x][y]) for x in range(5) for y in range(5)
}
_MOVES = [_MOVES[place] for place in range(25)]
# Each lane and the next two of its row.
_ROWS = [(x + 5 * y, (x + 1) % 5 + 5 * y, (x + 2) % 5 + 5 * y) for y in range(5) for x in range(5)]


def _permute(a):
    """Written for speed: almost all the time of a differential run passes here."""
    for constant in _CONSTANTS:
        c = [a[x] ^ a[x + 5] ^ a[x + 10] ^ a[x + 15] ^ a[x + 20] for x in range(5)]
        d = [c[x - 1] ^ ((c[(x + 1) % 5] << 1 | c[(x + 1) % 5] >> 63) & _MASK) for x in range(5)]
        b = [((lane := a[source] ^ d[x]) << left | lane >> right) & _MASK for source, x, left, right in _MOVES]
        a = [b[lane] ^ (~b[first] & b[second]) for lane, first, second in _ROWS]
        a[0] ^= constant
    return a


def keccak256(data):
    """Digest of bytes, as bytes."""
    return _sponge(data, b"\x01")


def _sponge(data, padding):
    rate = 136
    padded = bytearray(data) + padding + b"\x00" * (-(len(data) + 1) % rate)
    padded[-1] |= 0x80
    lanes = [0] * 25
    for start in range(0, len(padded), rate):
        for i in range(rate // 8):
            lanes[i] ^= int.from_bytes(padded[start + 8 * i : start + 8 * i + 8], "little")
        lanes = _permute(lanes)
    return b"".join(lane.to_bytes(8, "little") for lane in lanes[:4])


def check():
    """Known digests, before anything is generated: Ethereum's empty hash and account hash, a text, more than one block."""
    known = {
        b"": "c5d2460186f7233c927e7db2dcc703c0e500b653ca82273b7bfad8045d85a470",
        b"abc": "4e03657aea45a94fc7d47ba826c8d667c0d1e6e33a64a036ec44f58fa12d6c45",
        b"transfer(address,uint256)": "a9059cbb2ab09eb219583f4a59a5d0623ade346d962bcd4e46b11da047c9049b",
        b"EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)":
            "8b73c3c69bb8fe3d512ecc4cf759cc79239f7b179b0ffacaa9a75d522b39400f",
    }
    for data, digest in known.items():
        assert keccak256(data).hex() == digest, f"keccak256({data!r})"
    # The same sponge with SHA-3's padding against the standard library, across block borders.
    for length in (0, 1, 134, 135, 136, 137, 271, 272, 500):
        data = bytes(i % 251 for i in range(length))
        assert _sponge(data, b"\x06") == hashlib.sha3_256(data).digest(), f"{length} bytes"
