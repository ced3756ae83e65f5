"""All mutants of a module, each with a name that survives moving lines."""

import ast
import difflib
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import CodeType

from tests.mutation.operators import variants

#: Nothing in these parts of a node is code that the module executes for itself.
LEFT_OUT = {"annotation", "returns", "decorator_list", "bases", "ctx", "format_spec"}
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
LONGEST_NAME = 90


@dataclass(frozen=True, kw_only=True)
class Where:
    """``inside`` tells that it is in the body of ``owner``, a function."""

    owner: str = ""
    inside: bool = False

    def within(self, name: str) -> "Where":
        return Where(owner=f"{self.owner}.{name}".strip("."))


@dataclass(frozen=True, kw_only=True)
class Site:
    """A node and where it hangs in the tree."""

    where: Where
    parent: ast.AST
    field: str
    index: int | None
    node: ast.AST

    def put(self, node: ast.AST) -> None:
        if self.index is None:
            setattr(self.parent, self.field, node)
        else:
            getattr(self.parent, self.field)[self.index] = node

    @property
    def line(self) -> int:
        return getattr(self.node, "lineno", getattr(self.parent, "lineno", 0))


@dataclass(frozen=True, eq=False, kw_only=True)
class Mutant:
    """One change of one module."""

    name: str
    module: str
    path: Path
    tree: ast.Module
    site: Site
    changed: ast.AST

    def code(self) -> CodeType:
        """The mutated module, compiled."""
        self.site.put(self.changed)
        try:
            ast.fix_missing_locations(self.tree)
            return compile(self.tree, str(self.path), "exec")
        finally:
            self.site.put(self.site.node)

    def diff(self) -> str:
        before = ast.unparse(self.tree).splitlines()
        self.site.put(self.changed)
        after = ast.unparse(self.tree).splitlines()
        self.site.put(self.site.node)
        lines = list(difflib.unified_diff(before, after, n=0, lineterm=""))[2:]
        return "\n".join(line for line in lines if not line.startswith("@@"))


def mutants_of(path: Path, module: str) -> list[Mutant]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    short = "/".join(module.split(".")[-2:])
    seen: Counter[str] = Counter()
    found = []
    for site in sites(tree, Where()):
        for what, changed in variants(site.node):
            name = f"{short}:{site.where.owner}: {shown(site.node)}: {what}"
            seen[name] += 1
            again = f" ({seen[name]})" if seen[name] > 1 else ""
            facts = {"module": module, "path": path, "tree": tree, "site": site}
            found.append(Mutant(name=name + again, changed=changed, **facts))
    return found


def sites(parent: ast.AST, where: Where) -> Iterator[Site]:
    for field, value in ast.iter_fields(parent):
        if field in LEFT_OUT or (isinstance(parent, ast.ClassDef) and field == "keywords"):
            continue
        there = where
        if isinstance(parent, FUNCTIONS) and field == "body":
            there = Where(owner=where.owner, inside=True)
        for index, node in enumerate(value) if isinstance(value, list) else ((None, value),):
            if isinstance(node, ast.AST) and not left_out(node, parent):
                yield Site(where=there, parent=parent, field=field, index=index, node=node)
                # A function inside a function belongs to the outer one.
                named = isinstance(node, (ast.ClassDef, *FUNCTIONS)) and not there.inside
                yield from sites(node, there.within(node.name) if named else there)


def left_out(node: ast.AST, parent: ast.AST) -> bool:
    """Documentation, invariants, what only another Python executes, and parts of f-strings."""
    if isinstance(node, (ast.Assert, ast.Import, ast.ImportFrom)):
        return True
    if isinstance(node, ast.Expr):
        return isinstance(node.value, ast.Constant)
    if isinstance(node, ast.If):
        return ast.unparse(node.test).startswith(("sys.version_info", "TYPE_CHECKING"))
    if isinstance(node, ast.Assign):
        return ast.unparse(node.targets[0]) == "__all__"
    return isinstance(parent, ast.JoinedStr) and isinstance(node, ast.Constant)


class _Plain(ast.NodeTransformer):
    """f-strings as plain ones: how they are quoted differs between versions of Python."""

    def visit_JoinedStr(self, node: ast.JoinedStr) -> ast.Constant:
        parts = [str(p.value) if isinstance(p, ast.Constant) else "{}" for p in node.values]
        return ast.Constant("".join(parts))


def shown(node: ast.AST) -> str:
    """The node as text on one line; of a branch its condition."""
    if isinstance(node, ast.comprehension):
        parts = ["if " + ast.unparse(test) for test in node.ifs]
    else:
        test = getattr(node, "test", node)
        copy = ast.parse(ast.unparse(test), mode="eval" if isinstance(test, ast.expr) else "exec")
        parts = [ast.unparse(_Plain().visit(copy))]
    # Python 3.10 puts the names that a comprehension unpacks into parentheses.
    text = re.sub(r"for \((\w+(?:, \w+)*)\) in", r"for \1 in", " ".join(" ".join(parts).split()))
    return text if len(text) <= LONGEST_NAME else f"{text[: LONGEST_NAME - 3]}..."
