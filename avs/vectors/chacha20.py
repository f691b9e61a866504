"""ChaCha20 from RFC 8439, and the word stream that seeds 256 bits with a 64-bit counter and a zero stream id."""

_MASK = 0xFFFFFFFF
_CONSTANTS = [0x61707865, 0x3320646E, 0x79622D32, 0x6B206574]


def _quarter_round(s, a, b, c, d):
    for first, second, third, by in ((a, b, d, 16), (c, d, b, 12), (a, b, d, 8), (c, d, b, 7)):
        s[first] = (s[first] + s[second]) & _MASK
        mixed = s[third] ^ s[first]
        s[third] = ((mixed << by) | (mixed >> (32 - by))) & _MASK


def block(key, last_row):
    """64 bytes for a 32-byte key and the four words of the last row (counter and nonce)."""
    start = _CONSTANTS + [int.from_bytes(key[i : i + 4], "little") for i in range(0, 32, 4)] + list(last_row)
    s = list(start)
    for _ in range(10):
        for column in range(4):
            _quarter_round(s, column, 4 + column, 8 + column, 12 + column)
        for column in range(4):
            _quarter_round(s, column, 4 + (column + 1) % 4, 8 + (column + 2) % 4, 12 + (column + 3) % 4)
    return b"".join(((x + y) & _MASK).to_bytes(4, "little") for x, y in zip(s, start))


def words(seed):
    """Endless 64-bit words of the stream."""
    counter = 0
    while True:
        data = block(seed, (counter & _MASK, counter >> 32, 0, 0))
        for i in range(0, 64, 8):
            yield int.from_bytes(data[i : i + 8], "little")
        counter += 1


def check():
    """RFC 8439: section 2.3.2 and the block vectors of appendix A.1."""
    key = bytes(range(32))
    nonce = bytes.fromhex("000000090000004a00000000")
    row = [1] + [int.from_bytes(nonce[i : i + 4], "little") for i in range(0, 12, 4)]
    assert block(key, row).hex() == (
        "10f1e7e4d13b5915500fdd1fa32071c4c7d1f4c733c068030422aa9ac3d46c4e"
        "d2826446079faa0914c2d705d98b02a2b5129cd1de164eb9cbd083e8a2503c4e"
    ), "RFC 8439, 2.3.2"
    assert block(bytes(32), (0, 0, 0, 0)).hex() == (
        "76b8e0ada0f13d90405d6ae55386bd28bdd219b8a08ded1aa836efcc8b770dc7"
        "da41597c5157488d7724e03fb8d84a376a43b8f41518a11cc387b669b2ee6586"
    ), "RFC 8439, A.1, vector 1"
    assert block(bytes(32), (1, 0, 0, 0)).hex() == (
        "9f07e7be5551387a98ba977c732d080dcb0f29a048e3656912c6533e32ee7aed"
        "29b721769ce64e43d57133b074d839d531ed1f28510afb45ace10a1f4b794d6f"
    ), "RFC 8439, A.1, vector 2"
