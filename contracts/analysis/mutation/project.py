"""The copy of the contracts in which mutants live: what is mutated, the tests that have to notice, and what both import."""

import json
import os
import re
import shutil
import subprocess
import tempfile
import tomllib
from pathlib import Path

from mutants import SELECTOR, SourceMutants, modifier_with_a_way_around

CONTRACTS = Path(__file__).resolve().parents[2]
LIBRARIES = ("@openzeppelin", "solady")
IMPORT = re.compile(r'^\s*(?:import\s[^"\';]*|\}\s*from\s*|from\s*)["\']([^"\']+)["\']\s*;', re.MULTILINE)

# Sizes and gas are not what mutants are measured by: no optimizer, no limits but one that ends loops.
ENVIRONMENT = {
    "FOUNDRY_OPTIMIZER": "false",
    "FOUNDRY_CODE_SIZE_LIMIT": "10000000",
    "FOUNDRY_GAS_LIMIT": "50000000000",
    "FOUNDRY_FUZZ_SEED": "0x5eed",
    "FOUNDRY_INVARIANT_SHRINK_RUN_LIMIT": "0",
    "FOUNDRY_LINT_LINT_ON_BUILD": "false",
}


def arguments(signature, words):
    """Calldata after the selector, in hexadecimal: for a function with parameters of fixed size, one for each set of words."""
    types = [part for part in signature[signature.index("(") + 1 : -1].split(",") if part]
    if not types:
        return [""]
    if any(not re.fullmatch(r"uint\d+|bool|address|bytes32", kind) for kind in types):
        return []
    widths = {"bool": 1, "address": 160, "bytes32": 256}
    bits = [widths.get(kind) or int(kind[4:]) for kind in types]
    return ["".join(f"{word % (1 << width):064x}" for word, width in zip(row, bits)) for row in words]


class Uncompilable(Exception):
    """The compiler's errors, as it gives them."""


