"""Mutation testing of the market: changes its contracts one place at a time and asks its tests to notice.

Fails if fewer mutants die than `minimum` says, if one survives that the survivors' file does not explain, or if an entry
there explains nothing any more. `script/mutation` calls it.
"""

import argparse
import json
import os
import random
import re
import sys
import time
import tomllib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from project import CONTRACTS, Project

HERE = Path(__file__).resolve().parent
SURVIVORS = HERE / "survivors.toml"


def say(text):
    print(text, file=sys.stderr, flush=True)


def arguments():
    parser = argparse.ArgumentParser(prog="script/mutation", description=__doc__.splitlines()[0])
    parser.add_argument("--sample", type=int, metavar="COUNT", help="only so many mutants, drawn at random (default: all)")
    parser.add_argument("--seed", type=int, help="draws the same sample again (default: a new one, which is printed)")
    parser.add_argument("--only", metavar="PATTERN", help="only mutants whose `file:line Contract.function` has this pattern")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="test runs at a time (default: one per core)")
    parser.add_argument("--list", action="store_true", help="print the mutants and run none")
    parser.add_argument("--folder", required=True, help="where the copy and the results go")
    return parser.parse_args()


class Tests:
    """Whether the tests notice a mutant: the quick ones first, those with many cases for who survives them."""

    def __init__(self, project, settings):
        self.project = project
        self.stages = settings["stage"]
        self.limit = settings["seconds"]

    def outcome(self, mutant):
        """What killed the mutant, or None if all tests pass."""
        for stage in self.stages:
            passes, output = self.project.run(mutant, stage["arguments"], stage["environment"], self.limit)
            if passes is None:
                return output
            if not passes:
                failures = re.findall(r"^\[FAIL.*", output, re.MULTILINE)
                return failures[0] if failures else output.strip().splitlines()[-1]
        return None


def explained():
    entries = tomllib.loads(SURVIVORS.read_text()).get("survivor", []) if SURVIVORS.exists() else []
    reasons = {}
    for entry in entries:
        key = (entry["place"], entry["original"], entry["replacement"], entry.get("occurrence", 1))
        if not entry["reason"].strip() or key in reasons:
            raise SystemExit(f"{SURVIVORS.name}: {key} has no reason or stands there twice")
        reasons[key] = entry["reason"]
    return reasons


def chosen(mutants, given):
    if given.only:
        mutants = [mutant for mutant in mutants if re.search(given.only, f"{mutant.file}:{mutant.line} {mutant.place}")]
    if given.sample is not None and given.sample < len(mutants):
        seed = given.seed if given.seed is not None else random.SystemRandom().randrange(1 << 32)
        say(f"A sample of {given.sample} of {len(mutants)} mutants; the same again with --sample {given.sample} --seed {seed}")
        mutants = random.Random(seed).sample(mutants, given.sample)
    return mutants


def outcomes(tests, mutants, jobs, results):
    """Runs the tests for each mutant; yields mutants with what killed them."""
    started = time.monotonic()
    with ThreadPoolExecutor(jobs) as workers, results.open("w") as file:
        killers = workers.map(lambda mutant: tests.outcome(mutant.id), mutants)
        for number, (mutant, killer) in enumerate(zip(mutants, killers), 1):
            print(json.dumps({"mutant": str(mutant), "key": mutant.key, "killer": killer}), file=file, flush=True)
            if killer is None:
                say(f"survives: {mutant}")
            if number % 100 == 0:
                say(f"{number} of {len(mutants)} mutants, {time.monotonic() - started:.0f} s")
            yield mutant, killer


def main():
    given = arguments()
    settings = tomllib.loads((HERE / "settings.toml").read_text())
    reasons = explained()
    project = Project(given.folder, settings["tests"])
    project.create()
    targets = sorted(str(path.relative_to(CONTRACTS)) for path in CONTRACTS.glob(settings["targets"]))
    everything, rejected = project.mutate(targets)
    mutants = chosen(everything, given)
    say(f"{len(everything)} mutants of {settings['targets']}; {rejected} more do not compile")
    if given.list:
        for mutant in mutants:
            print(mutant)
        return 0
    project.build()

    tests = Tests(project, settings)
    broken = tests.outcome(0)
    if broken:
        raise SystemExit(f"the tests fail without any mutant: {broken}")
    results = Path(given.folder) / "results.jsonl"
    found = dict((mutant.key, killer) for mutant, killer in outcomes(tests, mutants, given.jobs, results))

    survivors = [mutant for mutant in mutants if found[mutant.key] is None]
    unexplained = [mutant for mutant in survivors if mutant.key not in reasons]
    keys = {mutant.key for mutant in everything}
    stale = [f"{key}: no such mutant" for key in reasons if key not in keys]
    stale += [f"{key}: killed by {found[key]}" for key in reasons if found.get(key)]
    for mutant in unexplained:
        say(f"survives without a reason in {SURVIVORS.name}: {mutant}")
    for entry in stale:
        say(f"{SURVIVORS.name} explains what is not there any more: {entry}")
    killed = len(mutants) - len(survivors)
    score = 100 * killed / max(1, len(mutants))
    # A sample says nothing about the whole within a percent or two.
    enough = score >= settings["minimum"] or given.sample is not None or given.only is not None
    print(f"{killed} of {len(mutants)} mutants killed ({score:.1f} %), {len(survivors)} survive, {len(unexplained)} of them unexplained")
    if not enough:
        say(f"fewer than {settings['minimum']} % of the mutants were killed")
    return 0 if enough and mutants and not unexplained and not stale else 1


if __name__ == "__main__":
    sys.exit(main())
