"""Tasks of EleutherAI's lm-evaluation-harness, as far as they say what was forgotten: which there are, and their questions.

The package `lm_eval` is an extra, and is imported when somebody asks for it, and never otherwise. A task is put as the harness
puts it, without a chat template and with its own few-shot examples, so that a base model's score can be held against
published ones. Its data come from Hugging Face unless they lie here: whoever names such a task asks for that connection.

Source: Gao et al., "A framework for few-shot language model evaluation" (`lm_eval` 0.4.13).
"""

from __future__ import annotations

import difflib
import importlib
import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any

from fettle.errors import ConfigError, DataError, FettleError
from fettle.forgetting.settings import HarnessSettings

_LOCAL_BUILDERS = ("arrow", "csv", "json", "pandas", "parquet", "text")
"""Of the package `datasets`, for files."""
_FEW_SHOT_SEED = 1234
"""As the harness has it."""
_WHERE = "--harness-task"


@dataclass(frozen=True, slots=True, kw_only=True)
class HarnessTask:
    """What was asked for by one name: a task, or a group of tasks."""

    name: str
    members: tuple[str, ...]
    """The tasks themselves; of a task that is no group itself alone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedTasks:
    """Tasks with their data, as the harness holds them."""

    asked: tuple[HarnessTask, ...]
    by_name: Mapping[str, Any]
    """`lm_eval` task objects, groups taken apart."""


class Harness:
    """The tasks that a study asks for, known to exist; their data are not read yet.

    Args:
        settings: Which tasks.

    Raises:
        ConfigError: `lm_eval` is not installed, there is no such task, or no such file.
    """

    def __init__(self, settings: HarnessSettings) -> None:
        if settings.path is not None and not settings.path.exists():
            raise ConfigError(
                "neither a file nor a folder",
                where=f"--harness-path {settings.path}",
                remedy="name the folder of your own tasks' YAML files",
            )
        self.settings = settings
        self._manager = _manager(settings)

    @property
    def fetched(self) -> tuple[str, ...]:
        """The names whose data may have to be fetched from Hugging Face; groups always count."""
        return tuple(name for name in self.settings.tasks if not self._is_local(name))

    @property
    def fetched_in_words(self) -> str:
        """What is said of them before anything is fetched; "": all data lie here."""
        if not self.fetched:
            return ""
        return f"the data of {', '.join(self.fetched)} are fetched from Hugging Face where they are not in its cache"

    def load(self) -> LoadedTasks:
        """The tasks with their data, read from files or fetched.

        Raises:
            DataError: The data of a task cannot be had.
        """
        asked, by_name = [], {}
        for name in self.settings.tasks:
            found = self._loaded(name)
            asked.append(HarnessTask(name=name, members=tuple(found)))
            by_name |= found
        for task in by_name.values():
            if task.get_config("num_fewshot") is None:
                task.set_config(key="num_fewshot", value=0)
            task.set_fewshot_seed(seed=_FEW_SHOT_SEED)
        return LoadedTasks(asked=tuple(asked), by_name=by_name)

    def _loaded(self, name: str) -> dict[str, Any]:
        with told_as_data_error(name, doing="its data cannot be read"), quiet():
            return dict(self._manager.load([name])["tasks"])

    def _is_local(self, name: str) -> bool:
        entry = self._manager.task_index[name]
        path = (entry.cfg or {}).get("dataset_path")
        return path in _LOCAL_BUILDERS or (isinstance(path, str) and Path(path).exists())


def import_lm_eval(module: str) -> Any:
    """A module of the package.

    Raises:
        ConfigError: It is not installed.
    """
    try:
        found = importlib.import_module(f"lm_eval.{module}")
    except ImportError as error:
        raise ConfigError(
            f"lm-evaluation-harness is not installed here, or does not load ({str(error).splitlines()[0]})",
            where=_WHERE,
            remedy="pip install 'fettle-llm[harness]'; or leave the option out",
        ) from error
    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    return found


@contextmanager
def quiet() -> Iterator[None]:
    """Within it progress bars, which cannot be switched off otherwise, are not seen."""
    with redirect_stderr(StringIO()):
        yield


@contextmanager
def told_as_data_error(name: str, *, doing: str) -> Iterator[None]:
    """Within it whatever a task's own code and templates raise is told as a `DataError` about the task.

    What torch raises passes: it may be about memory.
    """
    try:
        yield
    except (FettleError, RuntimeError, MemoryError):
        raise
    except Exception as error:
        first_line = str(error).splitlines()[0] if str(error) else ""
        raise DataError(
            f"{doing} ({type(error).__name__}: {first_line[:200]})",
            where=f"{_WHERE} {name}",
            remedy="its data come from Hugging Face unless it names files here: check the connection, or the task's YAML file",
        ) from error


def _manager(settings: HarnessSettings) -> Any:
    """The harness's index: of the user's own tasks where they are all that is asked for, which takes no time, else of all."""
    tasks = import_lm_eval("tasks")
    datasets = importlib.import_module("datasets")
    datasets.config.HF_UPDATE_DOWNLOAD_COUNTS = False  # it would tell Hugging Face of files that are read here
    include = None if settings.path is None else str(_folder(settings.path))
    with quiet():
        if include is not None:
            own = tasks.TaskManager(include_path=include, include_defaults=False)
            if set(settings.tasks) <= set(own.all_tasks):
                return own
        manager = tasks.TaskManager(include_path=include)
    _require_known(settings.tasks, manager.all_tasks)
    return manager


def _folder(path: Path) -> Path:
    return path if path.is_dir() else path.parent


def _require_known(names: Sequence[str], known: Sequence[str]) -> None:
    for name in names:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=3)
            raise ConfigError(
                f"lm-evaluation-harness has no task {name!r}",
                where=_WHERE,
                remedy=(f"did you mean {' or '.join(near)}? " if near else "")
                + "Your own tasks are found with --harness-path FOLDER",
            )
