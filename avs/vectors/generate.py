#!/usr/bin/env python3
"""Writes the golden vectors beside it from an independent implementation; standard library only.

`--check` writes nothing and fails if a committed file differs from what would be written.
"""

import itertools
import json
import pathlib
import sys

sys.dont_write_bytecode = True

import bn254
import cases
import chacha20
import keccak
import rule
import words
from keccak import keccak256

FOLDER = pathlib.Path(__file__).resolve().parent


def hexadecimal(value):
    return "0x" + value.hex() if isinstance(value, bytes) else hex(value)


def terms_json(terms):
    return {
        "resources": hex(terms["resources"]), "requirements": hex(terms["requirements"]), "regions": hex(terms["regions"]),
        "manifestHash": hexadecimal(rule.word32(terms["manifestHash"])), "maximumRate": hex(terms["maximumRate"]),
        "duration": terms["duration"], "wanted": terms["wanted"], "excluded": terms["excluded"],
    }


def matching_vector(case):
    terms, order_id, bids = case["terms"], case["orderId"], case["bids"]
    verdicts, packed = rule.match(case["parameters"], case["chainId"], order_id, case["closeBlockHash"], terms, bids)
    seed, digest = rule.bids_digest(order_id, case["closeBlock"], bids)
    return {
        "name": case["name"], "chainId": case["chainId"], "orderId": order_id, "closeBlock": case["closeBlock"],
        "closeBlockHash": hexadecimal(case["closeBlockHash"]), "parameters": case["parameters"], "terms": terms_json(terms),
        "bids": [[hex(word) for word in bid] for bid in bids],
        "restHash": hexadecimal(rule.rest_hash(terms)), "termsHash": hexadecimal(rule.terms_hash(terms)),
        "digestSeed": hexadecimal(seed), "digest": hexadecimal(digest),
        "drawSeed": hexadecimal(rule.draw_seed(case["chainId"], order_id, case["closeBlockHash"])),
        "malformedTerms": verdicts is None, "verdicts": verdicts or [], "matches": [hex(word) for word in packed],
    }


def words_vectors():
    """Every word with every field at zero, at one, at its maximum, and random; and order ids."""
    source = cases.Source("words")
    tables = {"offer": words.OFFER, "scoreCard": words.SCORE_CARD, "capacity": words.CAPACITY, "resources": words.RESOURCES,
              "requirements": words.REQUIREMENTS, "orderId": words.ORDER_ID, "header": words.HEADER, "rank": words.RANK}
    vectors = []
    for name, table in tables.items():
        for number in range(12):
            fields = {field: [0, 1, (1 << width) - 1][number] if number < 3 else source.bits(width) for field, _, width in table}
            if name == "capacity":
                for field in [field for field in fields if field.endswith("Free")]:
                    fields[field] = min(fields[field], fields[field[:-4] + "Total"])
            if "attributes" in fields:
                fields["attributes"] &= ~words.GUARDS
            if name == "requirements":
                fields |= {"mode": fields["mode"] & 1, "tiers": fields["tiers"] & 0xFE or 2}
            if name == "resources":
                fields |= {"memory": fields["memory"] or 1, "cpu": fields["cpu"] or 1, "gpus": fields["gpus"] & ~1}
                fields["gpuCount"] = (fields["gpuCount"] or 1) if fields["gpus"] else 0
            vectors.append({"word": name, "fields": {k: hex(v) for k, v in fields.items()}, "packed": hex(words.pack(table, fields))})
    return vectors


def draws_vectors():
    source = cases.Source("draws")
    streams = []
    for count in (16, 16, 16, 1040):
        chain_id, order_id, block_hash = source.bits(64), source.bits(64), source.bytes(32)
        seed = rule.draw_seed(chain_id, order_id, block_hash)
        stream = rule.draws(seed)
        streams.append({"chainId": chain_id, "orderId": order_id, "closeBlockHash": hexadecimal(block_hash),
                        "seed": hexadecimal(seed), "draws": [next(stream) for _ in range(count)]})
        streams[-1]["words"] = [hex(word) for word in itertools.islice(chacha20.words(seed), 32)]
    limit = 2**64 - 2**64 % 1_000_001
    border = [0, 1, 1_000_000, 1_000_001, limit - 1, limit, limit + 1, 2**64 - 1] + [source.bits(64) for _ in range(8)]
    return {"streams": streams, "mapping": [{"word": word, "draw": rule.map_draw(word)} for word in border]}


def tasks_vectors():
    source = cases.Source("tasks")
    vectors = []
    for count in (0, 1, 2, 3, 4, 63, 64, 65, 130):
        sizes = {1: source.pick([1, 2, 3, 64]), 2: source.pick([1, 3, 64]), 3: 64}
        ids = sorted({source.bits(64) for _ in range(count)}, key=lambda order_id: order_id * 0x9E3779B97F4A7C15 % 2**64)
        orders = [[source.between(1, 3), order_id] for order_id in ids]
        vectors.append({"orders": orders, "chunkSizes": [sizes[1], sizes[2], sizes[3]],
                        "chunks": rule.chunks([tuple(order) for order in orders], sizes)})
    return vectors


