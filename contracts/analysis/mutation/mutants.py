"""Mutants of Solidity sources, all of them in one build ("mutant schemata").

Every place that can be mutated becomes a choice made at run time, `(mutantIs(17) ? a - b : a + b)`, so that the compiler runs
once and each mutant costs a test run. Which mutant lives is the block's coinbase, which forge sets and nothing here reads.
Places and types come from the compiler's own syntax tree.
"""

import re
from dataclasses import dataclass, field

# What the generated code calls. `coinbase` makes a function `view`, and pure functions are mutated too: hence the way
# through a function pointer.
SELECTOR = """
function mutantIs(uint256 id) pure returns (bool) {
    function() view returns (uint256) reads = mutantAlive;
    function() pure returns (uint256) asked;
    assembly ("memory-safe") {
        asked := reads
    }
    return asked() == id;
}

function mutantAlive() view returns (uint256 id) {
    assembly ("memory-safe") {
        id := and(coinbase(), 0xffffff)
    }
}
"""

SWAPPED = {"+": "-", "-": "+", "*": "/", "/": "*", "%": "*", "&": "|", "|": "&", "^": "&", "<<": ">>", ">>": "<<"}
BOUNDARY = {"<": "<=", "<=": "<", ">": ">=", ">=": ">"}
NEGATED = {"<": ">=", "<=": ">", ">": "<=", ">=": "<", "==": "!=", "!=": "=="}
LOOPS = ("WhileStatement", "DoWhileStatement", "ForStatement")
DELETABLE = ("ExpressionStatement", "EmitStatement", "RevertStatement", "Return", "Break", "Continue", "InlineAssembly")
UNSIGNED = re.compile(r"^uint\d*$")


@dataclass
class Mutant:
    """One change. `key` names it across runs, as long as its function keeps the code in question."""

    file: str
    place: str
    line: int
    original: str
    replacement: str
    code: str
    id: int = 0
    occurrence: int = 1

    @property
    def key(self):
        return (self.place, self.original, self.replacement, self.occurrence)

    def __str__(self):
        again = f" (occurrence {self.occurrence})" if self.occurrence > 1 else ""
        return f"{self.file}:{self.line} {self.place}: {self.original} -> {self.replacement or 'nothing'}{again}"


@dataclass
class Site:
    """A range of the source, in bytes, and its mutants."""

    start: int
    end: int
    kind: str
    mutants: list = field(default_factory=list)


def one_line(text):
    return re.sub(r"\s+", " ", text).strip()


def type_of(node):
    return node.get("typeDescriptions", {}).get("typeString") or ""


def is_constant(node):
    """A number that the compiler folds; only the whole of it is worth changing."""
    return type_of(node).startswith(("int_const", "rational_const"))


def parameter_types(function_type):
    """Types of `function (uint256,struct T memory) pure returns (...)`."""
    inner = re.match(r"^function \(([^()]*)\)", function_type)
    return inner.group(1).split(",") if inner and inner.group(1) else []


