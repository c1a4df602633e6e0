"""Section 5.1 of the contract: what can be asked for, and what is refused with which words."""

from __future__ import annotations

import re
from typing import Any

import openai
import pytest
from openai.types import FileObject
from training_files import upload

TINY = "tiny-chat"


@pytest.fixture
def file(idle_client: openai.OpenAI) -> FileObject:
    return upload(idle_client)


def test_a_new_job_shows_what_was_asked_for(idle_client: openai.OpenAI, file: FileObject) -> None:
    job = idle_client.fine_tuning.jobs.create(
        model=TINY,
        training_file=file.id,
        validation_file=file.id,
        suffix="Größe 1",
        seed=7,
        metadata={"team": "support"},
        method={"type": "supervised", "supervised": {"hyperparameters": {"n_epochs": 2, "batch_size": "auto"}}},
    )
    assert re.fullmatch(r"ftjob-[A-Za-z0-9]{20,24}", job.id)
    assert (job.object, job.model, job.status) == ("fine_tuning.job", TINY, "validating_files")
    assert (job.training_file, job.validation_file) == (file.id, file.id)
    assert job.user_provided_suffix == "Größe 1"  # pyright: ignore[reportAttributeAccessIssue] (the SDK has no field for it)
    assert job.seed == 7
    assert job.metadata == {"team": "support"}
    assert job.error is None
    assert (job.fine_tuned_model, job.finished_at, job.trained_tokens, job.estimated_finish) == (None, None, None, None)
    assert job.result_files == []
    assert job.organization_id
    wanted = {"n_epochs": 2, "batch_size": "auto", "learning_rate_multiplier": "auto"}
    assert job.hyperparameters.to_dict() == wanted
    assert job.method is not None
    assert job.method.to_dict() == {"type": "supervised", "supervised": {"hyperparameters": wanted}}


def test_what_is_left_out_is_auto(idle_client: openai.OpenAI, file: FileObject) -> None:
    job = idle_client.fine_tuning.jobs.create(model=TINY, training_file=file.id)
    auto = {"n_epochs": "auto", "batch_size": "auto", "learning_rate_multiplier": "auto"}
    assert job.hyperparameters.to_dict() == auto
    assert job.method is not None
    assert job.method.type == "supervised"
    assert (job.validation_file, job.metadata) == (None, None)
    assert 0 <= job.seed < 2**31


def test_seeds_that_are_not_given_differ(idle_client: openai.OpenAI, file: FileObject) -> None:
    seeds = {idle_client.fine_tuning.jobs.create(model=TINY, training_file=file.id).seed for _ in range(4)}
    assert len(seeds) > 1


def test_null_is_as_good_as_nothing(idle_client: openai.OpenAI, file: FileObject) -> None:
    names = ("validation_file", "suffix", "seed", "metadata", "method", "integrations", "hyperparameters")
    body = {"model": TINY, "training_file": file.id} | dict.fromkeys(names)
    answer = idle_client.post("/fine_tuning/jobs", body=body, cast_to=dict[str, Any])
    assert answer["status"] == "validating_files"


def test_the_older_spelling_of_hyperparameters_works(idle_client: openai.OpenAI, file: FileObject) -> None:
    job = idle_client.fine_tuning.jobs.create(
        model=TINY, training_file=file.id, hyperparameters={"n_epochs": 3, "learning_rate_multiplier": 2}
    )
    wanted = {"n_epochs": 3, "batch_size": "auto", "learning_rate_multiplier": 2}
    assert job.hyperparameters.to_dict() == wanted
    assert job.method is not None
    assert job.method.supervised is not None
    assert job.method.supervised.to_dict() == {"hyperparameters": wanted}


def test_both_spellings_of_hyperparameters_hold_together(idle_client: openai.OpenAI, file: FileObject) -> None:
    inner = {"batch_size": 4, "n_epochs": 3, "learning_rate_multiplier": "auto"}
    job = idle_client.fine_tuning.jobs.create(
        model=TINY,
        training_file=file.id,
        hyperparameters={"n_epochs": 3, "learning_rate_multiplier": 2, "batch_size": "auto"},
        extra_body=hyperparameters(**inner),
    )
    assert job.hyperparameters.to_dict() == {"n_epochs": 3, "batch_size": 4, "learning_rate_multiplier": 2}


def test_spellings_that_contradict_each_other_are_both_named(idle_client: openai.OpenAI, file: FileObject) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        idle_client.fine_tuning.jobs.create(
            model=TINY,
            training_file=file.id,
            hyperparameters={"batch_size": 3},
            extra_body=hyperparameters(batch_size=2),
        )
    assert "`hyperparameters.batch_size` is 3, and `method.supervised.hyperparameters.batch_size` is 2" in str(
        caught.value
    )


