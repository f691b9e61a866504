"""Static analysis of the contracts with slither, as `script/lib/analysis.sh` calls it.

Every finding of high or medium impact must be explained in triage.toml, and every entry there must still explain one. An
analysis that saw less than all of `src` proves nothing, so what was seen is compared with what stands in the sources.
"""

import contextlib
import os
import re
import shutil
import sys
import tempfile
import time
import tomllib
from pathlib import Path

from slither import Slither
from slither.detectors import all_detectors
from slither.detectors.abstract_detector import AbstractDetector, DetectorClassification

CONTRACTS = Path(__file__).resolve().parents[1]
TRIAGE = Path(__file__).resolve().with_name("triage.toml")
DEFINITION = re.compile(r"^(?:abstract\s+)?(?:contract|interface|library)\s+(\w+)", re.MULTILINE)
LOOKED_AT = {DetectorClassification.HIGH: "high", DetectorClassification.MEDIUM: "medium"}


def say(text):
    print(text, file=sys.stderr)


def copy_of_sources(folder):
    """A clean project of the sources alone: slither's build neither meets nor leaves anything in the real one."""
    root = Path(folder) / "contracts"
    shutil.copytree(CONTRACTS / "src", root / "src")
    shutil.copy(CONTRACTS / "foundry.toml", root)
    (root / "node_modules").symlink_to(CONTRACTS / "node_modules")
    (root.parent / ".local").symlink_to(CONTRACTS.parent / ".local")
    return root


def expected():
    """Names of all contracts, libraries and interfaces that the sources define, with their files."""
    return {
        (str(path.relative_to(CONTRACTS)), name)
        for path in CONTRACTS.glob("src/**/*.sol")
        for name in DEFINITION.findall(path.read_text())
    }


def detectors():
    """As slither's own program collects them."""
    members = [getattr(all_detectors, name) for name in dir(all_detectors)]
    found = [member for member in members if isinstance(member, type) and issubclass(member, AbstractDetector)]
    return [detector for detector in found if detector.IMPACT in LOOKED_AT]


def place(finding):
    """`Contract.function` (or variable) of a finding's first element in our sources; the contract alone where there is none."""
    for element in finding["elements"]:
        if not element["source_mapping"]["filename_relative"].startswith("src/"):
            continue
        name, parent = element["name"], element.get("type_specific_fields", {}).get("parent", {})
        while parent and parent["type"] in ("function", "node"):
            name, parent = parent["name"], parent.get("type_specific_fields", {}).get("parent", {})
        return f"{parent['name']}.{name}" if parent and parent["type"] == "contract" else name
    return ""


def explained():
    entries = {}
    for entry in tomllib.loads(TRIAGE.read_text())["finding"]:
        for where in entry["places"]:
            key = (entry["detector"], where)
            if key in entries or not entry["reason"].strip():
                raise SystemExit(f"{TRIAGE.name}: {key} stands there twice or has no reason")
            entries[key] = entry["reason"]
    return entries


def main():
    started = time.monotonic()
    # It reads syntax trees: nobody runs the code, so the compiler need not spend time on making it short.
    os.environ["FOUNDRY_OPTIMIZER"] = "false"
    # Slither names files from where it runs.
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(copy_of_sources(folder)):
        slither = Slither(".", filter_paths=["node_modules/"], foundry_compile_all=False)
        for detector in detectors():
            slither.register_detector(detector)
        findings = [finding for results in slither.run_detectors() for finding in results]
        analysed = {
            (contract.source_mapping.filename.relative, contract.name)
            for unit in slither.compilation_units
            for contract in unit.contracts
            if contract.source_mapping.filename.relative.startswith("src/")
        }

    problems = [f"not analysed: {name} of {path}" for path, name in sorted(expected() - analysed)]
    known, matched = explained(), set()
    for finding in findings:
        key = (finding["check"], place(finding))
        if not key[1]:
            continue
        matched.add(key)
        if key not in known:
            described = " ".join(finding["description"].split())
            problems.append(f"{finding['impact'].lower()}: {key[0]} in {key[1]}: {described[:400]}")
    problems += [f"{TRIAGE.name} explains what is not there any more: {key}" for key in known if key not in matched]
    for problem in problems:
        say(problem)
    say(
        f"slither: {len(analysed)} contracts of {len(expected())} analysed, {len(detectors())} detectors, "
        f"{len(matched)} places explained or to explain, {len(problems)} problems, {time.monotonic() - started:.0f} s"
    )
    return 1 if problems or not analysed else 0


if __name__ == "__main__":
    sys.exit(main())
