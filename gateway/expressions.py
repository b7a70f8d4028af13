"""Arithmetic over the values of one reading: parsed once into closures, from a short list of what it may contain.

Python's own grammar, read by `ast` and never evaluated by Python: no attributes, no calls but of the functions below,
no names but those of metrics, and no way to make a number that is long to compute.
"""

from __future__ import annotations

import ast
import math
import operator
import warnings
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from gateway.reading import Value

LONGEST = 250  # characters of an expression
DEEPEST = 40  # levels of nesting, a long sum among them
STEEPEST = 10  # the largest exponent

_Number: TypeAlias = float | int | bool
_Evaluate: TypeAlias = Callable[[Mapping[str, Value]], _Number]


class ExpressionError(ValueError):
    """The expression is not one; `column` counts its characters from 1."""

    def __init__(self, words: str, column: int) -> None:
        super().__init__(f"{words}, at column {column} of the expression")
        self.column = column


class Expression:
    """A parsed expression: call it with the values of a reading.

    `names` are the metrics that it uses. A metric whose name is no word of Python is written in quotes: `'1.8.0' * 2`.
    """

    def __init__(self, text: str) -> None:
        """Parse `text`. Raises ExpressionError."""
        self.text = text
        self.names: set[str] = set()
        self._evaluate = self._compiled(_parsed(text), 1)

    def __call__(self, values: Mapping[str, Value]) -> _Number:
        """Return the result; it may be infinite or not a number.

        Raises KeyError with the name of a metric that is missing, and ValueError with the reason when there is none.
        """
        try:
            return self._evaluate(values)
        except ZeroDivisionError:
            raise ValueError("division by zero") from None
        except OverflowError:
            raise ValueError("a result that is too large") from None

    def _compiled(self, node: ast.expr, depth: int) -> _Evaluate:
        """Return the closure that computes one node of the tree."""
        if depth > DEEPEST:
            raise self._error(node, f"nested more than {DEEPEST} deep")

        def below(part: ast.expr) -> _Evaluate:
            return self._compiled(part, depth + 1)

        match node:
            case ast.Constant(value=bool() | int() | float() as number) if -math.inf < number < math.inf:
                return lambda values: number
            case ast.Constant(value=str(name)):
                return self._metric(name)
            case ast.Name(id=name):
                # As it is written: Python takes µ and μ for one letter.
                return self._metric(ast.get_source_segment(self.text, node) or name)
            case ast.UnaryOp(op=op, operand=operand) if type(op) in _UNARY:
                return _applied(_UNARY[type(op)], [below(operand)])
            case ast.BinOp(left=left, op=ast.Pow(), right=right):
                return self._power(node, below(left), left, right)
            case ast.BinOp(left=left, op=op, right=right) if type(op) in _BINARY:
                return _applied(_BINARY[type(op)], [below(left), below(right)])
            case ast.Compare(left=left, ops=[op], comparators=[right]) if type(op) in _COMPARISONS:
                return _applied(_COMPARISONS[type(op)], [below(left), below(right)])
            case ast.BoolOp(op=op, values=parts):
                return _joined(isinstance(op, ast.And), [below(part) for part in parts])
            case ast.IfExp(test=test, body=body, orelse=orelse):
                return _chosen(below(test), below(body), below(orelse))
            case ast.Call(func=ast.Name(id=name), args=arguments, keywords=[]):
                function = self._function(node, name, len(arguments))
                return _applied(function, [below(argument) for argument in arguments])
        raise self._error(node, f"{_WORDS.get(type(node), 'this')} is not allowed")

    def _metric(self, name: str) -> _Evaluate:
        self.names.add(name)

        def value_of(values: Mapping[str, Value]) -> _Number:
            value = values[name]
            if isinstance(value, str):
                raise ValueError("text, where an expression needs a number")
            return value

        return value_of

    def _power(self, node: ast.expr, base: _Evaluate, left: ast.expr, right: ast.expr) -> _Evaluate:
        sign = -1 if isinstance(right, ast.UnaryOp) and isinstance(right.op, ast.USub) else 1
        written = right.operand if sign < 0 and isinstance(right, ast.UnaryOp) else right
        number = written.value if isinstance(written, ast.Constant) else None
        if type(number) is not int or number > STEEPEST:
            raise self._error(right, f"the exponent must be a whole number from -{STEEPEST} to {STEEPEST}, written out")
        if any(isinstance(part, ast.Pow) for part in ast.walk(left)):
            raise self._error(node, "a power of a power is not allowed")
        exponent = sign * number
        return lambda values: _number(base(values) ** exponent)

    def _function(self, node: ast.expr, name: str, count: int) -> Callable[..., Any]:
        if name not in FUNCTIONS:
            raise self._error(node, f'there is no function "{name}"; there are {", ".join(sorted(FUNCTIONS))}')
        function, least, most = FUNCTIONS[name]
        if not least <= count <= most:
            wanted = f"{least}" if least == most else f"{least} to {most}"
            raise self._error(node, f"{name}() takes {wanted} argument{'s' * (most > 1)}, not {count}")
        return function

    def _error(self, node: ast.expr, words: str) -> ExpressionError:
        # ast counts bytes, from 0.
        return ExpressionError(words, len(self.text.encode()[: node.col_offset].decode(errors="ignore")) + 1)


