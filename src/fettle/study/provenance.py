"""Everything needed to run a study again: command, seed, versions, machine, hashes."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version

from fettle.report_records import Provenance
from fettle.study.settings import StudySettings

_PACKAGES = ("torch", "transformers", "peft", "tokenizers", "numpy", "scipy", "scikit-learn", "sacrebleu", "llguidance")


@dataclass(frozen=True, slots=True, kw_only=True)
class Hashes:
    """What identifies the inputs of a study."""

    data: Mapping[str, str]
    split: Mapping[str, str]
    template: str
    model: str


def fettle_version() -> str:
    """The version of the installed package, or `development` in a bare checkout."""
    try:
        return version("fettle-llm")
    except PackageNotFoundError:
        return "development"


def provenance(settings: StudySettings, hashes: Hashes, *, command: str, num_test_looks: int) -> Provenance:
    """The record of how a study came about."""
    return Provenance(
        command=command,
        seed=settings.seed,
        created_at=datetime.now(UTC).isoformat(timespec="seconds"),
        fettle_version=fettle_version(),
        versions={"python": platform.python_version()} | {name: version(name) for name in _PACKAGES},
        machine=f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
        data_sha256=hashes.data,
        split_sha256=hashes.split,
        template_sha256=hashes.template,
        model_sha256=hashes.model,
        settings={name: _flat(value) for name, value in settings.key_parts().items()},
        num_test_looks=num_test_looks,
    )


def _flat(value: object) -> str | int | float | bool | None:
    return value if isinstance(value, (str, int, float, bool)) or value is None else str(value)
