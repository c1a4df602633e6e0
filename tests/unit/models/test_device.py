from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from fettle.errors import ConfigError
from fettle.models.device import chosen_device, moved, tensor_on
from fettle.models.precision import Precision, choose_precision
from fettle.settings import get_settings


@pytest.fixture(autouse=True)
def fresh_settings() -> Iterator[None]:
    get_settings.cache_clear()
    yield
    get_settings.cache_clear()


def test_a_gpu_is_taken_where_there_is_one_unless_the_user_says_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert chosen_device().type == "cuda"
    monkeypatch.setenv("FETTLE_DEVICE", "cpu")
    get_settings.cache_clear()
    assert chosen_device().type == "cpu"


@pytest.mark.parametrize("name", ["cuda", "mps"])
def test_a_device_that_is_not_there_is_told_with_a_remedy(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FETTLE_DEVICE", name)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(ConfigError, match=name.upper()) as caught:
        chosen_device()
    assert "FETTLE_DEVICE" in str(caught.value)


def test_a_device_that_nobody_knows_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FETTLE_DEVICE", "tpu")
    with pytest.raises(ConfigError, match="cuda"):
        chosen_device()


def test_a_gpu_that_only_emulates_bf16_computes_in_fp32(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    emulates = lambda including_emulation=True: including_emulation  # noqa: E731
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", emulates)
    assert choose_precision(Precision.AUTO) is Precision.EXACT
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **_: True)
    assert choose_precision(Precision.AUTO) is Precision.FAST


def test_numbers_arrive_as_they_are() -> None:
    assert tensor_on(torch.device("cpu"), [1, 2], torch.int32).tolist() == [1, 2]
    assert moved(torch.ones(2), torch.device("meta")).device.type == "meta"
