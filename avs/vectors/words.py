"""The packed words, as tables of (field, offset from the lowest bit, width)."""

RESOURCES = [("storage", 0, 22), ("memory", 22, 20), ("cpu", 42, 20), ("gpuCount", 62, 12), ("gpus", 96, 160)]
REQUIREMENTS = [
    ("mode", 0, 8), ("tiers", 8, 8), ("preferredRegion", 16, 8), ("preferredZone", 24, 8), ("compliance", 32, 16),
    ("attributes", 48, 40), ("paramsVersion", 88, 16),
]
OFFER = [("block", 0, 32), ("rate", 32, 84), ("fizz", 116, 32), ("provider", 148, 32)]
SCORE_CARD = [
    ("stake", 0, 48), ("slashes", 48, 16), ("feedbackCount", 64, 32), ("feedbackSum", 96, 40), ("region", 136, 8),
    ("zone", 144, 8), ("tier", 152, 3), ("attributes", 155, 40), ("tokens", 195, 32), ("compliance", 227, 16),
    ("active", 243, 1),
]
CAPACITY = [
    ("storageFree", 0, 22), ("storageTotal", 22, 22), ("memoryFree", 44, 20), ("memoryTotal", 64, 20), ("cpuFree", 84, 20),
    ("cpuTotal", 104, 20),
    ("gpu0Free", 124, 12), ("gpu0Total", 136, 12), ("gpu0Id", 148, 8),
    ("gpu1Free", 156, 12), ("gpu1Total", 168, 12), ("gpu1Id", 180, 8),
    ("gpu2Free", 188, 12), ("gpu2Total", 200, 12), ("gpu2Id", 212, 8),
    ("gpu3Free", 220, 12), ("gpu3Total", 232, 12), ("gpu3Id", 244, 8),
    ("active", 252, 1),
]
ORDER_ID = [("nonce", 0, 24), ("token", 24, 8), ("account", 32, 32)]
HEADER = [("ranks", 0, 8), ("orderId", 8, 64)]
RANK = [("gpuEntry", 0, 2), ("rate", 2, 84), ("fizz", 86, 32), ("provider", 118, 32)]

GUARDS = sum(0x10 << (5 * i) for i in range(8))


def pack(table, fields):
    word = 0
    for name, offset, width in table:
        value = int(fields[name])
        assert 0 <= value < 1 << width, (name, value)
        word |= value << offset
    return word


def unpack(table, word):
    return {name: word >> offset & ((1 << width) - 1) for name, offset, width in table}


def stray_bits(table, word):
    """Whether bits outside every field are set."""
    return word & ~sum(((1 << width) - 1) << offset for _, offset, width in table) != 0


def attributes(levels):
    return sum(level << (5 * i) for i, level in enumerate(levels))
