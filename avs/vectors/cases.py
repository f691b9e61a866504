"""The matching cases: random ones from a fixed seed, and one for each boundary and each reason to refuse a bid."""

import hashlib

import words

DEFAULT_PARAMETERS = {
    "weights": [400_000, 100_000, 100_000, 100_000, 100_000, 100_000, 50_000, 50_000],
    "stakeCap": 1_000_000,
    "rankLimit": 5,
    "chunkSize": 64,
}
ANY_REGION = 2**256 - 1
RATE_MAXIMUM = 2**84 - 1


class Source:
    """Numbers from a seed by SHA-256, the same under every Python."""

    def __init__(self, seed):
        self._seed, self._count = seed.encode(), 0

    def bits(self, width):
        value = 0
        for _ in range(0, width, 256):
            digest = hashlib.sha256(self._seed + self._count.to_bytes(8, "big")).digest()
            value = value << 256 | int.from_bytes(digest, "big")
            self._count += 1
        return value & ((1 << width) - 1)

    def between(self, low, high):
        return low + self.bits(128) % (high - low + 1)

    def pick(self, values):
        return values[self.between(0, len(values) - 1)]

    def chance(self, percent):
        return self.between(1, 100) <= percent

    def bytes(self, count):
        return self.bits(8 * count).to_bytes(count, "big")


def order_fields(**changes):
    """An order that asks for little and refuses nobody."""
    fields = {
        "storage": 4, "memory": 32, "cpu": 100, "gpuCount": 0, "gpus": 0, "mode": 0, "tiers": 0xFE, "preferredRegion": 0,
        "preferredZone": 0, "compliance": 0, "attributes": 0, "paramsVersion": 1, "regions": ANY_REGION,
        "manifestHash": 0x1234, "maximumRate": 1_000_000, "duration": 3600, "wanted": [], "excluded": [],
    }
    return fields | changes


def terms(**changes):
    fields = order_fields(**changes)
    return {
        "resources": words.pack(words.RESOURCES, fields),
        "requirements": words.pack(words.REQUIREMENTS, fields),
    } | {k: fields[k] for k in ("regions", "manifestHash", "maximumRate", "duration", "wanted", "excluded")}


def bid_fields(**changes):
    """A valid bid of a middling provider."""
    fields = {
        "block": 100, "rate": 500_000, "fizz": 0, "provider": 1, "stake": 10_000, "slashes": 0, "feedbackCount": 10,
        "feedbackSum": 80, "region": 3, "zone": 2, "tier": 2, "attributes": 0, "tokens": 0b11, "cardCompliance": 0,
        "cardActive": 1, "storageFree": 800, "storageTotal": 1000, "memoryFree": 3000, "memoryTotal": 4000,
        "cpuFree": 5000, "cpuTotal": 6400, "active": 1,
    }
    for i in range(4):
        fields |= {f"gpu{i}Free": 0, f"gpu{i}Total": 0, f"gpu{i}Id": 0}
    return fields | changes


def bid(**changes):
    fields = bid_fields(**changes)
    card = fields | {"compliance": fields["cardCompliance"], "active": fields["cardActive"]}
    return [words.pack(words.OFFER, fields), words.pack(words.SCORE_CARD, card), words.pack(words.CAPACITY, fields)]


def case(name, order_terms, bids, order_id=7 << 32 | 1 << 24 | 3, parameters=None, chain_id=31337, close_block=102):
    block_hash = hashlib.sha256(name.encode()).digest()
    return {
        "name": name, "chainId": chain_id, "orderId": order_id, "closeBlock": close_block, "closeBlockHash": block_hash,
        "parameters": parameters or DEFAULT_PARAMETERS, "terms": order_terms, "bids": bids,
    }


def weights(**parts):
    names = ["price", "region", "feedback", "availability", "slashes", "tier", "stake", "randomness"]
    return DEFAULT_PARAMETERS | {"weights": [parts.get(name, 0) for name in names]}


