from __future__ import annotations

import json
import os
import traceback
from dataclasses import replace
from pathlib import Path

import pytest

from fettle.errors import ConfigError
from fettle.examples.column_names import ColumnMapping
from fettle.files import sha256_of_json
from fettle.models.adapter import LoraSettings, LoraVariant
from fettle.models.precision import Precision
from fettle.records import TaskKind
from fettle.settings import Launch, Settings, get_launch, get_settings, meet_over_loopback
from fettle.study.settings import RemoteModel, StudySettings
from fettle.training.helpers import as_launched
from fettle.training.settings import (
    Checkpointing,
    Method,
    Schedule,
    TrainingSettings,
    derived_learning_rate,
    learning_rate_at,
)

SETTINGS = StudySettings(examples=Path("tickets.csv"))
NAN, INFINITY = float("nan"), float("inf")


def test_the_environment_is_read_with_a_prefix(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FETTLE_HOME", "/somewhere")
    monkeypatch.setenv("FETTLE_THREADS", "3")
    monkeypatch.setenv("FETTLE_REMOTE_API_KEY", "secret")
    settings = Settings()
    assert (settings.home, settings.threads) == (Path("/somewhere"), 3)
    assert "secret" not in repr(settings)


def test_a_key_that_cannot_be_sent_is_refused_and_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FETTLE_VLLM_API_KEY", " sk-of-a-file\n")
    monkeypatch.setenv("FETTLE_EMBEDDER_API_KEY", " \n")
    settings = Settings()
    assert settings.vllm_api_key is not None
    assert (settings.vllm_api_key.get_secret_value(), settings.embedder_api_key) == ("sk-of-a-file", None)
    for wrong in ("sk-schlüssel", "sk-two\nlines"):
        monkeypatch.setenv("FETTLE_REMOTE_API_KEY", wrong)
        get_settings.cache_clear()
        with pytest.raises(ConfigError, match="FETTLE_REMOTE_API_KEY") as caught:
            get_settings()
        assert "sk-" not in caught.value.describe()
    get_settings.cache_clear()


def test_a_key_that_cannot_be_sent_is_not_shown_behind_what_else_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FETTLE_INDEX_BACKEND", "drawer")
    monkeypatch.setenv("FETTLE_VLLM_API_KEY", "sk-schlüssel")
    get_settings.cache_clear()
    with pytest.raises(ConfigError, match="FETTLE_INDEX_BACKEND") as caught:
        get_settings()
    assert "sk-" not in "".join(traceback.format_exception(caught.value))
    get_settings.cache_clear()


def test_defaults_without_an_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("FETTLE_HOME", "FETTLE_THREADS", "FETTLE_REMOTE_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    settings = Settings()
    assert (settings.home, settings.threads, settings.remote_api_key) == (Path.home() / ".fettle", None, None)


@pytest.mark.parametrize(("value", "problem"), [("0", "greater than or equal to 1"), ("two", "valid integer.*")])
def test_a_variable_that_cannot_be_is_named(monkeypatch: pytest.MonkeyPatch, value: str, problem: str) -> None:
    monkeypatch.setenv("FETTLE_THREADS", value)
    get_settings.cache_clear()
    with pytest.raises(ConfigError, match=f"FETTLE_THREADS: .*{problem}; it is '{value}'"):
        get_settings()


def test_an_empty_variable_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FETTLE_HOME", "")
    monkeypatch.setenv("FETTLE_THREADS", "")
    assert (Settings().home, Settings().threads) == (Path.home() / ".fettle", None)


@pytest.mark.parametrize("rate", [0.0, -1e-4, 1.5, NAN, INFINITY])
def test_learning_rates_that_cannot_be(rate: float) -> None:
    with pytest.raises(ConfigError, match="learning_rate"):
        TrainingSettings(learning_rate=rate)


@pytest.mark.parametrize(
    "name",
    [
        "epochs",
        "batch_size",
        "evals_per_epoch",
        "patience",
        "checkpoint_steps",
        "micro_batch_tokens",
        "processes",
        "quick_valid_rows",
    ],
)
def test_counts_start_at_one(name: str) -> None:
    replace(TrainingSettings(), **{name: 1})
    with pytest.raises(ConfigError, match=f"{name}: expected a number at least 1, and it is 0"):
        replace(TrainingSettings(), **{name: 0})


@pytest.mark.parametrize("seed", [-1, 2**32])
def test_seeds_that_a_library_would_refuse_later(seed: int) -> None:
    with pytest.raises(ConfigError, match="seed"):
        TrainingSettings(seed=seed)
    with pytest.raises(ConfigError, match="seed"):
        replace(SETTINGS, seed=seed)


def test_other_values_that_cannot_be() -> None:
    with pytest.raises(ConfigError, match="rank"):
        LoraSettings(rank=0)
    with pytest.raises(ConfigError, match="worthwhile"):
        replace(SETTINGS, worthwhile=NAN)
    with pytest.raises(ConfigError, match="max_new_tokens"):
        replace(SETTINGS, max_new_tokens=0)
    with pytest.raises(ConfigError, match="warmup_fraction"):
        TrainingSettings(warmup_fraction=1.5)
    with pytest.raises(ConfigError, match="max_grad_norm"):
        TrainingSettings(max_grad_norm=0)


def key(settings: StudySettings) -> str:
    return sha256_of_json(settings.key_parts())


def test_everything_that_can_change_a_result_is_in_the_key() -> None:
    changed = [
        replace(SETTINGS, columns=ColumnMapping(input="a", answer="b")),
        replace(SETTINGS, test=Path("test.csv")),
        replace(SETTINGS, instruction="Sort."),
        replace(SETTINGS, task=TaskKind.TEXT),
        replace(SETTINGS, graders=("chrf",)),
        replace(SETTINGS, model="other"),
        replace(SETTINGS, remote=RemoteModel(url="http://here/v1", model="m")),
        replace(SETTINGS, training=TrainingSettings(lora=LoraSettings(rank=4))),
        replace(SETTINGS, worthwhile=0.02),
        replace(SETTINGS, leave_out_long=True),
        replace(SETTINGS, seed=1),
    ]
    assert len({key(settings) for settings in (SETTINGS, *changed)}) == len(changed) + 1


def test_where_a_study_lies_and_how_a_file_is_spelled_is_not_in_the_key() -> None:
    same = [
        replace(SETTINGS, out=Path("elsewhere")),
        replace(SETTINGS, fresh=True),
        replace(SETTINGS, price_per_hour=1.2),
        replace(SETTINGS, examples=Path("./tickets.csv")),
        replace(SETTINGS, examples=Path("/home/me/tickets.csv")),
    ]
    assert {key(settings) for settings in same} == {key(SETTINGS)}
    json.dumps(SETTINGS.key_parts())


def test_what_may_be_secret_in_a_remote_address_is_not_in_the_key() -> None:
    public = replace(SETTINGS, remote=RemoteModel(url="http://here/v1", model="m"))
    secret = replace(SETTINGS, remote=RemoteModel(url="http://user:pw123@here/v1?key=pw123", model="m"))
    assert key(secret) == key(public)
    assert "pw123" not in json.dumps(secret.key_parts())


@pytest.mark.parametrize(("url", "model"), [("", ""), ("ftp://x", "m"), ("", "m"), ("http://here/v1", " ")])
def test_a_remote_model_needs_an_address_and_a_name(url: str, model: str) -> None:
    with pytest.raises(ConfigError, match="--remote"):
        RemoteModel(url=url, model=model)


def test_smaller_models_take_larger_steps() -> None:
    rates = [derived_learning_rate(number) for number in (8_000_000_000, 1_000_000_000, 135_000_000)]
    assert rates[0] == 2e-4
    assert rates == sorted(rates)


def test_the_learning_rate_rises_and_falls_to_nothing() -> None:
    rates = [learning_rate_at(step, num_steps=100, peak=1.0, warmup_fraction=0.1) for step in range(101)]
    assert rates[:10] == pytest.approx([0.1 * number for number in range(1, 11)])
    assert rates[9:] == sorted(rates[9:], reverse=True)
    assert rates[55] == pytest.approx(0.5)
    assert rates[100] == pytest.approx(0.0)


def test_the_seed_of_a_study_is_that_of_its_training_however_it_was_given() -> None:
    assert replace(SETTINGS, seed=7).training.seed == 7
    assert replace(replace(SETTINGS, seed=7), seed=8).training.seed == 8
    assert replace(SETTINGS, training=TrainingSettings(seed=3)).training.seed == SETTINGS.seed


def test_settings_say_the_call_that_makes_them() -> None:
    lora = LoraSettings(rank=4, variant=LoraVariant.DORA)
    settings = replace(
        SETTINGS,
        precision=Precision.EXACT,
        columns=ColumnMapping(input="a", answer="b"),
        training=TrainingSettings(method=Method.FULL, epochs=1, schedule=Schedule.LINEAR, lora=lora),
        seed=7,
    )
    names = {one.__name__: one for one in (ColumnMapping, LoraSettings, LoraVariant, Method, Precision, Schedule)}
    names |= {one.__name__: one for one in (StudySettings, TrainingSettings)}
    assert eval(settings.describe(), names) == settings  # noqa: S307 (our own text)
    assert "<" not in settings.describe()


def test_how_a_run_is_computed_is_not_in_the_key() -> None:
    computed = TrainingSettings(processes=4, checkpointing=Checkpointing.ON, micro_batch_tokens=100)
    assert key(replace(SETTINGS, training=computed)) == key(SETTINGS)


LAUNCHED = {"TORCHELASTIC_RUN_ID": "none", "RANK": "1", "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}


@pytest.fixture
def launched(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """This process is one of two that torchrun has started."""
    for name, value in LAUNCHED.items():
        monkeypatch.setenv(name, value)
    return monkeypatch


def test_a_rank_alone_is_no_launch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TORCHELASTIC_RUN_ID", raising=False)
    monkeypatch.setenv("RANK", "1")  # batch systems set it too
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert get_launch() is None
    assert as_launched(TrainingSettings(processes=3)).processes == 3


def test_torchrun_says_how_many_processes_there_are(launched: pytest.MonkeyPatch) -> None:
    assert get_launch() == Launch(rank=1, num_processes=2)
    assert as_launched(TrainingSettings()).processes == as_launched(TrainingSettings(processes=2)).processes == 2
    with pytest.raises(ConfigError, match="torchrun has started 2 processes, and 3 are asked for"):
        as_launched(TrainingSettings(processes=3))


def test_processes_on_several_machines_are_refused(launched: pytest.MonkeyPatch) -> None:
    launched.setenv("WORLD_SIZE", "4")
    with pytest.raises(ConfigError, match="2 of 4 processes are on this machine"):
        get_launch()


def test_processes_meet_over_the_loopback_interface_unless_the_user_says_otherwise(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("GLOO_SOCKET_IFNAME", raising=False)
    monkeypatch.setenv("NCCL_SOCKET_IFNAME", "eth7")
    meet_over_loopback()
    assert os.environ["GLOO_SOCKET_IFNAME"] in ("lo", "lo0")
    assert os.environ["NCCL_SOCKET_IFNAME"] == "eth7"
    monkeypatch.delenv("GLOO_SOCKET_IFNAME")
