"""The only reader of the environment."""

from __future__ import annotations

import ctypes
import os
import sys
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from pathlib import Path

from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from fettle.errors import ConfigError

_SPINS = "3000"
"""Turns of the loop in which a thread waits before it sleeps, some tens of microseconds: enough on a quiet machine."""

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # parameters of mallopt(3)
_KEPT_BYTES, _LARGEST_KEPT_BLOCK = 1 << 30, 32 << 20  # glibc takes no larger block


class Device(StrEnum):
    """Where models run."""

    AUTO = "auto"
    """On a CUDA GPU where there is one, else on the processor."""
    CPU = "cpu"
    CUDA = "cuda"
    MPS = "mps"
    """Apple's GPU: by the same code as on a processor, no kernels of its own."""


class IndexBackend(StrEnum):
    """What new indexes are searched with where the store is SQLite."""

    FOLDER = "folder"
    """FAISS and bm25s."""
    LANCEDB = "lancedb"
    """For indexes larger than memory."""


_KEYS = ("remote_api_key", "embedder_api_key", "vllm_api_key")


class Settings(BaseSettings):
    """What the environment says. Every variable starts with `FETTLE_`."""

    model_config = SettingsConfigDict(
        env_prefix="FETTLE_", env_ignore_empty=True, extra="ignore", frozen=True, hide_input_in_errors=True
    )

    home: Path = Field(default_factory=lambda: Path.home() / ".fettle")
    """Folder for models, studies and the count of looks at test splits."""
    remote_api_key: SecretStr | None = None
    """Key sent to the endpoint named by `--remote`; None: the endpoint needs none."""
    embedder_api_key: SecretStr | None = None
    """Key sent to the endpoint named by `--embedder-url`; None: the endpoint needs none."""
    index_backend: IndexBackend = IndexBackend.FOLDER
    """What new indexes are searched with; PostgreSQL searches its own."""
    vllm_url: str | None = None
    """vLLM servers, with commas between; each answers for the base model that it serves. None: there are none."""
    vllm_api_key: SecretStr | None = None
    """Key sent to these servers, and to the one named by `--answer-with vllm=URL`; None: they need none."""
    database_url: SecretStr | None = None
    """The store's database; None: SQLite in `home`."""
    lease_seconds: float = Field(default=15.0, ge=0.5)
    """How long a worker's claim to a job holds unless it is renewed: so long a dead worker's job waits for another one."""
    grader_seconds: float = Field(default=120.0, gt=0)
    """How long a call of a python grader may take, seconds."""
    threads: int | None = Field(default=None, ge=1)
    """Processor threads for model work, of all processes of a training run together; None: one per core."""
    device: Device = Device.AUTO
    """Where models run."""

    @field_validator(*_KEYS)
    @classmethod
    def _can_be_sent(cls, key: SecretStr | None) -> SecretStr | None:
        """A key without the space around it, such as the line's end of the file that it was read from."""
        told = None if key is None else key.get_secret_value().strip()
        if told and not (told.isascii() and told.isprintable()):
            raise ValueError("a key has to be of letters, digits and signs that go into an HTTP header")
        return SecretStr(told) if told else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """What `torchrun` says to each of the processes that it starts."""

    rank: int
    """The number of this process, from 0."""
    num_processes: int


@lru_cache(maxsize=1)
def get_settings() -> Settings:
    """The settings of this process, read once.

    Raises:
        ConfigError: A variable has a value that cannot be.
    """
    try:
        return Settings()
    except ValidationError as error:
        first = error.errors()[0]
        is_secret = first["loc"][:1] in {(name,) for name in _KEYS}
        raise ConfigError(
            first["msg"] if is_secret else f"{first['msg']}; it is {first['input']!r}",
            where=f"FETTLE_{'_'.join(map(str, first['loc'])).upper()}",
            remedy="change this environment variable, or unset it",
        ) from (None if is_secret else error)


def let_others_run() -> None:
    """Let threads that wait for another one soon leave the processor to it. To be called before torch is imported, which asks once.

    GNU OpenMP, which torch's Linux builds use, has them spin for milliseconds. Where another program keeps one of the processor's
    cores busy, the thread that all wait for then does not get its turn: a training step took up to 16 times as long (LOG.md,
    2026-11-26). What the user has set stays.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", _SPINS)


def keep_freed_memory() -> None:
    """Let the C library keep memory that was freed, up to a gigabyte, for what is wanted next.

    As it comes glibc gives it back to the system and asks for it again many times a second, and every page of it anew: a fifth of
    the time in which prompts are run (LOG.md, 2026-11-26). Other C libraries are left alone, and so is what the user has set.
    """
    if any(name in os.environ for name in ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "GLIBC_TUNABLES")):
        return
    with suppress(OSError, AttributeError, TypeError):  # not glibc
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(_TRIM_THRESHOLD, _KEPT_BYTES)
        mallopt(_MMAP_THRESHOLD, _LARGEST_KEPT_BLOCK)


def get_launch() -> Launch | None:
    """Which of several processes this one is; None: it was not started by `torchrun`.

    Raises:
        ConfigError: The processes are on several machines, which share no folder as far as we know.
    """
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        return None
    rank, size, size_here = (int(os.environ[name]) for name in ("RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE"))
    if size != size_here:
        raise ConfigError(
            f"{size_here} of {size} processes are on this machine, and a run's processes must all be on one",
            where="torchrun",
            remedy="start it on one machine, with --nproc-per-node alone",
        )
    return Launch(rank=rank, num_processes=size)


def meet_over_loopback() -> None:
    """Let the processes of one machine talk over its loopback interface and no other. What the user has set stays."""
    for name in ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME"):
        os.environ.setdefault(name, "lo0" if sys.platform == "darwin" else "lo")
