#!/usr/bin/env python3
"""Answers the matching rule's questions: a line of JSON in, as `matching.json` writes a case; a line of JSON out."""

import json
import sys

sys.dont_write_bytecode = True

import rule
import words


def question(line):
    """A case from its JSON, as `cases.py` makes one."""
    case = json.loads(line)
    terms = case["terms"]
    for name in ("resources", "requirements", "regions", "manifestHash", "maximumRate"):
        terms[name] = int(terms[name], 16)
    case["closeBlockHash"] = bytes.fromhex(case["closeBlockHash"][2:])
    case["bids"] = [[int(word, 16) for word in bid] for bid in case["bids"]]
    return case


def answer(case):
    """What the order book stores for the bids, and the rank words."""
    bids, order_id = case["bids"], case["orderId"]
    _, digest = rule.bids_digest(order_id, case["closeBlock"], bids)
    digest_word = int.from_bytes(digest, "big") | len(bids) if bids else 0
    _, packed = rule.match(
        case["parameters"], case["chainId"], order_id, case["closeBlockHash"], case["terms"], bids
    )
    ranks = words.unpack(words.HEADER, packed[0])["ranks"]
    return {"digestWord": hex(digest_word), "ranks": [hex(word) for word in packed[len(packed) - ranks :]]}


def main():
    for line in sys.stdin:
        print(json.dumps(answer(question(line)), separators=(",", ":")), flush=True)


if __name__ == "__main__":
    main()