class SourceMutants:
    """All mutants of one source file. `modifiers` are the definitions of all sources by id, `constants` the constants' ids."""

    def __init__(self, path, text, tree, modifiers, constants):
        self.path = path
        self.bytes = text.encode()
        self.modifiers = modifiers
        self.constants = constants
        self.sites = {}
        self.used_modifiers = set()
        self.inserted = []
        self.place = ""
        self.returns = []
        for contract in tree["nodes"]:
            if contract["nodeType"] == "ContractDefinition":
                for member in contract["nodes"]:
                    if member["nodeType"] == "FunctionDefinition" and member.get("body"):
                        self._function(contract["name"], member)
        seen = {}
        for site in self.ordered():
            for mutant in site.mutants:
                name = mutant.key[:3]
                seen[name] = mutant.occurrence = seen.get(name, 0) + 1

    def ordered(self):
        return [self.sites[key] for key in sorted(self.sites, key=lambda key: (key[0], -key[1], key[2]))]

    # ------------------------------------------------------------------ walking

    def _function(self, contract, function):
        self.place = f"{contract}.{function['name'] or function['kind']}"
        self.returns = function["returnParameters"]["parameters"]
        for used in function["modifiers"]:
            definition = used["modifierName"]["referencedDeclaration"]
            if definition in self.modifiers:
                self.used_modifiers.add(definition)
                start, end = self._range(used)
                name = self.modifiers[definition]["name"]
                given = self._text(start, end)[len(name) :].strip()
                arguments = f"{given[1:-1]}, " if given not in ("", "()") else ""
                self._add(start, end, "modifier", "", f"{name}__unless({arguments}")
        self._statement(function["body"], None)

    def _statement(self, node, parent):
        kind = node["nodeType"]
        if kind in ("Block", "UncheckedBlock"):
            only = len(node["statements"]) == 1
            for statement in node["statements"]:
                self._statement(statement, parent if only else node)
            return
        if kind in DELETABLE and not self._is_moot(node, parent):
            self._deletion(node)
        if kind == "IfStatement":
            self._condition(node["condition"], ("true", "false"))
            self._statement(node["trueBody"], node)
            if node.get("falseBody"):
                self._statement(node["falseBody"], node)
        elif kind in LOOPS:
            # Without an end a loop only proves that tests have a limit, so conditions never become true.
            if node.get("condition"):
                self._condition(node["condition"], ("false",))
            self._statement(node["body"], node)
        elif kind == "TryStatement":
            self._expression(node["externalCall"])
            for clause in node["clauses"]:
                self._statement(clause["block"], node)
        elif kind == "VariableDeclarationStatement":
            self._declaration(node)
        elif kind == "Return":
            self._return(node)
        elif kind == "ExpressionStatement":
            self._expression(node["expression"])
        elif kind == "EmitStatement":
            self._expression(node["eventCall"])
        elif kind == "RevertStatement":
            self._expression(node["errorCall"])

    def _is_moot(self, node, parent):
        """Deletions that say what another mutant says, or that would not compile."""
        kind = node["nodeType"]
        if kind == "RevertStatement":
            # The condition as false says the same.
            return parent is not None and parent["nodeType"] == "IfStatement"
        if kind == "ExpressionStatement" and node["expression"]["nodeType"] == "Assignment":
            return "storage pointer" in type_of(node["expression"]["leftHandSide"])
        if kind == "Return":
            value = node.get("expression")
            if value is None:
                return False
            # What falls through returns zero.
            if is_constant(value) and self._text(*self._range(value)) == "0":
                return True
            return len(self.returns) == 1 and (
                type_of(self.returns[0]) == "bool" or re.search(r"storage|calldata", type_of(self.returns[0])) is not None
            )
        return False

    def _deletion(self, node):
        start, end = self._range(node)
        # The compiler counts the semicolon to a `return` without a value, and to no other statement.
        if node["nodeType"] != "InlineAssembly" and self.bytes[end - 1 : end] != b";":
            end = self.bytes.index(b";", end) + 1
        expression = node.get("expression") or {}
        if node["nodeType"] == "ExpressionStatement" and expression["nodeType"] == "Assignment":
            operator = expression["operator"]
            if operator[:-1] in SWAPPED:
                swapped = f"{self._of(expression['leftHandSide'])} {SWAPPED[operator[:-1]]}= {self._of(expression['rightHandSide'])};"
                self._add(start, end, "statement", swapped, swapped)
        self._add(start, end, "statement", "", "")

    def _declaration(self, node):
        value = node.get("initialValue")
        if not value:
            return
        declared = node["declarations"]
        expected = type_of(declared[0]) if len(declared) == 1 else ""
        if UNSIGNED.match(expected) and not is_constant(value):
            self._add(*self._range(value), "expression", "0", f"{expected}(0)")
        self._expression(value, expected)

    def _return(self, node):
        value = node.get("expression")
        if not value:
            return
        expected = type_of(self.returns[0]) if len(self.returns) == 1 else ""
        if expected == "bool":
            self._condition(value, ("true", "false"))
        else:
            self._expression(value, expected)

    def _condition(self, node, values):
        start, end = self._range(node)
        if node["nodeType"] != "Literal":
            for value in values:
                self._add(start, end, "expression", value, value)
        self._expression(node, decided=True)

    def _expression(self, node, expected="", decided=False):
        """Mutates an expression that is wanted as `expected`; `decided` if true and false are tried for it already."""
        if node is None:
            return
        kind = node["nodeType"]
        start, end = self._range(node)
        if is_constant(node):
            self._constant(node, expected)
        elif kind == "Literal" and node["kind"] == "bool":
            other = "false" if node["value"] == "true" else "true"
            self._add(start, end, "expression", other, other)
        elif kind == "Identifier" and node["referencedDeclaration"] in self.constants:
            if UNSIGNED.match(type_of(node)):
                self._add(start, end, "expression", f"{node['name']} + 1", f"({node['name']} + 1)")
        elif kind == "BinaryOperation":
            self._binary(node, decided)
        elif kind == "UnaryOperation":
            if node["operator"] in ("!", "~"):
                self._add(start, end, "expression", self._of(node["subExpression"]), self._of(node["subExpression"]))
            self._expression(node["subExpression"])
        elif kind == "Conditional":
            self._condition(node["condition"], ("true", "false"))
            self._expression(node["trueExpression"], type_of(node))
            self._expression(node["falseExpression"], type_of(node))
        elif kind == "Assignment":
            shifts = node["operator"] in ("<<=", ">>=")
            if node["leftHandSide"]["nodeType"] == "IndexAccess":
                self._expression(node["leftHandSide"])
            self._expression(node["rightHandSide"], "uint256" if shifts else type_of(node["leftHandSide"]))
        elif kind == "TupleExpression":
            for component in node["components"]:
                self._expression(component, expected if len(node["components"]) == 1 else "", decided)
        elif kind == "FunctionCall":
            self._call(node)
        elif kind == "FunctionCallOptions":
            self._expression(node["expression"])
        elif kind == "MemberAccess":
            self._expression(node["expression"])
        elif kind == "IndexAccess":
            self._expression(node["baseExpression"])
            key = re.match(r"^mapping\((\w+)", type_of(node["baseExpression"]))
            self._expression(node["indexExpression"], key.group(1) if key else "uint256")

    def _binary(self, node, decided):
        start, end = self._range(node)
        operator, left, right = node["operator"], self._of(node["leftExpression"]), self._of(node["rightExpression"])

        def add(replacement):
            self._add(start, end, "expression", replacement, f"({replacement})")

        if operator in ("&&", "||"):
            add(left)
            add(right)
        if operator in BOUNDARY:
            add(f"{left} {BOUNDARY[operator]} {right}")
        if operator in NEGATED and not decided:
            add(f"{left} {NEGATED[operator]} {right}")
        # Division by a zero that is written there does not compile.
        if operator in SWAPPED and not (operator == "*" and right == "0"):
            add(f"{left} {SWAPPED[operator]} {right}")
        if operator in ("<<", ">>", "**"):
            wanted = (type_of(node), "uint256")
        elif operator in ("&&", "||"):
            wanted = ("", "")
        else:
            wanted = (node["commonType"]["typeString"],) * 2
        self._expression(node["leftExpression"], wanted[0])
        self._expression(node["rightExpression"], wanted[1])

    def _call(self, node):
        called = node["expression"]
        if called["nodeType"] in ("MemberAccess", "FunctionCallOptions"):
            self._expression(called)
        arguments = node["arguments"]
        if node["kind"] == "typeConversion":
            expected = ["uint256" if UNSIGNED.match(type_of(node)) else ""]
        elif node["kind"] == "functionCall":
            # An attached function's first argument stands before the dot.
            expected = parameter_types(type_of(called))[-len(arguments) :] if arguments else []
        else:
            expected = []
        if called.get("name") == "require" and arguments:
            self._condition(arguments[0], ("true", "false"))
            arguments, expected = arguments[1:], expected[1:]
        for index, argument in enumerate(arguments):
            self._expression(argument, expected[index] if len(expected) == len(arguments) else "")

    def _constant(self, node, expected):
        if not UNSIGNED.match(expected):
            return
        text = self._text(*self._range(node))
        value = re.match(r"^int_const (\d+)$", type_of(node))
        bits = int(expected[4:] or 256)
        # The compiler abbreviates what is long, and a constant has to fit.
        grows = value is not None and int(value.group(1)) + 1 < 1 << bits
        changed = f"{text} + 1" if grows else f"{text} - 1"
        site = self._add(*self._range(node), "expression", changed, f"{expected}({changed})")
        site.plain = f"{expected}({text})"

    # ---------------------------------------------------------------- collecting

    def _range(self, node):
        start, length, _ = map(int, node["src"].split(":"))
        return start, start + length

    def _text(self, start, end):
        return self.bytes[start:end].decode()

    def _of(self, node):
        return self._text(*self._range(node))

    def _add(self, start, end, kind, replacement, code):
        site = self.sites.setdefault((start, end, kind), Site(start, end, kind))
        line = self.bytes.count(b"\n", 0, start) + 1
        original = one_line(self._text(start, end))
        site.mutants.append(Mutant(self.path, self.place, line, original, one_line(replacement), code))
        return site

    # ----------------------------------------------------------------- rendering

    def render(self):
        """The source with all of its mutants in it, each between comments that name it."""
        return self._fill(0, len(self.bytes), self.ordered() + self.inserted) + SELECTOR

    def insert(self, texts):
        """Adds texts at offsets that lie between functions."""
        self.inserted = [Site(at, at, "insertion", text) for at, text in texts]

    def _fill(self, start, end, sites):
        sites = sorted(sites, key=lambda site: (site.start, -site.end))
        parts, cursor, index = [], start, 0
        while index < len(sites):
            site, index = sites[index], index + 1
            inner = []
            while index < len(sites) and sites[index].start < site.end:
                inner.append(sites[index])
                index += 1
            parts += [self._text(cursor, site.start), self._choice(site, self._fill(site.start, site.end, inner))]
            cursor = site.end
        return "".join(parts) + self._text(cursor, end)

    def _choice(self, site, otherwise):
        if site.kind == "insertion":
            return site.mutants
        living = [mutant for mutant in site.mutants if mutant.id]
        if site.kind == "modifier":
            return f"{living[0].code}{living[0].id})" if living else otherwise
        marked = [(m.id, f"/*m{m.id}*/{m.code}/*m{m.id}*/") for m in living]
        if site.kind == "statement":
            choices = "".join(f"if (mutantIs({id})) {{ {code} }} else " for id, code in marked)
            return f"{{ {choices}{{ {otherwise} }} }}" if marked else otherwise
        if not marked:
            return otherwise
        choices = "".join(f"mutantIs({id}) ? {code} : " for id, code in marked)
        return f"({choices}{getattr(site, 'plain', otherwise)})"


def modifier_with_a_way_around(definition, source):
    """A copy of a modifier that does nothing while the mutant named by its last argument lives."""

    def span(node):
        start, length, _ = map(int, node["src"].split(":"))
        return start, start + length

    statements = definition["body"]["statements"]
    middle = [node["nodeType"] for node in statements].index("PlaceholderStatement")
    body = span(definition["body"])
    placeholder = span(statements[middle])
    before = source[body[0] + 1 : placeholder[0]].decode()
    after = source[source.index(b";", placeholder[0]) + 1 : body[1] - 1].decode()
    parameters = definition["parameters"]["parameters"]
    given = "".join(source[slice(*span(parameter))].decode() + ", " for parameter in parameters)
    return f"""
    modifier {definition["name"]}__unless({given}uint256 mutantOfUse) {{
        if (!mutantIs(mutantOfUse)) {{ {before} }}
        _;
        if (!mutantIs(mutantOfUse)) {{ {after} }}
    }}
"""