def _parsed(text: str) -> ast.expr:
    if len(text) > LONGEST:
        raise ExpressionError(f"longer than {LONGEST} characters", LONGEST + 1)
    if not text.isprintable():
        raise ExpressionError("a line end or another control character", 1)
    if not text.strip():
        raise ExpressionError("there is nothing", 1)
    if text[0] == " ":
        raise ExpressionError("it begins with a space", 1)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about spaces that are missing in "1if a else b"
            return ast.parse(text, mode="eval").body
    except SyntaxError as error:
        words = "not complete, or one sign too many" if error.msg == "invalid syntax" else error.msg
        raise ExpressionError(words, min(max(error.offset or len(text), 1), len(text))) from None
    except (ValueError, RecursionError, MemoryError):
        raise ExpressionError(f"nested more than {DEEPEST} deep", 1) from None


def _applied(function: Callable[..., Any], parts: list[_Evaluate]) -> _Evaluate:
    if len(parts) == 1:
        (only,) = parts
        return lambda values: _number(function(only(values)))
    if len(parts) == 2:
        left, right = parts
        return lambda values: _number(function(left(values), right(values)))
    return lambda values: _number(function(*[part(values) for part in parts]))


def _joined(is_and: bool, parts: list[_Evaluate]) -> _Evaluate:
    if is_and:
        return lambda values: all(part(values) for part in parts)
    return lambda values: any(part(values) for part in parts)


def _chosen(test: _Evaluate, body: _Evaluate, orelse: _Evaluate) -> _Evaluate:
    return lambda values: body(values) if test(values) else orelse(values)


def _number(result: Any) -> _Number:
    number: _Number = result
    return number


def _rounded(value: float, digits: int = 0) -> float:
    if not isinstance(digits, int) or not 0 <= digits <= 15:
        raise ValueError("round() to other than 0 to 15 digits")
    return round(value, digits) if digits else round(value)


FUNCTIONS: Mapping[str, tuple[Callable[..., Any], int, int]] = {
    "abs": (abs, 1, 1),
    "acos": (math.acos, 1, 1),
    "asin": (math.asin, 1, 1),
    "atan": (math.atan, 1, 1),
    "atan2": (math.atan2, 2, 2),
    "ceil": (math.ceil, 1, 1),
    "cos": (math.cos, 1, 1),
    "degrees": (math.degrees, 1, 1),
    "exp": (math.exp, 1, 1),
    "floor": (math.floor, 1, 1),
    "hypot": (math.hypot, 2, 3),
    "log": (math.log, 1, 1),
    "log10": (math.log10, 1, 1),
    "max": (max, 2, 20),
    "min": (min, 2, 20),
    "radians": (math.radians, 1, 1),
    "round": (_rounded, 1, 2),
    "sin": (math.sin, 1, 1),
    "sqrt": (math.sqrt, 1, 1),
    "tan": (math.tan, 1, 1),
}
"""What may be called, with the fewest and the most arguments. Angles are in radians; log is the natural one."""

_UNARY: Mapping[type[ast.unaryop], Callable[..., Any]] = {
    ast.USub: operator.neg,
    ast.UAdd: operator.pos,
    ast.Not: operator.not_,
}
_BINARY: Mapping[type[ast.operator], Callable[..., Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
}
_COMPARISONS: Mapping[type[ast.cmpop], Callable[..., Any]] = {
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
}
_WORDS: Mapping[type[ast.expr], str] = {
    ast.Attribute: "a dot after a name",
    ast.BinOp: "this operator",
    ast.Call: "such a call",
    ast.Compare: "such a comparison",
    ast.Constant: "this constant",
    ast.JoinedStr: "an f-string",
    ast.Lambda: "lambda",
    ast.List: "a list",
    ast.ListComp: "a comprehension",
    ast.NamedExpr: "an assignment",
    ast.Subscript: "a bracket after a name",
    ast.Tuple: "a comma",
    ast.UnaryOp: "this operator",
}
