"""The matching rule, version 1, written from its description and for reading; everything in plain integers."""

import chacha20
import words
from keccak import keccak256

FULL = 1_000_000


def word32(value):
    return int(value).to_bytes(32, "big")


def rest_hash(terms):
    lists = [terms["wanted"], terms["excluded"]]
    flat = [terms["requirements"], terms["regions"], terms["manifestHash"], terms["maximumRate"], terms["duration"]]
    for suppliers in lists:
        flat += [len(suppliers)] + suppliers
    return keccak256(b"".join(map(word32, flat)))


def terms_hash(terms):
    return keccak256(word32(terms["resources"]) + rest_hash(terms))


def bids_digest(order_id, close_block, bids):
    """The seed, and the digest after all bids; 240 bits, the low 16 of the word zero."""

    def cut(digest):
        return digest[:30] + b"\0\0"

    seed = digest = cut(keccak256(word32(order_id) + word32(close_block)))
    for bid in bids:
        digest = cut(keccak256(digest + b"".join(map(word32, bid))))
    return seed, digest


def draw_seed(chain_id, order_id, close_block_hash):
    return keccak256(b"spheron.match.v1" + word32(chain_id) + order_id.to_bytes(8, "big") + close_block_hash)


def map_draw(word):
    limit = 2**64 - 2**64 % (FULL + 1)
    return word % (FULL + 1) if word < limit else None


def draws(seed):
    return (draw for draw in map(map_draw, chacha20.words(seed)) if draw is not None)


def terms_malformed(terms):
    resources = words.unpack(words.RESOURCES, terms["resources"])
    requirements = words.unpack(words.REQUIREMENTS, terms["requirements"])
    return (
        not 1 <= terms["maximumRate"] < 2**84
        or not 1 <= terms["duration"] < 2**29
        or any(a >= b for ids in (terms["wanted"], terms["excluded"]) for a, b in zip(ids, ids[1:]))
        or words.stray_bits(words.RESOURCES, terms["resources"])
        or resources["gpus"] & 1 == 1
        or resources["cpu"] == 0
        or resources["memory"] == 0
        or (resources["gpuCount"] == 0) != (resources["gpus"] == 0)
        or words.stray_bits(words.REQUIREMENTS, terms["requirements"])
        or requirements["mode"] > 1
        or requirements["tiers"] == 0
        or requirements["tiers"] & 1 == 1
        or requirements["attributes"] & words.GUARDS != 0
    )


def bid_malformed(bid):
    card = words.unpack(words.SCORE_CARD, bid[1])
    return (
        words.stray_bits(words.OFFER, bid[0])
        or words.stray_bits(words.SCORE_CARD, bid[1])
        or words.stray_bits(words.CAPACITY, bid[2])
        or card["attributes"] & words.GUARDS != 0
    )


def gpu_entry(resources, capacity):
    """First entry with an acceptable model and enough free; 0 when none is asked for, None when none fits."""
    if resources["gpuCount"] == 0:
        return 0
    for i in range(4):
        enough = resources["gpuCount"] <= capacity[f"gpu{i}Free"] <= capacity[f"gpu{i}Total"]
        if enough and resources["gpus"] >> capacity[f"gpu{i}Id"] & 1:
            return i
    return None


def rejection(order_id, terms, bid):
    """The first reason why a bid is not valid, by name, or None."""
    if bid_malformed(bid):
        return "Malformed"
    resources = words.unpack(words.RESOURCES, terms["resources"])
    wanted = words.unpack(words.REQUIREMENTS, terms["requirements"])
    offer = words.unpack(words.OFFER, bid[0])
    card = words.unpack(words.SCORE_CARD, bid[1])
    capacity = words.unpack(words.CAPACITY, bid[2])
    token = words.unpack(words.ORDER_ID, order_id)["token"]
    any_region = terms["regions"] == 2**256 - 1
    supplier = offer["fizz"] or offer["provider"]
    levels = [(card["attributes"] >> 5 * i & 15, wanted["attributes"] >> 5 * i & 15) for i in range(8)]

    def fits(resource):
        return resources[resource] == 0 or resources[resource] <= capacity[resource + "Free"] <= capacity[resource + "Total"]

    checks = [
        ("ProviderInactive", card["active"] == 1),
        ("CapacityInactive", capacity["active"] == 1),
        ("RateZero", offer["rate"] > 0),
        ("RateAboveMaximum", offer["rate"] <= terms["maximumRate"]),
        ("Mode", (wanted["mode"] == 1) == (offer["fizz"] != 0)),
        ("Token", card["tokens"] >> token & 1 == 1),
        ("Region", any_region or (card["region"] != 0 and terms["regions"] >> card["region"] & 1 == 1)),
        ("Tier", card["tier"] != 0 and wanted["tiers"] >> card["tier"] & 1 == 1),
        ("Attributes", all(has >= minimum for has, minimum in levels)),
        ("Compliance", card["compliance"] & wanted["compliance"] == wanted["compliance"]),
        ("NotWanted", not terms["wanted"] or supplier in terms["wanted"]),
        ("Excluded", offer["provider"] not in terms["excluded"]
            and (offer["fizz"] == 0 or offer["fizz"] not in terms["excluded"])),
        ("Cpu", fits("cpu")),
        ("Memory", fits("memory")),
        ("Storage", fits("storage")),
        ("Gpu", gpu_entry(resources, capacity) is not None),
    ]
    return next((name for name, holds in checks if not holds), None)


