"""What must be true of the package as a whole."""

from __future__ import annotations

import ast
import dataclasses
import importlib
import pkgutil
import re
import subprocess
import sys
from pathlib import Path

import pytest

import fettle
from fettle.answering.answer_with import AnswerWith
from fettle.answering.engine import GenerationOptions
from fettle.answering.engines.local import BatchLimits
from fettle.economics_records import Assumptions, Machine, People, Remote, Traffic, Tuning, Worth
from fettle.examples.column_names import ColumnMapping
from fettle.examples.split import SplitSizes
from fettle.export.settings import ExportSettings
from fettle.forgetting.budget import ForgettingBudget
from fettle.forgetting.replay import ReplaySettings
from fettle.forgetting.settings import ForgettingSettings, HarnessSettings
from fettle.judging.settings import JudgeSettings
from fettle.models.adapter import LoraSettings
from fettle.routing.router import RouterSettings
from fettle.scoring.sandbox.limits import SandboxLimits
from fettle.server.settings import ServerSettings
from fettle.settings import Settings
from fettle.study.settings import RemoteModel, RoutingSettings, StudySettings
from fettle.training.settings import TrainingSettings

PACKAGE = Path(fettle.__file__).parent
README = PACKAGE.parents[1] / "README.md"
MODULES = sorted(module.name for module in pkgutil.walk_packages(fettle.__path__, "fettle."))
CONFIGS = (
    StudySettings, RemoteModel, TrainingSettings, LoraSettings, GenerationOptions, BatchLimits, SplitSizes,
    ColumnMapping, ExportSettings, AnswerWith, ServerSettings, SandboxLimits, JudgeSettings,
    ForgettingSettings, ForgettingBudget, HarnessSettings, ReplaySettings, RoutingSettings, RouterSettings,
    Assumptions, Traffic, Machine, People, Worth, Tuning, Remote,
)  # fmt: skip
HEAVY = ("torch", "transformers", "peft", "pandas", "sentence_transformers", "sklearn", "openai")


@pytest.mark.parametrize("name", MODULES)
def test_every_module_imports_and_says_what_it_is(name: str) -> None:
    module = importlib.import_module(name)
    assert module.__doc__


def attributes_read() -> set[tuple[str, str]]:
    """(class that the reading code stands in, or nothing, attribute) of every attribute read in the package."""
    found = set()
    for file in PACKAGE.rglob("*.py"):
        tree = ast.parse(file.read_text())
        owner = {
            id(inner): node.name
            for node in ast.walk(tree)
            if isinstance(node, ast.ClassDef)
            for inner in ast.walk(node)
        }
        found |= {
            (owner.get(id(node), ""), node.attr)
            for node in ast.walk(tree)
            if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load)
        }
    return found


READ = attributes_read()
FIELDS = [(config.__name__, field.name) for config in CONFIGS for field in dataclasses.fields(config)]
FIELDS += [("Settings", name) for name in Settings.model_fields]


@pytest.mark.parametrize(("config", "field"), FIELDS)
def test_every_option_is_read_somewhere_outside_its_definition(config: str, field: str) -> None:
    assert any(name == field and owner != config for owner, name in READ)


def test_help_is_quick_because_it_imports_nothing_heavy() -> None:
    code = (
        "import sys\nsys.argv = ['fettle', 'study', '--help']\nfrom fettle.cli.main import main\n"
        f"try:\n    main()\nfinally:\n    print([name for name in {HEAVY} if name in sys.modules], file=sys.stderr)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr.strip() == "[]"


def test_only_settings_reads_the_environment() -> None:
    # `os` may ask for many things; these two are the environment.
    reading = [
        str(file.relative_to(PACKAGE))
        for file in PACKAGE.rglob("*.py")
        if re.search(r"os\.environ|getenv", file.read_text()) and file.name != "settings.py"
    ]
    assert reading == []


def test_the_tree_in_the_readme_is_the_tree_on_disk() -> None:
    if not README.is_file() or "src/fettle/\n" not in README.read_text():
        pytest.skip("no README with a tree here")
    tree = README.read_text().split("src/fettle/\n")[1].split("```")[0]
    named = re.findall(r"^  (\S+)  +\S", tree, flags=re.MULTILINE)
    rooms = {f"{path.name}/" for path in PACKAGE.iterdir() if (path / "__init__.py").is_file()}
    files = {path.name for path in PACKAGE.glob("*.py") if not path.name.startswith("__")}
    assert set(named) == rooms | files
    assert len(named) == len(set(named))