def g1_json(point):
    return [hex(point[0].v), hex(point[1].v)]


def g2_json(point):
    """Coordinates as the contracts take them: imaginary part first."""
    return [[hex(coordinate.b), hex(coordinate.a)] for coordinate in point]


def key_json(secret):
    g1 = bn254.multiply(bn254.G1, secret)
    return {"secret": hexadecimal(rule.word32(secret)), "g1": g1_json(g1), "g2": g2_json(bn254.multiply(bn254.G2, secret)),
            "operatorId": hexadecimal(keccak256(rule.word32(g1[0].v) + rule.word32(g1[1].v)))}


def bn254_vectors():
    source = cases.Source("bn254")
    secrets = [1, 2, bn254.R - 1] + [source.between(1, bn254.R - 1) for _ in range(5)]
    messages = [bytes(32), b"\xff" * 32, rule.word32(bn254.P), rule.word32(bn254.P - 1), rule.word32(bn254.P + 5)]
    messages += [source.bytes(32) for _ in range(35)]
    multiplicities = [1, 2, 1, 3, 2, 1, 1, 2]
    message = messages[-1]
    signatures = [bn254.sign(secret, message) for secret in secrets]
    signature = key = None
    for secret, one, times in zip(secrets, signatures, multiplicities):
        for _ in range(times):
            signature = bn254.add(signature, one)
            key = bn254.add(key, bn254.multiply(bn254.G2, secret))
    return {
        "keys": [key_json(secret) for secret in secrets],
        "hashToG1": [{"message": hexadecimal(m), "point": g1_json(bn254.hash_to_g1(m))} for m in messages],
        "message": hexadecimal(message), "signatures": [g1_json(one) for one in signatures],
        "multiplicities": multiplicities, "aggregateSignature": g1_json(signature), "aggregateKey": g2_json(key),
    }


def responses_vectors(matching):
    """Chunks of the matching cases above, signed."""
    source = cases.Source("responses")
    vectors = []
    by_order = {}
    for vector in matching:
        by_order.setdefault(vector["orderId"], vector["matches"])
    ids = sorted(by_order)
    for chunk, count in enumerate((0, 1, 2, 17, 64)):
        start = source.between(0, len(ids) - count)
        matches = [word for order_id in ids[start : start + count] for word in by_order[order_id]]
        chain_id, manager = source.pick([1, 31337, 2**64 - 1]), source.bytes(20)
        close_block, block_hash, version = source.bits(32), source.bytes(32), source.bits(16)
        matches_hash = keccak256(b"".join(rule.word32(int(word, 16)) for word in matches))
        separator = rule.domain_separator(chain_id, manager)
        digest = rule.response_digest(separator, close_block, block_hash, chunk, version, matches_hash)
        secret = source.between(1, bn254.R - 1)
        vectors.append({
            "chainId": chain_id, "taskManager": hexadecimal(manager), "closeBlock": close_block,
            "closeBlockHash": hexadecimal(block_hash), "chunk": chunk, "paramsVersion": version, "matches": matches,
            "matchesHash": hexadecimal(matches_hash), "separator": hexadecimal(separator), "digest": hexadecimal(digest),
            "secret": hexadecimal(rule.word32(secret)), "signature": g1_json(bn254.sign(secret, digest)),
        })
    return vectors


def files():
    matching = [matching_vector(case) for case in cases.all_cases()]
    yield "words.json", words_vectors()
    yield "draws.json", draws_vectors()
    yield "matching.json", matching
    yield "tasks.json", tasks_vectors()
    yield "responses.json", responses_vectors(matching)
    yield "bn254.json", bn254_vectors()


def encode(vectors):
    """One line per vector of a list, so that changes can be read."""
    if isinstance(vectors, list):
        return "[\n" + ",\n".join(json.dumps(vector, separators=(",", ":")) for vector in vectors) + "\n]\n"
    lines = (f"{json.dumps(key)}: {json.dumps(value, separators=(',', ':'))}" for key, value in vectors.items())
    return "{\n" + ",\n".join(lines) + "\n}\n"


def main():
    if sys.argv[1:] not in ([], ["--check"]):
        sys.exit("usage: generate.py [--check]")
    for module in (keccak, chacha20, bn254):
        module.check()
    different = []
    for name, vectors in files():
        path, text = FOLDER / name, encode(vectors)
        if sys.argv[1:] == []:
            path.write_text(text)
        elif not path.exists() or path.read_text() != text:
            different.append(name)
    if different:
        sys.exit(f"{', '.join(different)}: the committed vectors differ from the reference; "
                 "run avs/vectors/generate.py and look at the difference")


if __name__ == "__main__":
    main()
