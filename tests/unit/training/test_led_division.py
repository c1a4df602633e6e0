from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from fettle.answering.answer_with import AnswerWith, EngineKind
from fettle.errors import ConfigError
from fettle.models.adapter import LoraSettings, LoraVariant
from fettle.models.precision import Precision
from fettle.study.engines import require_usable
from fettle.study.settings import StudySettings
from fettle.training.led_division import load_led
from fettle.training.settings import Method, TrainingSettings


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"processes": 1}, "no processes to divide"),
        ({"method": Method.FULL}, "all weights are trained"),
        ({"method": Method.QLORA}, "held in 4 bits"),
        ({"lora": LoraSettings(variant=LoraVariant.DORA)}, "lengths of all weight columns"),
    ],
)
def test_what_cannot_be_divided_is_refused(settings: dict[str, Any], reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        TrainingSettings(**({"processes": 2, "shard": True} | settings))


def test_under_torchrun_it_is_refused(tiny_model: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("TORCHELASTIC_RUN_ID", "x"), ("RANK", "0"), ("WORLD_SIZE", "2"), ("LOCAL_WORLD_SIZE", "2")):
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError, match="under torchrun a model is not divided"):
        load_led(tiny_model("llama").source, Precision.EXACT, num_processes=2)


@pytest.mark.parametrize("kind", [EngineKind.OPENVINO, EngineKind.LLAMACPP])
def test_engines_that_hold_the_model_whole_are_refused(kind: EngineKind, tmp_path: Any) -> None:
    training = TrainingSettings(processes=2, shard=True)
    with pytest.raises(ConfigError, match="holds the whole model in this process"):
        require_usable(StudySettings(examples=tmp_path, training=training, answer_with=AnswerWith(kind=kind)))
