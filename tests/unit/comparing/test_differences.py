from __future__ import annotations

from dataclasses import replace

from build_report import label_report
from fettle.comparing.differences import study_differences
from fettle.report_records import StudyReport
from report_forgetting import forgetting


def differing(first: StudyReport, second: StudyReport) -> dict[tuple[str, str], tuple[object, object]]:
    return {(one.group, one.name): (one.first, one.second) for one in study_differences(first, second)}


def test_one_report_does_not_differ_from_itself() -> None:
    assert study_differences(label_report(num_rows=50), label_report(num_rows=50)) == ()


def test_settings_data_model_and_versions_that_differ_are_named_and_no_others() -> None:
    first = label_report(num_rows=50)
    origin = replace(
        first.provenance,
        settings={**first.provenance.settings, "training": {"epochs": 3, "lora": {"rank": 8}}, "worthwhile": 0.02},
        data_sha256={"tickets.csv": "0" * 64},
        model_sha256="f" * 64,
        fettle_version="0.2.0",
        versions={**first.provenance.versions, "torch": "2.14.0"},
        instruction="Another one.",
    )
    found = differing(first, replace(first, provenance=origin))
    assert found == {
        ("Settings", "worthwhile"): (0.01, 0.02),
        ("Settings", "training.epochs"): (None, 3),
        ("Settings", "training.lora.rank"): (None, 8),
        ("Model", "weights, SHA-256"): (first.provenance.model_sha256, "f" * 64),
        ("Data", "tickets.csv, SHA-256"): (first.provenance.data_sha256["tickets.csv"], "0" * 64),
        ("Data", "instruction"): (first.provenance.instruction, "Another one."),
        ("Run", "fettle"): ("0.1.0", "0.2.0"),
        ("Run", "torch"): ("2.13.0", "2.14.0"),
    }


def test_training_and_what_was_forgotten_are_compared_and_missing_parts_are_empty() -> None:
    first = label_report(num_rows=50)
    assert first.training is not None
    trained = replace(first.training, best_step=first.training.best_step - 20, seconds=1.0, base_model="another")
    second = replace(first, training=trained, forgetting=forgetting(lost=0.03))
    found = differing(first, second)
    assert found[("Training", "best step")] == (first.training.best_step, trained.best_step)
    assert found[("Training", "seconds")] == (first.training.seconds, 1.0)
    assert found[("Model", "base model")] == (first.training.base_model, "another")
    before, after = found[("Training", "validation loss at the best step")]
    assert isinstance(before, float)
    assert isinstance(after, float)
    assert found[("Forgetting", "All of the general suite, change in points")] == (None, -3.0)
    assert found[("Forgetting", "KL from the base model, nats a token")] == (None, 0.87)
    assert differing(second, replace(first, training=None))[("Training", "steps")] == (trained.num_steps, None)


def test_a_contender_of_one_study_alone_is_named() -> None:
    first = label_report(num_rows=50)
    second = replace(first, contenders=first.contenders[:-1])
    [(key, (before, after))] = differing(first, second).items()
    assert key == ("Contenders", first.contenders[-1].name)
    assert first.contenders[-1].title in str(before)
    assert after is None
