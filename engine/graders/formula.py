"""Formulas over the scores of graders: arithmetic in Python's syntax, and nothing else of Python."""

import ast
import math
import operator
from collections.abc import Callable, Collection, Mapping
from typing import Any

_BINARY: dict[type[ast.operator], Callable[[float, float], float]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.Pow: math.pow,
}
_UNARY: dict[type[ast.unaryop], Callable[[float], float]] = {ast.USub: operator.neg, ast.UAdd: operator.pos}
_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "abs": abs, "ceil": math.ceil, "exp": math.exp, "floor": math.floor, "log": math.log, "max": max, "min": min,
    "sqrt": math.sqrt,
}  # fmt: skip
_MOST_LEVELS = 200
"""Each level takes two stack frames when it is calculated, of Python's thousand. A sum of 200 scores is as deep."""


def check_formula(formula: str, names: Collection[str]) -> None:
    """Check that the formula can be calculated from the named scores.

    Raises:
        ValueError: it cannot be.
    """
    level = [_read(formula)]
    for _ in range(_MOST_LEVELS):
        level = [operand for node in level for operand in _operands(node, names)]
        if not level:
            return
    raise ValueError(f"calculate_output: operations nest deeper than {_MOST_LEVELS} levels")


def calculate(formula: str, scores: Mapping[str, float]) -> float:
    """Calculate a checked formula.

    Raises:
        ValueError: it has no finite value, like a division by zero.
    """
    try:
        value = _value(_read(formula), scores)
    except (ArithmeticError, LookupError, RecursionError, TypeError, ValueError) as error:
        raise ValueError(f"calculate_output: {error}") from error
    if not math.isfinite(value):
        raise ValueError(f"calculate_output: the result is {value}")
    return value


def _read(formula: str) -> ast.expr:
    try:
        return ast.parse(formula.strip(), mode="eval").body
    except (SyntaxError, RecursionError, MemoryError) as error:
        raise ValueError(f"calculate_output: {formula[:100]!r} is not a formula") from error


def _operands(node: ast.expr, names: Collection[str]) -> list[ast.expr]:
    """Return the operands of an operation; the name of a function is not one of them."""
    if isinstance(node, ast.Name):
        if node.id not in names:
            raise ValueError(f"calculate_output: {node.id!r} is not the name of a grader")
        return []
    if isinstance(node, ast.Constant) and type(node.value) in {int, float}:
        return []
    if isinstance(node, ast.UnaryOp) and type(node.op) in _UNARY:
        return [node.operand]
    if isinstance(node, ast.BinOp) and type(node.op) in _BINARY:
        return [node.left, node.right]
    if isinstance(node, ast.Call) and _is_function(node.func) and node.args and not node.keywords:
        return node.args
    known = ", ".join(_FUNCTIONS)
    raise ValueError(f"calculate_output: only numbers, names, + - * / **, brackets and {known} can be used")


def _is_function(node: ast.expr) -> bool:
    return isinstance(node, ast.Name) and node.id in _FUNCTIONS


def _value(node: ast.expr, scores: Mapping[str, float]) -> float:
    if isinstance(node, ast.Constant):
        assert isinstance(node.value, int | float), "it was checked"
        return float(node.value)
    if isinstance(node, ast.Name):
        return scores[node.id]
    if isinstance(node, ast.UnaryOp):
        return _UNARY[type(node.op)](_value(node.operand, scores))
    if isinstance(node, ast.BinOp):
        return _BINARY[type(node.op)](_value(node.left, scores), _value(node.right, scores))
    assert isinstance(node, ast.Call), "it was checked"
    assert isinstance(node.func, ast.Name), "it was checked"
    return float(_FUNCTIONS[node.func.id](*(_value(argument, scores) for argument in node.args)))