def boundary_cases():
    yield case("no bid", terms(), [])
    yield case("one bid", terms(), [bid()])
    yield case("rate is the maximum", terms(), [bid(rate=1_000_000)])
    yield case("maximum rate one", terms(maximumRate=1), [bid(rate=1), bid(rate=2, provider=2)])
    yield case("all free capacity is taken", terms(), [bid(storageFree=4, memoryFree=32, cpuFree=100)])
    yield case("zero capacity", terms(), [bid(storageFree=0, storageTotal=0, memoryFree=0, memoryTotal=0, cpuFree=0,
                                              cpuTotal=0)])
    yield case("storage not asked, none there", terms(storage=0), [bid(storageFree=0, storageTotal=0)])
    same = [bid(provider=p) for p in (9, 4, 7, 2, 11, 5, 3)]
    level = weights(price=600_000, region=400_000)
    yield case("equal totals and rates go by provider", terms(), same, parameters=level)
    fizz = [bid(provider=p, fizz=f) for p, f in ((2, 9), (2, 4), (1, 50), (2, 30), (1, 8))]
    yield case("equal totals and rates go by provider, then fizz", terms(mode=1), fizz, parameters=level)
    rates = [bid(provider=p, rate=r) for p, r in ((1, 9), (2, 7), (3, 8), (4, 7))]
    yield case("equal totals go by rate", terms(), rates, parameters=weights(region=1_000_000))
    yield case("totals beside each other", terms(maximumRate=10**6), [bid(provider=p, rate=500_000 + p % 2) for p in
                                                                      range(1, 9)], parameters=weights(price=1_000_000))
    top = {"rate": RATE_MAXIMUM - 1, "stake": 2**48 - 1, "slashes": 2**16 - 1, "feedbackCount": 2**32 - 1,
           "feedbackSum": 2**40 - 1, "tier": 7, "region": 255, "zone": 255, "attributes": words.attributes([15] * 8),
           "tokens": 2**32 - 1, "cardCompliance": 0xFFFF, "storageFree": 2**22 - 1, "storageTotal": 2**22 - 1,
           "memoryFree": 2**20 - 1, "memoryTotal": 2**20 - 1, "cpuFree": 2**20 - 1, "cpuTotal": 2**20 - 1,
           "block": 2**32 - 1, "provider": 2**32 - 1, "fizz": 2**32 - 1}
    for i in range(4):
        top |= {f"gpu{i}Free": 4095, f"gpu{i}Total": 4095, f"gpu{i}Id": 159}
    most = terms(storage=2**22 - 1, memory=2**20 - 1, cpu=2**20 - 1, gpuCount=4095, gpus=2**160 - 2, mode=1, tiers=0xFE,
                 preferredRegion=255, preferredZone=255, compliance=0xFFFF, attributes=words.attributes([15] * 8),
                 regions=1 << 255, maximumRate=RATE_MAXIMUM, duration=2**29 - 1, paramsVersion=0xFFFF,
                 wanted=[0, 1, 2**32 - 1])
    yield case("everything at its maximum", most, [bid(**top), bid(**(top | {"rate": 1, "provider": 1}))],
               order_id=2**64 - 1 - (0xFF << 24) + (31 << 24), chain_id=2**64 - 1, close_block=2**32 - 1,
               parameters=DEFAULT_PARAMETERS | {"stakeCap": 2**48 - 1, "rankLimit": 8})
    yield case("feedback above ten counts as ten", terms(), [bid(feedbackCount=1, feedbackSum=2**40 - 1)])
    yield case("stake below, at and above the cap", terms(),
               [bid(provider=p, stake=s) for p, s in ((1, 0), (2, 999_999), (3, 1_000_000), (4, 1_000_001))])
    yield case("slashes", terms(), [bid(provider=p, slashes=s) for p, s in ((1, 0), (2, 1), (3, 2), (4, 6), (5, 65535))])
    yield case("tiers", terms(), [bid(provider=p, tier=p) for p in range(1, 8)])
    preferences = [bid(provider=p, region=r, zone=z) for p, r, z in ((1, 3, 2), (2, 3, 1), (3, 4, 2), (4, 0, 0))]
    yield case("exact zone, same region, elsewhere", terms(preferredRegion=3, preferredZone=2), preferences)
    yield case("region without a zone", terms(preferredRegion=3), preferences)
    for limit in range(1, 9):
        yield case(f"rank limit {limit}", terms(), [bid(provider=p, rate=100_000 + 7 * p) for p in range(1, 10)],
                   parameters=DEFAULT_PARAMETERS | {"rankLimit": limit})
    twice = [bid(rate=10), bid(provider=2, rate=20), bid(rate=30), bid(provider=2, rate=5), bid(rate=25)]
    yield case("the last bid of each counts", terms(), twice)
    yield case("the last bid counts though it is not valid", terms(), [bid(rate=10), bid(rate=2_000_000)])
    malformed = bid(rate=10)
    yield case("the last bid counts though it is malformed", terms(), [bid(rate=10), [malformed[0] | 1 << 200] + malformed[1:]])


