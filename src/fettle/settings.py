"""The only reader of the environment."""

from __future__ import annotations

import ctypes
import os
from contextlib import suppress
from enum import StrEnum
from functools import lru_cache
from pathlib import Path

from pydantic import Field, SecretStr, ValidationError
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


class Settings(BaseSettings):
    """What the environment says. Every variable starts with `FETTLE_`."""

    model_config = SettingsConfigDict(env_prefix="FETTLE_", env_ignore_empty=True, extra="ignore", frozen=True)

    home: Path = Field(default_factory=lambda: Path.home() / ".fettle")
    """Folder for models, studies and the count of looks at test splits."""
    remote_api_key: SecretStr | None = None
    """Key sent to the endpoint named by `--remote`; None: the endpoint needs none."""
    vllm_api_key: SecretStr | None = None
    """Key sent to the server named by `--answer-with vllm=URL`; None: it needs none."""
    threads: int | None = Field(default=None, ge=1)
    """Processor threads for model work; None: one per core."""
    device: Device = Device.AUTO
    """Where models run."""


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
        raise ConfigError(
            f"{first['msg']}; it is {first['input']!r}",
            where=f"FETTLE_{'_'.join(map(str, first['loc'])).upper()}",
            remedy="change this environment variable, or unset it",
        ) from error


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
