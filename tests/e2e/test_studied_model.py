"""A study of a tuned model that is there already: nothing is trained, and nothing is tested that the model has learned from."""

from __future__ import annotations

from pathlib import Path

import pytest
from command import Runner
from reports import load, require_consistent
from studies import Study, require_refused
from tiny import label_file

from fettle.answering.check_prompts import read_check_prompts
from fettle.store.database import Store
from fettle.store.jobs import JobKind, list_jobs
from fettle.store.models import TunedModel, list_tuned_models
from fettle.store.pages import PageRequest

_TRAINING = ("study", "labels.csv", "--model", "model", "--epochs", "2", "--batch-size", "4")


@pytest.fixture(scope="module")
def trained(bench: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Study, Path, TunedModel]:
    """A study that has trained a model, its FETTLE_HOME, and the model."""
    folder = tmp_path_factory.mktemp("given")
    home = folder / "home"
    finished = Runner(bench, home)(*_TRAINING, "--out", folder / "study")
    assert "Traceback" not in finished.everything
    store = Store(home)
    with store.reading() as connection:
        [model] = list_tuned_models(connection)
    store.close()
    return Study(finished, folder / "study"), home, model


def test_prompts_to_check_it_by_lie_beside_a_model(trained: tuple[Study, Path, TunedModel]) -> None:
    _, home, model = trained
    assert len(read_check_prompts(home / "models" / model.folder)) == 4


def test_what_the_model_has_learned_from_is_not_tested(
    bench: Path, trained: tuple[Study, Path, TunedModel], tmp_path: Path
) -> None:
    first, home, model = trained
    finished = Runner(bench, home)("study", "labels.csv", "--model", model.id, "--out", tmp_path / "again")
    assert "Traceback" not in finished.everything
    report, before = load(tmp_path / "again"), load(first.folder)
    require_consistent(report)
    learned = before["num_examples"]["train"] + before["num_examples"]["valid"]
    assert report["training"] is None
    assert report["studied_model"] == {
        "name": model.id, "job": model.job_id, "step": None, "base_model": "model", "is_adapter": True,
        "tuned_path": str(home / "models" / model.folder), "num_seen": learned,
    }  # fmt: skip
    unseen = {row["example_id"] for row in before["rows"]}
    assert {row["example_id"] for row in report["rows"]} <= unseen
    assert report["num_examples"]["valid"] + report["num_examples"]["test"] == len(unseen)
    assert {one["name"] for one in report["contenders"]} == {one["name"] for one in before["contenders"]}
    assert any(f"{learned} of 60 examples were in the data that {model.id}" in text for text in report["warnings"])
    assert [one["code"] for one in report["findings"]].count("seen-by-model") == learned
    page = (tmp_path / "again" / "report.html").read_text()
    assert model.id in page
    assert model.job_id is not None
    assert model.job_id in page
    assert f"none: {model.id} is studied as it is" in finished.everything
    assert not (tmp_path / "again" / "training").exists()
    _require_a_job_without_a_model(home, model, finished.everything)


def _require_a_job_without_a_model(home: Path, model: TunedModel, printed: str) -> None:
    """The study is a job of the store, of the model, and no second model was made."""
    assert "can be asked for as" not in printed
    store = Store(home)
    with store.reading() as connection:
        assert [one.id for one in list_tuned_models(connection)] == [model.id]
        jobs = list_jobs(connection, model.project_id, PageRequest(limit=10)).items
    store.close()
    assert [(job.kind, job.model) for job in jobs] == [(JobKind.STUDY, model.id), (JobKind.STUDY, "model")]
    assert [(job.status.value, job.tuned_model) for job in jobs] == [("succeeded", None), ("succeeded", model.id)]


def test_the_user_s_own_test_file_is_freed_of_what_was_learned(
    bench: Path, trained: tuple[Study, Path, TunedModel], tmp_path: Path
) -> None:
    _, home, model = trained
    fresh = label_file(tmp_path / "fresh.csv", 30, seed=11)
    mixed = tmp_path / "mixed.csv"
    old = (bench / "labels.csv").read_text().splitlines()
    mixed.write_text("\n".join([*fresh.read_text().splitlines(), *old[1:]]) + "\n")
    others = label_file(tmp_path / "others.csv", 30, seed=12)
    words = ("study", others, "--test", mixed, "--model", model.id, "--out", tmp_path / "own")
    finished = Runner(bench, home)(*words)
    report = load(tmp_path / "own")
    learned = report["studied_model"]["num_seen"]
    assert 0 < learned < 60
    assert report["num_examples"]["test"] == 90 - learned, finished.everything
    assert len(report["rows"]) == report["num_examples"]["test"]


def test_refusals(bench: Path, trained: tuple[Study, Path, TunedModel], tmp_path: Path) -> None:
    first, home, model = trained
    run = Runner(bench, home)
    out = ("--out", tmp_path / "refused")
    require_refused(
        run("study", "labels.csv", "--model", model.id, "--epochs", "2", "--rank", "4", *out),
        "nothing is trained, so --epochs, --rank and --lora-variant would change nothing",
    )
    require_refused(run("study", "labels.csv", "--model", "ft:model:fettle::nothing1", *out), "does not exist")
    learned = tmp_path / "learned.csv"
    tested = {row["input_text"] for row in load(first.folder)["rows"]}
    rows = (bench / "labels.csv").read_text().splitlines()
    learned.write_text("\n".join(row for row in rows if row.rpartition(",")[0] not in tested) + "\n")
    require_refused(
        run("study", learned, "--model", model.id, *out), "0 of 45 examples are left that the model was not trained on"
    )
    assert not (tmp_path / "refused").exists()


def test_a_model_of_which_all_weights_were_trained(fettle: Runner, tmp_path: Path) -> None:
    fettle(*_TRAINING, "--method", "full", "--out", tmp_path / "first")
    store = Store(fettle.home)
    with store.reading() as connection:
        [model] = list_tuned_models(connection)
    store.close()
    finished = fettle("study", "labels.csv", "--model", model.id, "--out", tmp_path / "again")
    report = load(tmp_path / "again")
    assert report["studied_model"]["is_adapter"] is False, finished.everything
    [tuned] = [contender for contender in report["contenders"] if contender["name"] == "tuned"]
    assert tuned["title"] == "Fine-tuned (all weights)"
