from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from fettle.models import precision
from fettle.models.precision import Precision, bf16_speedup, choose_precision, keep_choice
from fettle.settings import Settings


@pytest.fixture
def processor_with_bf16(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> pytest.MonkeyPatch:
    """A machine without GPU that claims to multiply bf16, and an empty FETTLE_HOME."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: True)
    monkeypatch.setattr(precision, "get_settings", lambda: Settings(home=tmp_path))
    return monkeypatch


@pytest.mark.parametrize(("speedup", "chosen"), [(0.6, Precision.EXACT), (2.2, Precision.FAST)])
def test_auto_takes_what_is_faster_here(
    processor_with_bf16: pytest.MonkeyPatch, speedup: float, chosen: Precision
) -> None:
    processor_with_bf16.setattr(precision, "_measured_speedup", lambda: speedup)
    assert choose_precision(Precision.AUTO) is chosen
    assert choose_precision(Precision.EXACT) is Precision.EXACT
    assert choose_precision(Precision.FAST) is Precision.FAST


def test_auto_decides_as_an_earlier_study_did(processor_with_bf16: pytest.MonkeyPatch, tmp_path: Path) -> None:
    processor_with_bf16.setattr(precision, "_measured_speedup", lambda: 2.2)
    assert choose_precision(Precision.AUTO) is Precision.FAST
    assert not list(tmp_path.iterdir())  # a dry run leaves nothing
    keep_choice(tmp_path)
    processor_with_bf16.setattr(precision, "_measured_speedup", lambda: 1.0)
    processor_with_bf16.setattr(torch, "get_num_threads", lambda: 99)
    keep_choice(tmp_path)
    assert choose_precision(Precision.AUTO) is Precision.FAST
    [file] = (tmp_path / "machines").iterdir()
    file.write_text("{")
    assert choose_precision(Precision.AUTO) is Precision.EXACT


def test_a_processor_without_bf16_is_exact(processor_with_bf16: pytest.MonkeyPatch, tmp_path: Path) -> None:
    processor_with_bf16.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)
    processor_with_bf16.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False)
    assert choose_precision(Precision.AUTO) is Precision.EXACT
    keep_choice(tmp_path)
    assert not list(tmp_path.iterdir())


def test_what_is_measured_is_kept_with_what_it_was_measured_on(
    processor_with_bf16: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    speedup = bf16_speedup(tmp_path)
    assert speedup > 0
    keep_choice(tmp_path)
    [file] = (tmp_path / "machines").iterdir()
    kept = json.loads(file.read_text())
    assert kept["bf16_speedup"] == speedup
    assert kept["torch"] == torch.__version__
    assert kept["processor"]