def gpu_cases():
    asks = terms(gpuCount=2, gpus=1 << 5 | 1 << 159)

    def with_gpus(provider, *entries):
        fields = {"provider": provider}
        for i, (free, total, model) in enumerate(entries):
            fields |= {f"gpu{i}Free": free, f"gpu{i}Total": total, f"gpu{i}Id": model}
        return bid(**fields)

    yield case("the first fitting GPU entry is taken", asks, [
        with_gpus(1, (8, 8, 5)),
        with_gpus(2, (8, 8, 6), (2, 4, 159)),
        with_gpus(3, (1, 8, 5), (0, 0, 0), (3, 9, 5), (9, 9, 5)),
        with_gpus(4, (0, 8, 5), (1, 8, 159), (8, 8, 7), (2, 2, 5)),
        with_gpus(5, (1, 8, 5), (1, 8, 159)),
        with_gpus(6, (4095, 4095, 160), (4095, 4095, 255), (4095, 4095, 0)),
        with_gpus(7),
    ])


def rejection_cases():
    """A bid that each check refuses, beside one it lets pass."""
    demanding = {"tiers": 0b110, "compliance": 0b101, "attributes": words.attributes([0, 3, 0, 0, 15, 0, 0, 1]),
                 "regions": 1 << 3 | 1 << 200, "wanted": [1, 2, 77], "excluded": [5, 78]}
    fitting = {"cardCompliance": 0b111, "attributes": words.attributes([0, 3, 0, 9, 15, 0, 0, 2])}
    changes = [
        {"cardActive": 0}, {"active": 0}, {"rate": 0}, {"rate": 1_000_001}, {"fizz": 9}, {"tokens": 0b01}, {"region": 4},
        {"region": 0}, {"region": 200}, {"tier": 0}, {"tier": 3}, {"attributes": words.attributes([0, 2, 0, 9, 15, 0, 0, 2])},
        {"attributes": words.attributes([15, 15, 15, 15, 14, 15, 15, 15])}, {"cardCompliance": 0b110}, {"provider": 3},
        {"cpuFree": 99}, {"memoryFree": 31}, {"storageFree": 3},
    ]
    for change in changes:
        yield case(f"refused or not: {change}", terms(**demanding), [bid(**(fitting | change)), bid(**(fitting | {"provider": 2}))])
    yield case("a provider without a region fits an order that takes any", terms(), [bid(region=0)])
    yield case("all regions but one refuse a provider without", terms(regions=ANY_REGION - (1 << 9)), [bid(region=0)])
    yield case("an excluded provider excludes its fizz nodes", terms(mode=1, excluded=[5, 60]),
               [bid(provider=5, fizz=61), bid(provider=6, fizz=60), bid(provider=6, fizz=62)])
    yield case("zero in the excluded list excludes nobody's fizz", terms(excluded=[0, 5]), [bid(provider=4)])
    yield case("a wanted fizz node", terms(mode=1, wanted=[60]), [bid(provider=60, fizz=61), bid(provider=6, fizz=60)])
    good = bid()
    for name, index, mask in (("offer above", 0, 1 << 180), ("offer top", 0, 1 << 255), ("card above", 1, 1 << 244),
                              ("card guard", 1, 1 << 159), ("capacity above", 2, 1 << 253)):
        broken = list(good)
        broken[index] |= mask
        yield case(f"stray bits: {name}", terms(), [broken, bid(provider=2)])
    for kind in ("storage", "memory", "cpu"):
        more = bid(**{kind + "Free": 2000, kind + "Total": 1999})
        yield case(f"more free than there is: {kind}", terms(), [more])
        yield case(f"more free than there is, where nothing is asked: {kind}", terms(storage=0), [more])
    gpus = {"gpu0Free": 9, "gpu0Total": 8, "gpu0Id": 5, "gpu2Free": 8, "gpu2Total": 8, "gpu2Id": 5}
    yield case("more free than there is: GPU entry", terms(gpuCount=1, gpus=1 << 5), [bid(**gpus)])
    yield case("more free than there is, where nothing is asked: GPU entry", terms(), [bid(**gpus)])


