"""Which packages a grader may import: those of the list that are installed, and what they need."""

from __future__ import annotations

import ast
from functools import lru_cache
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement

from fettle.scoring.sandbox.source import parse_source

ALLOWED = (
    "numpy", "scipy", "sympy", "pandas", "rapidfuzz", "scikit-learn", "rouge-score", "jsonschema", "pydantic", "pyyaml", "nltk",
)  # fmt: skip
"""The packages of OpenAI's python graders that are of use without a network, by the names of their distributions."""

_NOT_CODE = ("bin", "share", "include", "..", "__pycache__")


@lru_cache(maxsize=1)
def allowed_files() -> dict[str, Path]:
    """Every top-level file or folder that the allowed packages consist of: name to place on this machine."""
    found: dict[str, Path] = {}
    waiting, seen = list(ALLOWED), set[str]()
    while waiting:
        name = waiting.pop()
        if name in seen:
            continue
        seen.add(name)
        try:
            distribution = metadata.distribution(name)
        except metadata.PackageNotFoundError:
            continue
        for file in distribution.files or ():
            top = file.parts[0]
            if top not in _NOT_CODE:
                found[top] = Path(str(distribution.locate_file(top)))
        requirements = [Requirement(text) for text in distribution.requires or ()]
        waiting += [need.name for need in requirements if need.marker is None or need.marker.evaluate({"extra": ""})]
    return {name: path for name, path in found.items() if path.exists()}


def imported_packages(source: str) -> tuple[str, ...]:
    """The allowed modules that a source imports, so that they are loaded once and not for every call.

    >>> imported_packages("import numpy.linalg as la, os\\nfrom scipy import stats")
    ('numpy.linalg', 'scipy')

    Raises:
        ValueError: The source does not compile.
    """
    names: dict[str, None] = {}
    for node in ast.walk(parse_source(source)):
        if isinstance(node, ast.Import):
            names |= dict.fromkeys(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names[node.module] = None
    return tuple(name for name in names if name.split(".")[0] in allowed_files())