def scores(parameters, terms, bid, entry, draw):
    resources = words.unpack(words.RESOURCES, terms["resources"])
    wanted = words.unpack(words.REQUIREMENTS, terms["requirements"])
    offer = words.unpack(words.OFFER, bid[0])
    card = words.unpack(words.SCORE_CARD, bid[1])
    capacity = words.unpack(words.CAPACITY, bid[2])

    if wanted["preferredRegion"] == 0:
        region = FULL
    elif wanted["preferredRegion"] != card["region"]:
        region = 0
    else:
        region = FULL if wanted["preferredZone"] in (0, card["zone"]) else FULL // 2

    asked = [("cpu", resources["cpu"]), ("memory", resources["memory"]), ("storage", resources["storage"]),
             (f"gpu{entry}", resources["gpuCount"])]
    headroom = [(capacity[k + "Free"] - n) * FULL // capacity[k + "Total"] for k, n in asked if n > 0]
    stake_cap = parameters["stakeCap"]
    return [
        (terms["maximumRate"] - offer["rate"]) * FULL // terms["maximumRate"],
        region,
        min(card["feedbackSum"] * (FULL // 10) // card["feedbackCount"], FULL) if card["feedbackCount"] else FULL // 2,
        min(headroom),
        FULL // (1 + card["slashes"]),
        (8 - card["tier"]) * FULL // 7,
        min(card["stake"], stake_cap) * FULL // stake_cap,
        draw,
    ]


def match(parameters, chain_id, order_id, close_block_hash, terms, bids):
    """Verdict on every bid in log order, and the order's packed match words."""
    if terms_malformed(terms):
        return None, [words.pack(words.HEADER, {"orderId": order_id, "ranks": 0})]
    bidders = [(offer["provider"], offer["fizz"]) for offer in (words.unpack(words.OFFER, bid[0]) for bid in bids)]
    last = {bidder: i for i, bidder in enumerate(bidders)}
    verdicts = [{"superseded": True} if last[bidder] != i else None for i, bidder in enumerate(bidders)]
    stream = draws(draw_seed(chain_id, order_id, close_block_hash))
    ranking = []
    for provider, fizz in sorted(last):
        i = last[(provider, fizz)]
        reason = rejection(order_id, terms, bids[i])
        if reason:
            verdicts[i] = {"rejected": reason}
            continue
        entry = gpu_entry(words.unpack(words.RESOURCES, terms["resources"]), words.unpack(words.CAPACITY, bids[i][2]))
        terms_scores = scores(parameters, terms, bids[i], entry, next(stream))
        total = sum(weight * score for weight, score in zip(parameters["weights"], terms_scores))
        rate = words.unpack(words.OFFER, bids[i][0])["rate"]
        verdicts[i] = {"scores": terms_scores, "total": total, "gpuEntry": entry}
        ranking.append((-total, rate, provider, fizz, i))
    ranking.sort()
    for rank, key in enumerate(ranking, 1):
        verdicts[key[-1]]["rank"] = rank
    best = ranking[: parameters["rankLimit"]]
    packed = [words.pack(words.HEADER, {"orderId": order_id, "ranks": len(best)})]
    if best:
        packed += [terms["resources"], int.from_bytes(rest_hash(terms), "big")]
    for _, rate, provider, fizz, i in best:
        rank = {"provider": provider, "fizz": fizz, "rate": rate, "gpuEntry": verdicts[i]["gpuEntry"]}
        packed.append(words.pack(words.RANK, rank))
    return verdicts, packed


def chunks(orders, sizes):
    """Groups (version, order id) pairs of one close block: sorted, at most the version's size, never two versions."""
    result = []
    for version, order_id in sorted(orders):
        if not result or result[-1]["paramsVersion"] != version or len(result[-1]["orderIds"]) == sizes[version]:
            result.append({"index": len(result), "paramsVersion": version, "orderIds": []})
        result[-1]["orderIds"].append(order_id)
    return result


def domain_separator(chain_id, task_manager):
    kind = b"EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)"
    fields = [keccak256(kind), keccak256(b"Spheron Matching"), keccak256(b"1"), word32(chain_id), task_manager.rjust(32, b"\0")]
    return keccak256(b"".join(fields))


def response_digest(separator, close_block, close_block_hash, chunk, version, matches_hash):
    kind = (
        b"MatchResponse(uint32 closeBlock,bytes32 closeBlockHash,uint16 chunk,uint16 paramsVersion,bytes32 matchesHash)"
    )
    fields = [keccak256(kind), word32(close_block), close_block_hash, word32(chunk), word32(version), matches_hash]
    return keccak256(b"\x19\x01" + separator + keccak256(b"".join(fields)))
