"""What is changed: for one node of the syntax tree, the nodes that could stand in its place."""

import ast
from collections.abc import Callable, Iterator
from typing import Any

#: What was done, in words, and the node that takes the place of the old one.
Variant = tuple[str, ast.AST]

COMPARISONS: dict[type[ast.cmpop], tuple[type[ast.cmpop], ...]] = {
    ast.Lt: (ast.LtE, ast.GtE),
    ast.LtE: (ast.Lt, ast.Gt),
    ast.Gt: (ast.GtE, ast.LtE),
    ast.GtE: (ast.Gt, ast.Lt),
    ast.Eq: (ast.NotEq,),
    ast.NotEq: (ast.Eq,),
    ast.Is: (ast.IsNot,),
    ast.IsNot: (ast.Is,),
    ast.In: (ast.NotIn,),
    ast.NotIn: (ast.In,),
}
ARITHMETIC: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.Mod: ast.FloorDiv,
    ast.Pow: ast.Mult,
    ast.LShift: ast.RShift,
    ast.RShift: ast.LShift,
    ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd,
    ast.BitXor: ast.BitAnd,
}
CALLS = {"min": "max", "max": "min", "any": "all", "all": "any"}


def comparison(node: ast.Compare) -> Iterator[Variant]:
    for place, old in enumerate(node.ops):
        for new in COMPARISONS[type(old)]:
            ops = [*node.ops[:place], new(), *node.ops[place + 1 :]]
            changed = ast.Compare(left=node.left, ops=ops, comparators=node.comparators)
            yield f"{type(old).__name__} becomes {new.__name__}", changed


def boolean(node: ast.BoolOp) -> Iterator[Variant]:
    other = ast.Or() if isinstance(node.op, ast.And) else ast.And()
    yield f"{type(node.op).__name__} becomes {type(other).__name__}", ast.BoolOp(other, node.values)
    for place in range(len(node.values)):
        rest = [*node.values[:place], *node.values[place + 1 :]]
        left = rest[0] if len(rest) == 1 else ast.BoolOp(node.op, rest)
        yield f"without operand {place + 1}", left


def unary(node: ast.UnaryOp) -> Iterator[Variant]:
    if isinstance(node.op, (ast.Not, ast.USub, ast.Invert)):
        yield f"without {type(node.op).__name__}", node.operand


def arithmetic(node: ast.BinOp) -> Iterator[Variant]:
    if (new := ARITHMETIC.get(type(node.op))) is not None:
        changed = ast.BinOp(left=node.left, op=new(), right=node.right)
        yield f"{type(node.op).__name__} becomes {new.__name__}", changed


def augmented(node: ast.AugAssign) -> Iterator[Variant]:
    if (new := ARITHMETIC.get(type(node.op))) is not None:
        changed = ast.AugAssign(target=node.target, op=new(), value=node.value)
        yield f"{type(node.op).__name__} becomes {new.__name__}", changed
    yield "removed", ast.Pass()


def constant(node: ast.Constant) -> Iterator[Variant]:
    value: Any = node.value
    if isinstance(value, bool):
        yield f"becomes {not value}", ast.Constant(not value)
    elif isinstance(value, (int, float)):
        yield "plus 1", ast.Constant(value + 1)
    elif isinstance(value, str):
        other = "" if value else "mutated"
        yield f"becomes {other!r}", ast.Constant(other)


def formatted(node: ast.JoinedStr) -> Iterator[Variant]:
    yield "becomes ''", ast.Constant("")


def call(node: ast.Call) -> Iterator[Variant]:
    for place, keyword in enumerate(node.keywords):
        if keyword.arg is not None:
            rest = [*node.keywords[:place], *node.keywords[place + 1 :]]
            yield f"without {keyword.arg}=", ast.Call(node.func, node.args, rest)
    if isinstance(node.func, ast.Name) and node.func.id in CALLS:
        other = CALLS[node.func.id]
        changed = ast.Call(ast.Name(other, ast.Load()), node.args, node.keywords)
        yield f"{node.func.id} becomes {other}", changed


def condition(test: ast.expr) -> bool:
    """Whether its negation is no mutant already: of a comparison, or by dropping a ``not``."""
    single = isinstance(test, ast.Compare) and len(test.ops) == 1
    return not single and not (isinstance(test, ast.UnaryOp) and isinstance(test.op, ast.Not))


def negated(test: ast.expr) -> ast.UnaryOp:
    return ast.UnaryOp(ast.Not(), test)


def branch(node: Any) -> Iterator[Variant]:
    if condition(node.test):
        parts = {name: getattr(node, name) for name in node._fields}
        yield "condition negated", type(node)(**{**parts, "test": negated(node.test)})


def filtered(node: ast.comprehension) -> Iterator[Variant]:
    for place, test in enumerate(node.ifs):
        parts = {name: getattr(node, name) for name in node._fields}
        without = [*node.ifs[:place], *node.ifs[place + 1 :]]
        yield "without its condition", ast.comprehension(**{**parts, "ifs": without})
        if condition(test):
            ifs = [*node.ifs[:place], negated(test), *node.ifs[place + 1 :]]
            yield "condition negated", ast.comprehension(**{**parts, "ifs": ifs})


def answer(node: ast.Return) -> Iterator[Variant]:
    nothing = node.value is None or (
        isinstance(node.value, ast.Constant) and node.value.value is None
    )
    if not nothing:
        yield "returns None", ast.Return(ast.Constant(None))


def statement(node: ast.stmt) -> Iterator[Variant]:
    yield "removed", ast.Pass()


def assignment(node: ast.Assign) -> Iterator[Variant]:
    # Without that of a name, the next line would fail: nothing is learned from it.
    if any(isinstance(target, (ast.Attribute, ast.Subscript)) for target in node.targets):
        yield "removed", ast.Pass()


def skipping(node: ast.Continue) -> Iterator[Variant]:
    yield "becomes break", ast.Break()


OPERATORS: dict[type[ast.AST], Callable[[Any], Iterator[Variant]]] = {
    ast.Compare: comparison,
    ast.BoolOp: boolean,
    ast.UnaryOp: unary,
    ast.BinOp: arithmetic,
    ast.AugAssign: augmented,
    ast.Constant: constant,
    ast.JoinedStr: formatted,
    ast.Call: call,
    ast.If: branch,
    ast.While: branch,
    ast.IfExp: branch,
    ast.comprehension: filtered,
    ast.Return: answer,
    ast.Expr: statement,
    ast.Raise: statement,
    ast.Delete: statement,
    ast.Break: statement,
    ast.Continue: skipping,
    ast.Assign: assignment,
}


def variants(node: ast.AST) -> Iterator[Variant]:
    make = OPERATORS.get(type(node))
    for what, changed in make(node) if make else ():
        yield what, ast.copy_location(changed, node)
