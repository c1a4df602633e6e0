"""What can be said of a source without running it."""

from __future__ import annotations

import ast
import threading
import warnings
from collections.abc import Iterator

_LOCK = threading.Lock()  # warnings' filters belong to the whole process
_TOO_DEEP = (MemoryError, RecursionError)  # what Python raises for code that is nested too deeply
_GRADE = "grade"
_NUM_ARGUMENTS = 2


def parse_source(source: str) -> ast.Module:
    """The tree of a source that compiles.

    Raises:
        ValueError: It does not; the message says why, and in which line.
    """
    try:
        with _LOCK, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(source, "<grader>")
            compile(tree, "<grader>", "exec", dont_inherit=True)
    except SyntaxError as error:
        line = f" in line {error.lineno}" if error.lineno else ""
        raise ValueError(f"{error.msg}{line}") from error
    except _TOO_DEEP as error:
        raise ValueError("it is nested too deeply") from error
    except ValueError as error:
        raise ValueError("it holds characters that no source can hold") from error
    return tree


def why_no_grade(tree: ast.Module) -> str | None:
    """Why a source defines no `grade(sample, item)`, as far as can be seen; None: it seems to.

    >>> why_no_grade(parse_source("def grade(sample): return 1"))
    'grade has to take two arguments, sample and item'
    """
    definitions = list(_definitions(tree.body))
    if not definitions:
        return "it defines no function `grade`"
    last = definitions[-1]
    if isinstance(last, ast.AsyncFunctionDef):
        return "grade is `async`, and has to be an ordinary function"
    if isinstance(last, ast.FunctionDef) and not last.decorator_list and not _takes_two(last.args):
        return "grade has to take two arguments, sample and item"
    return None


def _takes_two(arguments: ast.arguments) -> bool:
    places = len(arguments.posonlyargs) + len(arguments.args)
    required = places - len(arguments.defaults)
    needs_names = any(default is None for default in arguments.kw_defaults)
    return required <= _NUM_ARGUMENTS and (places >= _NUM_ARGUMENTS or arguments.vararg is not None) and not needs_names


def _definitions(statements: list[ast.stmt]) -> Iterator[ast.AST]:
    """All that gives the module's name `grade` a value, in order: also inside `if`, `try` and `with`, not inside functions."""
    for statement in statements:
        if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            if statement.name == _GRADE:
                yield statement
            continue
        if isinstance(statement, ast.Import | ast.ImportFrom):
            yield from (name for name in statement.names if name.name == "*" or (name.asname or name.name) == _GRADE)
            continue
        yield from (
            node
            for node in ast.walk(statement)
            if isinstance(node, ast.Name) and node.id == _GRADE and isinstance(node.ctx, ast.Store)
        )
        for _, inner in ast.iter_fields(statement):
            if isinstance(inner, list):
                yield from _definitions([part for part in inner if isinstance(part, ast.stmt)])
                for handler in (part for part in inner if isinstance(part, ast.ExceptHandler | ast.match_case)):
                    yield from _definitions(handler.body)
