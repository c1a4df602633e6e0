"""Formulas over rewards: numbers, names, `+ - * / ^`, parentheses, and a few functions.

Read by a parser of our own into a tree, and computed in floating point: nothing is ever handed to Python's `eval`, and no number
can grow past what a float holds.
"""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NoReturn, Protocol

from fettle.scoring.openai_grader import InvalidGraderError

_MOST_CHARACTERS = 10_000
_MOST_NESTED = 50
_TOKEN = re.compile(
    r"\s*(?:(?P<number>(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)|(?P<name>[^\W\d]\w*)|(?P<sign>[-+*/^(),]))"
)
_OPERATORS: dict[str, Callable[[float, float], float]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": operator.truediv,
    "^": math.pow,
}
_FUNCTIONS: dict[str, Callable[..., float]] = {
    "min": lambda *values: min(values),
    "max": lambda *values: max(values),
    "abs": math.fabs,
    "floor": math.floor,
    "ceil": math.ceil,
    "exp": math.exp,
    "sqrt": math.sqrt,
    "log": math.log,
}
_TAKES_MANY = ("min", "max")


def _negated(value: float) -> float:
    return -value


class FormulaResultError(ArithmeticError):
    """A formula has no finite value for some rewards."""


class Node(Protocol):
    """A part of a formula."""

    def value(self, rewards: Mapping[str, float]) -> float:
        """Its value, each name standing for its reward."""
        ...


@dataclass(frozen=True, slots=True)
class Number:
    """A number as written."""

    number: float

    def value(self, rewards: Mapping[str, float]) -> float:  # noqa: ARG002 (the interface)
        """The number."""
        return self.number


@dataclass(frozen=True, slots=True)
class Name:
    """The reward of a grader."""

    name: str

    def value(self, rewards: Mapping[str, float]) -> float:
        """The reward."""
        return rewards[self.name]


@dataclass(frozen=True, slots=True)
class Call:
    """A function or an operator with what it is applied to."""

    function: Callable[..., float]
    arguments: tuple[Node, ...]

    def value(self, rewards: Mapping[str, float]) -> float:
        """The result."""
        return self.function(*(argument.value(rewards) for argument in self.arguments))


@dataclass(frozen=True, slots=True, kw_only=True)
class Formula:
    """A formula that was read."""

    text: str
    root: Node

    def value(self, rewards: Mapping[str, float]) -> float:
        """Its value, a finite number.

        Raises:
            FormulaResultError: There is none.
        """
        try:
            result = float(self.root.value(rewards))
        except (ArithmeticError, ValueError) as error:
            raise FormulaResultError(f"{self.text[:200]!r} has no value for these rewards: {error}") from error
        if not math.isfinite(result):
            raise FormulaResultError(f"{self.text[:200]!r} has no finite value for these rewards")
        return result


def parse_formula(text: str, names: Collection[str], where: str) -> Formula:
    """Read a formula.

    `-2 ^ 2` is -4 and `2 ^ 3 ^ 2` is 512, as in mathematics.

    >>> parse_formula("max(0, 2 * a - b) ^ 2", ["a", "b"], "formula").value({"a": 1, "b": 0.5})
    2.25

    Raises:
        InvalidGraderError: It is no formula, or names something that is not there.
    """
    if len(text) > _MOST_CHARACTERS:
        raise InvalidGraderError(
            f"the formula has {len(text):,} characters, and {_MOST_CHARACTERS:,} are read",
            where=where,
            remedy="shorten it",
        )
    return Formula(text=text, root=_Parser(text, names, where).whole())


