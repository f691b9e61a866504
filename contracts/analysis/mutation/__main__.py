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
# Mutants per process of the runner.
CHUNK = 50
# Tests that killed the last mutants and are tried first on the next, the last one first.
KILLERS = 8


def say(text):
    print(text, file=sys.stderr, flush=True)


def arguments():
    parser = argparse.ArgumentParser(prog="script/mutation", description=__doc__.splitlines()[0])
    parser.add_argument("--sample", type=int, metavar="COUNT", help="only so many mutants, drawn at random (default: all)")
    parser.add_argument("--seed", type=int, help="draws the same sample again (default: a new one, which is printed)")
    parser.add_argument("--only", metavar="PATTERN", help="only mutants whose `file:line Contract.function` has this pattern")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="test runs at a time (default: one per core)")
    parser.add_argument("--survivors", action="store_true", help="only mutants that the last run did not see killed")
    parser.add_argument("--quick", action="store_true", help="without the tests that have many cases: more survive")
    parser.add_argument("--list", action="store_true", help="print the mutants and run none")
    parser.add_argument("--folder", required=True, help="where the copy and the results go")
    return parser.parse_args()


def failure(output):
    """The first failure that forge names, else how it ended."""
    failures = re.findall(r"^\[FAIL.*", output, re.MULTILINE)
    return failures[0] if failures else output.strip().splitlines()[-1]


class Tests:
    """Whether the tests notice a mutant: first those that can run together in one process, for who survives them the rest."""

    def __init__(self, project, settings, jobs, quick):
        self.project = project
        self.settings = settings
        self.jobs = jobs
        self.stages = [] if quick else settings["stage"]
        values = random.Random(1)
        rows = [[values.getrandbits(values.choice([8, 32, 96, 256])) for _ in range(16)] for _ in range(settings["rows"])]
        self.cases = project.cases(settings["apart"], rows)
        self._without_those_that_need_a_process()
        for stage in self.stages:
            passes, output = self._alone(0, stage)
            if not passes:
                raise SystemExit(f"the tests fail without any mutant: {failure(output)}")

    def _without_those_that_need_a_process(self):
        total = len(self.cases)
        while failing := {name for _, name in self.project.run_together("test_baseline", self.cases, 300)}:
            self.cases = [case for case in self.cases if case.split(",")[1] not in failing]
        if not self.cases:
            raise SystemExit("no test passes without any mutant")
        names = [case.split(",")[1] for case in self.cases if not case.split(",")[1].endswith(".setUp")]
        self.index = {name: index for index, name in reversed(list(enumerate(names)))}
        self.killers = []
        say(f"{len(self.cases)} tests run together; {total - len(self.cases)} more fail there and run apart, as those with many cases do")

    def _alone(self, mutant, stage):
        return self.project.run(mutant, stage["arguments"], stage["environment"], self.settings["seconds"])

    def outcomes(self, mutants):
        """Yields mutants with what killed them, None if all tests pass."""
        chunks = [mutants[start : start + CHUNK] for start in range(0, len(mutants), CHUNK)]
        with ThreadPoolExecutor(self.jobs) as workers:
            for outcomes in workers.map(self._chunk, chunks):
                yield from outcomes

    def _chunk(self, mutants):
        outcomes, waiting = [], list(mutants)
        while waiting:
            ids = [mutant.id for mutant in waiting]
            limit = len(ids) * self.settings["seconds"]
            done = self.project.run_together("test_mutants", self.cases, limit, ids, self.killers)
            for mutant, (id, killer) in zip(waiting, done):
                assert mutant.id == int(id)
                outcomes.append((mutant, killer or self._apart(mutant)))
                if killer in self.index:
                    known = [index for index in self.killers if index != self.index[killer]]
                    self.killers = known[1 - KILLERS :] + [self.index[killer]]
            # The process ended before it could say anything of the first.
            if not done:
                outcomes.append((waiting[0], self._apart(waiting[0])))
            waiting = waiting[max(1, len(done)) :]
        return outcomes

    def _apart(self, mutant):
        for stage in self.stages:
            passes, output = self._alone(mutant.id, stage)
            if passes is None:
                # Loops without an end run out of gas long before: a slow machine must not pass for a test that notices.
                say(f"undecided, so not killed: {mutant} {output}")
                return None
            if not passes:
                return failure(output)
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


def chosen(mutants, given, results):
    if given.survivors:
        lines = [json.loads(line) for line in results.read_text().splitlines()]
        killed = {tuple(line["key"]) for line in lines if line["killer"]}
        mutants = [mutant for mutant in mutants if mutant.key not in killed]
    if given.only:
        mutants = [mutant for mutant in mutants if re.search(given.only, f"{mutant.file}:{mutant.line} {mutant.place}")]
    if given.sample is not None and given.sample < len(mutants):
        seed = given.seed if given.seed is not None else random.SystemRandom().randrange(1 << 32)
        say(f"A sample of {given.sample} of {len(mutants)} mutants; the same again with --sample {given.sample} --seed {seed}")
        # In the order of the sources: what killed one mutant of a function is tried first on the next.
        mutants = sorted(random.Random(seed).sample(mutants, given.sample), key=lambda mutant: mutant.id)
    return mutants


def judged(tests, mutants, results):
    """Asks the tests about each mutant; the results go to a file as they come."""
    started, found = time.monotonic(), {}
    with results.open("w") as file:
        for number, (mutant, killer) in enumerate(tests.outcomes(mutants), 1):
            found[mutant.key] = killer
            print(json.dumps({"mutant": str(mutant), "key": mutant.key, "killer": killer}), file=file, flush=True)
            if number % 200 == 0:
                say(f"{number} of {len(mutants)} mutants, {time.monotonic() - started:.0f} s")
    return found


def main():
    given = arguments()
    settings = tomllib.loads((HERE / "settings.toml").read_text())
    reasons = explained()
    project = Project(given.folder, settings["tests"])
    project.create()
    everything, rejected = project.mutate(settings["targets"])
    results = Path(given.folder) / "results.jsonl"
    mutants = chosen(everything, given, results)
    say(f"{len(everything)} mutants of {len(settings['targets'])} files; {rejected} more do not compile")
    if given.list:
        for mutant in mutants:
            print(mutant)
        return 0
    project.build()

    tests = Tests(project, settings, given.jobs, given.quick)
    found = judged(tests, mutants, results)

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
    enough = score >= settings["minimum"] or given.sample is not None or given.only is not None or given.survivors
    print(f"{killed} of {len(mutants)} mutants killed ({score:.1f} %), {len(survivors)} survive, {len(unexplained)} of them unexplained")
    if not enough:
        say(f"fewer than {settings['minimum']} % of the mutants were killed")
    return 0 if enough and mutants and not unexplained and not stale else 1


if __name__ == "__main__":
    sys.exit(main())