def test_a_rate_that_cannot_train_is_refused_with_the_bound(idle_client: openai.OpenAI, file: FileObject) -> None:
    for multiplier, bound in ((1e300, "less than or equal to 500"), (1e-30, "greater than or equal to 0.0001")):
        rate = hyperparameters(learning_rate_multiplier=multiplier)
        body = {"model": TINY, "training_file": file.id} | rate
        for path in ("/fine_tuning/jobs", "/fine_tuning/estimates"):
            with pytest.raises(openai.BadRequestError, match=bound):
                idle_client.post(path, body=body, cast_to=dict[str, Any])


@pytest.mark.parametrize(
    "values", [{"seed": 0}, {"seed": 2**31 - 1}, {"suffix": "x" * 64}, {"metadata": {}}, {"integrations": []}]
)
def test_values_at_their_bounds_are_taken(idle_client: openai.OpenAI, file: FileObject, values: dict[str, Any]) -> None:
    job = idle_client.fine_tuning.jobs.create(model=TINY, training_file=file.id, extra_body=values)
    assert {name: job.to_dict().get(name) for name in values if name != "suffix"} == {
        name: value for name, value in values.items() if name != "suffix"
    }


def test_metadata_at_its_bounds_is_taken(idle_client: openai.OpenAI, file: FileObject) -> None:
    metadata = {f"{number:064}": "ä" * 512 for number in range(16)}
    job = idle_client.fine_tuning.jobs.create(model=TINY, training_file=file.id, metadata=metadata)
    assert job.metadata == metadata


def hyperparameters(method: str = "supervised", **values: Any) -> dict[str, Any]:
    return {"method": {"type": method, method: {"hyperparameters": values}}}


OUTER_RATE = "hyperparameters.learning_rate_multiplier"
INNER = "method.supervised.hyperparameters"
REFUSALS: list[tuple[dict[str, Any], str, str]] = [
    ({"model": None}, "model", "invalid_type"),
    ({"training_file": None}, "training_file", "invalid_type"),
    ({"model": 5}, "model", "invalid_type"),
    ({"model": ""}, "model", "string_below_min_length"),
    ({"training_file": "file-nothing"}, "training_file", "invalid_value"),
    ({"validation_file": "file-nothing"}, "validation_file", "invalid_value"),
    ({"colour": "red"}, "colour", "unknown_parameter"),
    ({"suffix": ""}, "suffix", "string_below_min_length"),
    ({"suffix": "x" * 65}, "suffix", "string_above_max_length"),
    ({"seed": -1}, "seed", "integer_below_min_value"),
    ({"seed": 2**31}, "seed", "integer_above_max_value"),
    ({"seed": 1.5}, "seed", "invalid_type"),
    ({"seed": "7"}, "seed", "invalid_type"),
    ({"seed": True}, "seed", "invalid_type"),
    ({"metadata": []}, "metadata", "invalid_type"),
    ({"metadata": {"a": 1}}, "metadata.a", "invalid_type"),
    ({"metadata": {"x" * 65: "a"}}, f"metadata.{'x' * 65}", "string_above_max_length"),
    ({"metadata": {"a": "x" * 513}}, "metadata.a", "string_above_max_length"),
    ({"metadata": {f"{number}": "x" for number in range(17)}}, "metadata", "invalid_value"),
    (hyperparameters(n_epochs=0), f"{INNER}.n_epochs", "integer_below_min_value"),
    (hyperparameters(n_epochs=51), f"{INNER}.n_epochs", "integer_above_max_value"),
    (hyperparameters(n_epochs=1.5), f"{INNER}.n_epochs", "invalid_type"),
    (hyperparameters(n_epochs="3"), f"{INNER}.n_epochs", "invalid_type"),
    (hyperparameters(n_epochs=True), f"{INNER}.n_epochs", "invalid_type"),
    (hyperparameters(batch_size=0), f"{INNER}.batch_size", "integer_below_min_value"),
    (hyperparameters(batch_size=257), f"{INNER}.batch_size", "integer_above_max_value"),
    (hyperparameters(learning_rate_multiplier=0), f"{INNER}.learning_rate_multiplier", "decimal_below_min_value"),
    (hyperparameters(learning_rate_multiplier=501), f"{INNER}.learning_rate_multiplier", "decimal_above_max_value"),
    ({"hyperparameters": {"learning_rate_multiplier": 1e300}}, OUTER_RATE, "decimal_above_max_value"),
    ({"hyperparameters": {"n_epochs": 3}} | hyperparameters(n_epochs=2), "hyperparameters.n_epochs", "invalid_value"),
    ({"hyperparameters": {"n_epochs": 3}} | hyperparameters("dpo", n_epochs=3), "hyperparameters", "invalid_value"),
    (hyperparameters(learning_rate_multiplier="fast"), f"{INNER}.learning_rate_multiplier", "invalid_type"),
    (hyperparameters(beta=0.1), f"{INNER}.beta", "unknown_parameter"),
    ({"hyperparameters": {"n_epochs": 0}}, "hyperparameters.n_epochs", "integer_below_min_value"),
    ({"method": {}}, "method.type", "missing_required_parameter"),
    ({"method": {"type": "magic"}}, "method.type", "invalid_value"),
    ({"method": "supervised"}, "method", "invalid_type"),
    ({"method": {"type": "supervised", "dpo": {}}}, "method.dpo", "invalid_value"),
    (hyperparameters("dpo", beta=0), "method.dpo.hyperparameters.beta", "decimal_below_min_value"),
    (hyperparameters("dpo", beta=2.1), "method.dpo.hyperparameters.beta", "decimal_above_max_value"),
    ({"method": {"type": "reinforcement"}}, "method.reinforcement", "missing_required_parameter"),
    ({"method": {"type": "reinforcement", "reinforcement": {}}}, "method.reinforcement.grader", "missing_required_parameter"),
    ({"integrations": [{"type": "wandb", "wandb": {"project": "p"}}]}, "integrations", "invalid_value"),
    ({"integrations": [{"type": "magic"}]}, "integrations[0].type", "invalid_value"),
]  # fmt: skip