def malformed_order_cases():
    ok = terms()
    changes = [
        {"maximumRate": 0}, {"maximumRate": 2**84}, {"duration": 0}, {"duration": 2**29}, {"wanted": [1, 1]},
        {"wanted": [2, 1]}, {"excluded": [9, 8]}, {"resources": ok["resources"] | 1 << 74},
        {"resources": ok["resources"] | 1 << 95}, {"resources": ok["resources"] | 1 << 96},
        {"resources": ok["resources"] | 1 << 97}, {"resources": ok["resources"] | 1 << 62},
        {"resources": terms(memory=0)["resources"]}, {"resources": terms(cpu=0)["resources"]},
        {"requirements": ok["requirements"] | 1 << 104}, {"requirements": ok["requirements"] | 2},
        {"requirements": terms(tiers=0)["requirements"]}, {"requirements": terms(tiers=3)["requirements"]},
        {"requirements": ok["requirements"] | 1 << 52},
    ]
    for number, change in enumerate(changes):
        yield case(f"malformed terms {number}: {', '.join(change)}", ok | change, [bid()])


def random_parameters(source):
    randomness = source.between(0, 50_000)
    cuts = sorted(source.between(0, 1_000_000 - randomness) for _ in range(6))
    edges = [0] + cuts + [1_000_000 - randomness]
    parts = [b - a for a, b in zip(edges, edges[1:])]
    return {"weights": parts + [randomness], "stakeCap": source.pick([1, 1000, 10**6, source.between(1, 2**48 - 1)]),
            "rankLimit": source.between(1, 8), "chunkSize": 64}


def random_terms(source):
    gpu_count = source.between(1, 4) if source.chance(30) else 0
    gpus = sum(1 << model for model in range(1, 8) if source.chance(40)) or 1 << 3
    ids = sorted({source.between(1, 40) for _ in range(source.between(0, 12))})
    return terms(
        storage=source.between(0, 60), memory=source.between(1, 300), cpu=source.between(1, 400), gpuCount=gpu_count,
        gpus=gpus if gpu_count else 0, mode=source.between(0, 1), tiers=source.pick([0xFE, 0xFE, 0xFE, 0xFE, 0b1110, 0b100]),
        preferredRegion=source.between(0, 3), preferredZone=source.between(0, 2),
        compliance=source.pick([0, 0, 1, 5]),
        attributes=words.attributes([source.pick([0, 0, 0, 0, 0, 1, 2, 5]) for _ in range(8)]),
        regions=source.pick([ANY_REGION, ANY_REGION, ANY_REGION, 0b1110, 0b10100]), manifestHash=source.bits(256),
        maximumRate=source.pick([source.between(1, 100), 10**6, source.between(1, 10**12), source.between(1, RATE_MAXIMUM)]),
        duration=source.between(1, 2**29 - 1), wanted=ids if source.chance(10) else [],
        excluded=ids if source.chance(30) else [],
    )


