"""Sizes of an exported program: numbers, or a multiple of a symbol that has a range."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from recond_models.exported.errors import SignatureError

_LONGEST: Final = 500
_UNBOUNDED: Final = 1 << 16
"""No matrix has more rows; programs without an upper bound say a number beyond any, or none."""


@dataclass(frozen=True, slots=True)
class Size:
    """``factor * symbol + offset``, or a number.

    Parameters
    ----------
    factor, offset
        Whole numbers; a number has the factor 0.
    symbol
        Name of the symbol, empty for a number.
    least, most
        Smallest and largest value.
    """

    factor: int
    offset: int
    symbol: str
    least: int
    most: int

    @classmethod
    def read(cls, size: Mapping[str, Any], constraints: Mapping[str, Any]) -> Size:
        """Return a size of a tensor.

        Parameters
        ----------
        size
            As in files: ``{"as_int": 64}`` or ``{"as_expr": {"expr_str": "Mul(Integer(16), Symbol('s0', ...))"}}``.
        constraints
            Ranges of symbols, as in files.

        Raises
        ------
        SignatureError
            It is no multiple of one symbol plus a number.
        """
        if "as_int" in size:
            number = int(size["as_int"])
            return cls(0, number, "", number, number)
        text = str(size["as_expr"]["expr_str"])
        try:
            if len(text) > _LONGEST:
                raise ValueError("too long")
            factor, symbol, offset = _linear(ast.parse(text, mode="eval").body)
        except (ValueError, SyntaxError, RecursionError, MemoryError) as error:
            raise SignatureError(
                f"a size of the program is {text[:80]!r}: export it with sizes that are numbers, "
                "torch.export.Dim, or a multiple of one"
            ) from error
        limits = constraints.get(symbol, {})
        least, most = (limits.get(name) for name in ("min_val", "max_val"))
        low, high = factor * max(least or 1, 1) + offset, factor * (most or _UNBOUNDED) + offset
        return cls(factor, offset, symbol, max(low, 1), min(max(high, 1), _UNBOUNDED))

    def same_as(self, other: Size) -> bool:
        """Tell whether two sizes are always equal."""
        return (self.factor, self.offset, self.symbol) == (other.factor, other.offset, other.symbol)

    def problem(self, value: int) -> str:
        """Return why a value cannot be, as in ``"it is fixed to 64"``; empty if it can."""
        if not self.factor:
            return "" if value == self.offset else f"it is fixed to {self.offset}"
        if not self.least <= value <= self.most:
            return f"it takes {self.least} to {self.most}"
        if (value - self.offset) % self.factor:
            return f"it takes multiples of {self.factor}" + (f" plus {self.offset}" if self.offset else "")
        return ""


def _linear(node: ast.expr) -> tuple[int, str, int]:
    """Return (factor, symbol, offset) of an expression; raise ValueError if it is none of that kind."""
    match node:
        case ast.Constant(value=int(number)):
            found = (0, "", number)
        case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int(number))):
            found = (0, "", -number)
        case ast.Name(id=name) | ast.Call(func=ast.Name(id="Symbol"), args=[ast.Constant(value=str(name))]):
            found = (1, name, 0)
        case ast.Call(func=ast.Name(id="Integer"), args=[argument]):
            found = _linear(argument)
        case ast.Call(func=ast.Name(id="Mul"), args=[left, right]) | ast.BinOp(left=left, op=ast.Mult(), right=right):
            found = _product(_linear(left), _linear(right))
        case ast.Call(func=ast.Name(id="Add"), args=[left, right]) | ast.BinOp(left=left, op=ast.Add(), right=right):
            one, two = _linear(left), _linear(right)
            if one[1] and two[1]:
                raise ValueError("two symbols")
            found = (one[0] + two[0], one[1] or two[1], one[2] + two[2])
        case _:
            raise ValueError("not linear")
    return found


def _product(one: tuple[int, str, int], two: tuple[int, str, int]) -> tuple[int, str, int]:
    number, other = (one, two) if not one[1] else (two, one)
    if number[1] or number[2] < 1:
        raise ValueError("not linear")
    return number[2] * other[0], other[1], number[2] * other[2]
