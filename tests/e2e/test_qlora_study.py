"""A study whose base model is held in 4 bits."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from command import Runner
from reports import comparable, load, require_consistent
from studies import LABEL_STUDY, TASK_ALONE, Study, require_refused

from tiny_models import load_tiny_model

QLORA_STUDY = (*LABEL_STUDY, "--method", "qlora")
LITTLE_MEMORY = """
import psutil
psutil.virtual_memory = lambda memory=psutil.virtual_memory(): memory._replace(total=100_000)
"""
WITHOUT_BITSANDBYTES = """
import importlib.util
find = importlib.util.find_spec
importlib.util.find_spec = lambda name, *others: None if name == "bitsandbytes" else find(name, *others)
"""
needs_bitsandbytes = pytest.mark.usefixtures("tiny_nf4_model")


def described(report: Any) -> dict[str, str]:
    """How each local language model answers, in words, up to the way it is asked."""
    local = [one for one in report["contenders"] if one["name"] not in ("constant", "classifier")]
    return {one["name"]: one["description"].split(":")[0] for one in local}


@pytest.mark.long
@needs_bitsandbytes
def test_it_is_killed_while_it_trains_and_judges_what_it_trained(
    fettle: Runner, label_study: Study, tmp_path: Path
) -> None:
    whole, folder = tmp_path / "whole", tmp_path / "killed"
    finished = fettle(*QLORA_STUDY, "--out", whole)
    assert finished.code in (0, 3, 4), finished.everything
    assert "Traceback" not in finished.everything
    assert "kernels" not in finished.everything, "what bitsandbytes grumbles when it is imported"
    assert "with its weights in NF4" in finished.everything
    assert "the prompted contenders have the model as given" in finished.everything

    report, of_lora = load(whole), load(label_study.folder)
    require_consistent(report)
    [tuned] = [one for one in report["contenders"] if one["name"] == "tuned"]
    assert tuned["title"] == "Fine-tuned (QLoRA)"
    assert described(report) == {
        "tuned": "model in NF4 + adapter", "prompt": "model", "few_shot": "model", "few_shot_nearest": "model"
    }  # fmt: skip
    training = report["training"]
    assert training["base_model"] == "model in NF4"
    assert training["settings"]["method"] == "qlora"
    assert training["settings"]["base_weights"] == "nf4"
    assert training["settings"]["prompted_weights"] == "as given"
    assert "bitsandbytes" in report["provenance"]["versions"]
    assert {one["name"]: one["metrics"] for one in report["contenders"] if one["name"] != "tuned"} == {
        one["name"]: one["metrics"] for one in of_lora["contenders"] if one["name"] != "tuned"
    }, "the model as given answers as it does in any study"

    command = fettle.start(*QLORA_STUDY, "--out", folder)
    events = folder / "training" / "events.jsonl"
    assert command.wait_until(lambda: events.exists() and events.read_bytes().count(b"\n") >= 12)
    command.kill()
    assert not (folder / "report.json").exists()
    assert fettle(*QLORA_STUDY, "--out", folder).code == finished.code
    assert comparable(load(folder)) == comparable(report)
    adapter = Path("training") / "adapter" / "adapter_model.safetensors"
    assert (folder / adapter).read_bytes() == (whole / adapter).read_bytes()

    require_refused(fettle(*LABEL_STUDY, "--out", whole), "with other settings")


@needs_bitsandbytes
def test_a_model_that_the_machine_does_not_hold_as_given_is_asked_in_4_bits(fettle: Runner, tmp_path: Path) -> None:
    finished = fettle.start(*QLORA_STUDY, "--out", tmp_path / "study", preamble=LITTLE_MEMORY).wait()
    assert finished.code in (0, 3, 4), finished.everything
    assert "so do the prompted contenders" in finished.everything
    report = load(tmp_path / "study")
    assert described(report) == {
        "tuned": "model in NF4 + adapter", "prompt": "model in NF4", "few_shot": "model in NF4",
        "few_shot_nearest": "model in NF4",
    }  # fmt: skip
    assert report["training"]["settings"]["prompted_weights"] == "nf4"


@needs_bitsandbytes
def test_files_that_hold_nf4_are_for_qlora_alone(fettle: Runner, tmp_path: Path) -> None:
    stored = tmp_path / "stored"
    quantised = load_tiny_model(fettle.folder / "model", in_nf4=True)
    quantised.model.save_pretrained(stored)
    quantised.renderer.tokenizer.save_pretrained(stored)
    assert json.loads((stored / "config.json").read_text())["quantization_config"]["load_in_4bit"]
    words = (
        "study", "labels.csv", "--model", stored, "--epochs", "1", "--precision", "exact", *TASK_ALONE, "--out", tmp_path / "study"
    )  # fmt: skip
    for method in ("full", "lora"):
        finished = fettle(*words, "--method", method)
        require_refused(finished, "hold quantised weights (NF4), which cannot be trained", "--method qlora")
        assert not (tmp_path / "study").exists()
    finished = fettle(*words, "--method", "qlora")
    assert finished.code in (0, 3, 4), finished.everything
    assert set(described(load(tmp_path / "study")).values()) == {"stored in NF4", "stored in NF4 + adapter"}


def test_without_bitsandbytes_it_is_refused_before_anything_is_read(fettle: Runner, tmp_path: Path) -> None:
    finished = fettle.start(*QLORA_STUDY, "--out", tmp_path / "study", preamble=WITHOUT_BITSANDBYTES).wait()
    require_refused(finished, "needs the package bitsandbytes", "pip install 'fettle-llm[qlora]'")
    assert not (tmp_path / "study").exists()