class Project:
    def __init__(self, folder, tests):
        self.root = Path(folder) / "contracts"
        self.tests = tests
        self.remappings = self._remappings()
        self.paths = []

    def _remappings(self):
        given = tomllib.loads((CONTRACTS / "foundry.toml").read_text())["profile"]["default"]["remappings"]
        return [tuple(line.split("=")) for line in given]

    # ------------------------------------------------------------------- copying

    def create(self):
        shutil.rmtree(self.root, ignore_errors=True)
        self.root.mkdir(parents=True)
        (self.root.parent / ".local").unlink(missing_ok=True)
        (self.root.parent / ".local").symlink_to(CONTRACTS.parent / ".local")
        # Forge resolves links before it looks for a permission to read.
        vectors = self.root.parent / "avs" / "vectors"
        shutil.rmtree(vectors.parent, ignore_errors=True)
        shutil.copytree(CONTRACTS.parent / "avs" / "vectors", vectors)
        (self.root / "runner").mkdir()
        settings = (CONTRACTS / "foundry.toml").read_text()
        allowed = 'fs_permissions = [{ access = "read-write", path = "runner" }, { access = "read", path = "out" },'
        self._write("foundry.toml", settings.replace("fs_permissions = [", allowed, 1))
        self._write("test/MutantRunner.t.sol", Path(__file__).with_name("MutantRunner.sol").read_text())
        for library in LIBRARIES:
            shutil.copytree(CONTRACTS / "node_modules" / library, self.root / "node_modules" / library)
        roots = sorted(path for pattern in self.tests for path in CONTRACTS.glob(pattern))
        self.paths = self._closure([str(path.relative_to(CONTRACTS)) for path in roots])
        for path in self.paths:
            if not path.startswith("node_modules/"):
                self._write(path, self._without_inline_settings((CONTRACTS / path).read_text()))

    @staticmethod
    def _without_inline_settings(text):
        """Runs of single tests would win over ours."""
        return re.sub(r"^\s*/// forge-config:.*\n", "", text, flags=re.MULTILINE)

    def _closure(self, roots):
        found, waiting = set(), list(roots)
        while waiting:
            path = waiting.pop()
            if path in found:
                continue
            found.add(path)
            for name in IMPORT.findall((CONTRACTS / path).read_text()):
                waiting.append(self._resolve(path, name))
        return sorted(found)

    def _resolve(self, importer, name):
        if name.startswith("."):
            return os.path.normpath(os.path.join(os.path.dirname(importer), name))
        for prefix, target in sorted(self.remappings, key=lambda pair: -len(pair[0])):
            if name.startswith(prefix):
                return target + name[len(prefix) :]
        return name

    def _write(self, path, text):
        target = self.root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)

    # ----------------------------------------------------------------- compiling

    def syntax_trees(self, targets):
        """The compiler's typed syntax trees of sources, and of what they import, as they lie in the copy. Generates no code."""
        sources = {path: {"content": (self.root / path).read_text()} for path in self._closure(targets)}
        settings = {
            "remappings": ["=".join(pair) for pair in self.remappings],
            "outputSelection": {"*": {"": ["ast"]}},
        }
        asked = {"language": "Solidity", "sources": sources, "settings": settings}
        compiler = CONTRACTS.parent / ".local" / "bin" / "solc"
        answer = subprocess.run([compiler, "--standard-json"], input=json.dumps(asked), capture_output=True, text=True, check=True)
        output = json.loads(answer.stdout)
        errors = [error for error in output.get("errors", []) if error["severity"] == "error"]
        if errors:
            raise Uncompilable(errors)
        return {path: source["ast"] for path, source in output["sources"].items()}

    def mutate(self, targets):
        """Writes all mutants into the copy; returns those that compile, numbered, and how many do not."""
        trees = self.syntax_trees(targets)
        modifiers, constants, places = {}, set(), {}
        for path, tree in trees.items():
            for contract in (node for node in tree["nodes"] if node["nodeType"] == "ContractDefinition"):
                for node in contract["nodes"]:
                    if node["nodeType"] == "ModifierDefinition":
                        modifiers[node["id"]], places[node["id"]] = node, path
                    if node["nodeType"] == "VariableDeclaration" and node.get("constant"):
                        constants.add(node["id"])
        unknown = [target for target in targets if target not in trees]
        if unknown:
            raise SystemExit(f"no test imports {', '.join(unknown)}: nothing there could be killed")
        sources = [
            SourceMutants(path, (self.root / path).read_text(), trees[path], modifiers, constants) for path in targets
        ]
        mutants = [mutant for source in sources for site in source.ordered() for mutant in site.mutants]
        for number, mutant in enumerate(mutants, 1):
            mutant.id = number
        self._add_ways_around(sources, modifiers, places)
        rejected = 0
        while True:
            for source in sources:
                self._write(source.path, source.render())
            try:
                self.syntax_trees(targets)
            except Uncompilable as problem:
                dropped = self._culprits(problem.args[0], mutants)
                if not dropped:
                    raise SystemExit("\n".join(error["formattedMessage"] for error in problem.args[0])) from None
                for mutant in dropped:
                    mutant.id = 0
                rejected += len(dropped)
            else:
                return [mutant for mutant in mutants if mutant.id], rejected

    def _culprits(self, errors, mutants):
        """The mutants that the compiler complains about: around each error, else inside of what it names."""
        found = set()
        for error in errors:
            place = error.get("sourceLocation") or {}
            if place.get("file") not in self.paths:
                continue
            text = (self.root / place["file"]).read_bytes()
            spans = {}
            for mark in re.finditer(rb"/\*m(\d+)\*/", text):
                spans.setdefault(int(mark.group(1)), []).append(mark.start())
            around = [id for id, (start, end) in spans.items() if start <= place["start"] and place["end"] <= end]
            inside = [id for id, (start, end) in spans.items() if place["start"] <= start and end <= place["end"]]
            found.update(around[-1:] or inside[:1])
        return [mutant for mutant in mutants if mutant.id in found]

    def _add_ways_around(self, sources, modifiers, places):
        added = {}
        for used in {used for source in sources for used in source.used_modifiers}:
            definition, path = modifiers[used], places[used]
            text = (self.root / path).read_bytes()
            start, length, _ = map(int, definition["src"].split(":"))
            added.setdefault(path, []).append((start + length, modifier_with_a_way_around(definition, text)))
        for path, clones in added.items():
            source = next((source for source in sources if source.path == path), None)
            if source:
                source.insert(clones)
                continue
            text = (self.root / path).read_bytes()
            for at, clone in sorted(clones, reverse=True):
                text = text[:at] + clone.encode() + text[at:]
            self._write(path, text.decode() + SELECTOR)

    # --------------------------------------------------------------------- tests

    def build(self):
        built = subprocess.run(["forge", "build"], cwd=self.root, env=self._environment({}), capture_output=True, text=True)
        if built.returncode:
            # Mutants bring warnings by the hundred.
            errors = [part for part in re.split(r"\n(?=Error|Warning|Note)", built.stdout + built.stderr) if part.startswith("Error")]
            raise SystemExit("\n".join(errors) + f"\nthe contracts with their mutants do not compile in {self.root}")

    def cases(self, excluded, words):
        """The tests as the runner reads them; parameters get `words`, one set of them per line."""
        lines = []
        for artifact in sorted((self.root / "out").glob("*.t.sol/*.json")):
            compiled = json.loads(artifact.read_text())
            methods = compiled.get("methodIdentifiers", {})
            if artifact.stem == "MutantRunner" or len(compiled["bytecode"]["object"]) < 4 or re.search(excluded, artifact.stem):
                continue
            tests = [(name, selector) for name, selector in methods.items() if name.startswith("test")]
            if not tests:
                continue
            name = f"{artifact.parent.name}:{artifact.stem}"
            lines.append(f"{name},{artifact.stem}.setUp,0x{methods.get('setUp()', '')}")
            for signature, selector in tests:
                if re.search(excluded, signature):
                    continue
                for data in arguments(signature, words):
                    lines.append(f"{name},{artifact.stem}.{signature.split('(')[0]},0x{selector}{data}")
        return lines

    def run_together(self, function, cases, limit, mutants=(), killers=()):
        """Runs a function of the runner; returns what it wrote: ids, and the test that killed each of them."""
        with tempfile.TemporaryDirectory(dir=self.root / "runner") as folder:
            for name, lines in (("cases", cases), ("mutants", mutants), ("killers", killers), ("results", [])):
                (Path(folder) / name).write_text("".join(f"{line}\n" for line in lines))
            command = ["forge", "test", "--threads", "1", "--match-contract", "MutantRunner", "--match-test", function]
            settings = {"FOUNDRY_ISOLATE": "false", "FOUNDRY_GAS_LIMIT": str(2**64 - 1), "RUNNER": f"runner/{Path(folder).name}"}
            environment = self._environment(settings)
            try:
                subprocess.run(command, cwd=self.root, env=environment, capture_output=True, timeout=limit)
            except subprocess.TimeoutExpired:
                pass
            return [line.partition(" ")[::2] for line in (Path(folder) / "results").read_text().splitlines()]

    def run(self, mutant, arguments, settings, limit):
        """True if the tests pass, False if one fails, None if they do not end in `limit` seconds; with what was printed."""
        command = ["forge", "test", "--threads", "1", "--fail-fast", "--block-coinbase", f"0x{1 << 152 | mutant:040x}", *arguments]
        try:
            result = subprocess.run(
                command, cwd=self.root, env=self._environment(settings), capture_output=True, text=True, timeout=limit
            )
        except subprocess.TimeoutExpired:
            return None, f"did not end in {limit} s"
        return result.returncode == 0, result.stdout + result.stderr

    def _environment(self, settings):
        # Cases that killed another mutant must not be kept: each run starts from the same state.
        nowhere = {"FOUNDRY_FUZZ_FAILURE_PERSIST_DIR": "/dev/null", "FOUNDRY_INVARIANT_FAILURE_PERSIST_DIR": "/dev/null"}
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("FOUNDRY_", "DAPP_"))}
        return {**kept, **ENVIRONMENT, **nowhere, **settings}