@pytest.mark.parametrize(("values", "param", "code"), REFUSALS, ids=[str(values)[:60] for values, _, _ in REFUSALS])
def test_what_cannot_be_is_400_with_its_field_and_code(
    idle_client: openai.OpenAI, file: FileObject, values: dict[str, Any], param: str, code: str
) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        idle_client.fine_tuning.jobs.create(model=TINY, training_file=file.id, extra_body=values)
    assert (caught.value.param, caught.value.code) == (param, code)
    assert "file-nothing" in caught.value.message or param.split(".")[-1].split("[")[0] in caught.value.message
    assert list(idle_client.fine_tuning.jobs.list()) == []


@pytest.mark.parametrize("name", ["model", "training_file"])
def test_a_field_that_is_missing_is_named(idle_client: openai.OpenAI, file: FileObject, name: str) -> None:
    body = {"model": TINY, "training_file": file.id}
    del body[name]
    with pytest.raises(openai.BadRequestError) as caught:
        idle_client.post("/fine_tuning/jobs", body=body, cast_to=dict[str, Any])
    assert (caught.value.param, caught.value.code) == (name, "missing_required_parameter")


def test_an_unknown_model_is_named_beside_some_that_there_are(idle_client: openai.OpenAI, file: FileObject) -> None:
    with pytest.raises(openai.NotFoundError) as caught:
        idle_client.fine_tuning.jobs.create(model="gpt-unknown", training_file=file.id)
    assert caught.value.code == "model_not_found"
    assert "The model `gpt-unknown` does not exist or you do not have access to it." in caught.value.message
    assert TINY in caught.value.message


@pytest.mark.parametrize("param", ["training_file", "validation_file"])
def test_a_file_of_another_purpose_is_refused(idle_client: openai.OpenAI, file: FileObject, param: str) -> None:
    other = idle_client.files.create(file=("a.txt", b"text"), purpose="user_data")
    files = {"training_file": file.id} | {param: other.id}
    with pytest.raises(openai.BadRequestError) as caught:
        idle_client.fine_tuning.jobs.create(model=TINY, **files)
    assert caught.value.param == param
    assert other.id in caught.value.message


@pytest.mark.parametrize("param", ["training_file", "validation_file"])
def test_a_file_that_was_deleted_is_refused(idle_client: openai.OpenAI, file: FileObject, param: str) -> None:
    gone = upload(idle_client)
    idle_client.files.delete(gone.id)
    with pytest.raises(openai.BadRequestError) as caught:
        idle_client.fine_tuning.jobs.create(model=TINY, **({"training_file": file.id} | {param: gone.id}))
    assert caught.value.param == param
    assert f"No such File object: {gone.id}" in caught.value.message


GRADER = {
    "type": "string_check",
    "name": "same",
    "input": "{{sample.output_text}}",
    "reference": "x",
    "operation": "eq",
}
LATER_METHODS = (
    {"type": "dpo", "dpo": {"hyperparameters": {"beta": "auto"}}},
    {"type": "dpo"},
    {"type": "reinforcement", "reinforcement": {"grader": GRADER}},
    {"type": "reinforcement", "reinforcement": {"grader": GRADER, "hyperparameters": {"reasoning_effort": "auto"}}},
)


@pytest.mark.parametrize("method", LATER_METHODS)
def test_methods_that_are_to_come_are_refused_by_name(
    idle_client: openai.OpenAI, file: FileObject, method: dict[str, Any]
) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        idle_client.fine_tuning.jobs.create(model=TINY, training_file=file.id, extra_body={"method": method})
    assert caught.value.param == "method.type"
    assert method["type"] in caught.value.message