def random_bid(source, order_terms, bidders):
    maximum = order_terms["maximumRate"]
    mode = order_terms["requirements"] & 1
    fields = {
        "block": source.between(1, 2**32 - 1), "rate": min(source.between(1, maximum + maximum // 20), RATE_MAXIMUM),
        "provider": source.between(1, bidders),
        "fizz": source.between(41, 41 + bidders) if (mode == 1) != source.chance(4) else 0,
        "stake": source.pick([0, 500, source.between(0, 2 * 10**6), source.between(0, 2**48 - 1)]),
        "slashes": source.pick([0, 0, 0, 1, 2, 9]), "feedbackCount": source.pick([0, 1, 7, source.bits(32)]),
        "region": source.between(0, 4), "zone": source.between(0, 3), "tier": source.pick([0, 1, 1, 2, 2, 3, 3, 3, 3, 4, 4, 5, 6, 7]),
        "attributes": words.attributes([source.between(3, 15) for _ in range(8)]), "tokens": 0xFFFF_FFFF if source.chance(95) else 0,
        "cardCompliance": source.pick([7, 7, 7, 1, source.bits(16)]), "cardActive": int(source.chance(97)),
        "active": int(source.chance(97)),
    }
    fields["feedbackSum"] = min(fields["feedbackCount"] * source.between(0, 10) + source.between(0, 9), 2**40 - 1)
    for name, total in (("storage", 2000), ("memory", 9000), ("cpu", 6400)):
        fields[name + "Total"] = source.between(total // 4, total)
        fields[name + "Free"] = source.between(0, fields[name + "Total"])
    for i in range(4):
        fields[f"gpu{i}Id"] = source.between(0, 9)
        fields[f"gpu{i}Total"] = source.between(0, 16)
        fields[f"gpu{i}Free"] = source.between(0, fields[f"gpu{i}Total"])
    return bid(**fields)


def random_case(name, count, bidders):
    source = Source(name)
    order_terms = random_terms(source)
    order_id = source.between(1, 2**32 - 1) << 32 | source.between(0, 31) << 24 | source.between(1, 2**24 - 1)
    bids = [random_bid(source, order_terms, bidders) for _ in range(count(source))]
    parameters = DEFAULT_PARAMETERS if source.chance(50) else random_parameters(source)
    return case(name, order_terms, bids, order_id, parameters, source.pick([1, 31337, 8453]), source.between(1, 2**32 - 1))


def all_cases():
    yield from boundary_cases()
    yield from gpu_cases()
    yield from rejection_cases()
    yield from malformed_order_cases()
    for number in range(200):
        yield random_case(f"random {number}", lambda source: source.between(0, 14), 12)
    for number in range(3):
        yield random_case(f"random 60 bids {number}", lambda _: 60, 40)
    source = Source("512 bids")
    wide = terms(maximumRate=10**9, preferredRegion=2)
    easy = {"tier": 3, "cardActive": 1, "active": 1, "tokens": 3, "memoryTotal": 4000, "cpuTotal": 6400}
    full = [bid(**(easy | {"provider": source.between(1, 2**32 - 1), "rate": source.between(1, 10**9),
                           "region": source.between(1, 3), "cpuFree": source.between(50, 6400),
                           "stake": source.between(0, 2**21)})) for _ in range(512)]
    yield case("512 bids", wide, full)