class _Parser:
    """Recursive descent: a sum of products of signed powers of atoms."""

    def __init__(self, text: str, names: Collection[str], where: str) -> None:
        self._text, self._names, self._where = text, names, where
        self._tokens = list(self._read())
        self._position = 0
        self._depth = 0

    def whole(self) -> Node:
        node = self._sum()
        if self._position < len(self._tokens):
            self._refuse(f"expected its end or an operator, and {self._next!r} follows")
        return node

    def _read(self) -> Iterator[tuple[str, str]]:
        position, text = 0, self._text.rstrip()
        while position < len(text):
            found = _TOKEN.match(text, position)
            if found is None:
                self._refuse(f"{text[position:].lstrip()[:1]!r} is not part of a formula")
            yield found.lastgroup or "", found[found.lastgroup or 0]
            position = found.end()

    @property
    def _next(self) -> str:
        return self._tokens[self._position][1] if self._position < len(self._tokens) else ""

    def _take(self, signs: Sequence[str]) -> str | None:
        taken = self._next
        if taken and taken in signs:
            self._position += 1
            return taken
        return None

    def _expect(self, sign: str) -> None:
        if self._take([sign]) is None:
            self._refuse(
                f"expected {sign!r}, and {self._next!r} follows" if self._next else f"expected {sign!r} at its end"
            )

    def _sum(self) -> Node:
        self._depth += 1
        if self._depth > _MOST_NESTED:
            self._refuse(f"more than {_MOST_NESTED} levels of parentheses, signs and powers")
        node = self._chain(self._product, "+-")
        self._depth -= 1
        return node

    def _product(self) -> Node:
        return self._chain(self._signed, "*/")

    def _chain(self, part: Callable[[], Node], signs: str) -> Node:
        terms, operators = [part()], list[str]()
        while (sign := self._take(signs)) is not None:
            operators.append(sign)
            terms.append(part())
        return terms[0] if not operators else Call(_Chained(tuple(operators)), tuple(terms))

    def _signed(self) -> Node:
        self._depth += 1
        if self._depth > _MOST_NESTED:
            self._refuse(f"more than {_MOST_NESTED} levels of parentheses, signs and powers")
        if (sign := self._take("+-")) is not None:
            node = self._signed()
            node = Call(_negated, (node,)) if sign == "-" else node
        else:
            node = self._atom()
            if self._take("^"):
                node = Call(_OPERATORS["^"], (node, self._signed()))
        self._depth -= 1
        return node

    def _atom(self) -> Node:
        if self._take("("):
            node = self._sum()
            self._expect(")")
            return node
        if self._position >= len(self._tokens):
            self._refuse("it ends where a number, a name or a parenthesis is expected")
        kind, text = self._tokens[self._position]
        if kind == "sign":
            self._refuse(f"expected a number, a name or a parenthesis, and {text!r} follows")
        self._position += 1
        if kind == "number":
            if not math.isfinite(float(text)):
                self._refuse(f"the number {text[:20]!r} is too large")
            return Number(float(text))
        if self._next == "(":
            return self._call(text)
        if text not in self._names:
            known = ", ".join(sorted(self._names)[:10]) or "none"
            self._refuse(f"{text[:60]!r} is the name of no grader; the graders are {known}")
        return Name(text)

    def _call(self, name: str) -> Node:
        if name not in _FUNCTIONS:
            self._refuse(f"{name[:60]!r} is no function; the functions are {', '.join(_FUNCTIONS)}")
        self._expect("(")
        arguments = [self._sum()]
        while self._take(","):
            arguments.append(self._sum())
        self._expect(")")
        if name not in _TAKES_MANY and len(arguments) != 1:
            self._refuse(f"{name} takes one value, and is given {len(arguments)}")
        return Call(_FUNCTIONS[name], tuple(arguments))

    def _refuse(self, problem: str) -> NoReturn:
        raise InvalidGraderError(
            f"the formula {self._text[:80]!r} cannot be read: {problem}",
            where=self._where,
            remedy=f"use the graders' names, numbers, + - * / ^, parentheses, {', '.join(_FUNCTIONS)}",
        )


@dataclass(frozen=True, slots=True)
class _Chained:
    """`a - b + c` from left to right: as one step, so that a long sum is no deep tree."""

    operators: tuple[str, ...]

    def __call__(self, first: float, *others: float) -> float:
        for sign, other in zip(self.operators, others, strict=True):
            first = _OPERATORS[sign](first, other)
        return first
