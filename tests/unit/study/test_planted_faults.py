"""Each fault that would spoil a comparison without a word is planted in a real study, and the study names it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from planted_studies import Bench, after, home_at, make_bench, questions, write_rows
from safetensors.torch import load_file, save_file
from small_studies import telling

import fettle.study.ladder as ladder
import fettle.study.prepare as prepare
import fettle.study.run as run
import fettle.study.trained as trained
import fettle.study.tuned as tuned
import fettle.study.tuned_arms as tuned_arms
from adapters import write_adapter
from chat_templates import CHATML
from fettle.answering.engines.local import LocalEngine
from fettle.contenders.language_model import LanguageModel
from fettle.contenders.prompt import OwnPrompt
from fettle.contenders.retrieval import RememberedSearch, RetrievedPassages
from fettle.errors import FettleError, ModelError
from fettle.models.adapter import put_on
from fettle.models.strength import tuned_sha256
from fettle.records import Example, Message, TokenisedExample
from fettle.retrieval.question import question_of_example
from fettle.study.arms import (
    ArmFault,
    require_all_answered,
    require_fair_rows,
    require_fairly_asked,
    require_nothing_leaked,
    require_stops_taught,
)
from fettle.study.planning import StudyPlan
from fettle.study.run import StudyResult, run_study
from fettle.training.result import TrainingResult
from fettle.training.settings import Method, TrainingSettings
from found_passages import ListedRetriever, passage
from tiny_models import load_tiny_model, save_tiny_model


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with home_at(tmp_path_factory.mktemp("home")) as folder:
        yield folder


@pytest.fixture(scope="module")
def finished(home: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Bench, StudyResult]:
    return make_bench(tmp_path_factory.mktemp("bench"))


@pytest.fixture(scope="module")
def bench(finished: tuple[Bench, StudyResult]) -> Bench:
    return finished[0]


@pytest.fixture(scope="module")
def plan(bench: Bench) -> StudyPlan:
    return bench.plan()


def named(fault: ArmFault, text: str = "") -> pytest.RaisesExc:
    return pytest.raises(FettleError, match=f"{fault}: .*{text}")


def told(example: Example, text: str) -> Example:
    """The example with other words."""
    *before, _, answer = example.messages
    return replace(example, id=f"{example.id}-again", messages=(*before, Message(role="user", content=text), answer))


# Nothing is wrong.


def test_a_healthy_study_is_told_of_no_fault(
    finished: tuple[Bench, StudyResult], tmp_path: Path, plan: StudyPlan
) -> None:
    bench, result = finished
    again = bench.resumed(tmp_path / "study").report
    assert [one.metrics for one in again.contenders] == [one.metrics for one in result.report.contenders]
    told = " ".join([*again.warnings, again.verdict.headline, *again.verdict.reasons])
    assert not any(fault in told for fault in ArmFault)
    assert "cut at the token limit" not in told
    assert "Empty answers" not in told
    require_fair_rows(plan.tokens.train, plan.loaded, plan.split, plan.prompt)
    require_nothing_leaked(plan.split)


def test_prompts_with_more_passages_than_fit_are_checked_as_they_are_asked(plan: StudyPlan) -> None:
    """The checks before the tuned arm answers would else ask the model for more than it takes, and end the study."""
    example = plan.split.valid[0]
    many = [passage(f"{number}.md", f"Paragraph {number}. " * 30) for number in range(20)]
    search = RememberedSearch(ListedRetriever({question_of_example(example): many}))
    style = RetrievedPassages(search, num_passages=len(many))
    shown = replace(plan, style=style)
    prompt, renderer = shown.prompt(example), plan.loaded.renderer
    room = plan.loaded.max_tokens - plan.options.max_new_tokens
    assert len(renderer.prompt_tokens(style.messages(example))) > room
    assert len(renderer.prompt_tokens(prompt.messages)) <= room
    assert "[1]" in prompt.messages[-1].content
    model = LanguageModel(
        name="a", title="A", engine=LocalEngine(plan.loaded), style=style, task=plan.data.task, options=plan.options
    )
    assert prompt == model.prompt(example)


def test_a_test_prompt_that_was_shortened_among_the_rows_of_tokens(plan: StudyPlan) -> None:
    example = plan.split.test[0]
    many = [passage(f"{number}.md", f"Paragraph {number}. " * 30) for number in range(20)]
    style = RetrievedPassages(
        RememberedSearch(ListedRetriever({question_of_example(one): many for one in plan.split.test})), len(many)
    )
    shown = replace(plan, style=style)
    asked = shown.prompt(example).messages
    assert asked != style.messages(example)
    row = plan.loaded.renderer.example_rows(replace(example, id="other", messages=(*asked, example.messages[-1])))[-1]
    with named(ArmFault.TEST_IN_TRAINING, "a row that is trained on"):
        require_fair_rows([row], plan.loaded, plan.split, shown.prompt)


# The tuned arm.


def test_an_adapter_of_zeros(bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def zeroed(result: TrainingResult) -> TrainingResult:
        file = result.tuned / "adapter_model.safetensors"
        save_file({name: tensor * ("lora_B" not in name) for name, tensor in load_file(file).items()}, file)
        return replace(result, sha256=tuned_sha256(result.tuned))

    monkeypatch.setattr(trained, "train", after(trained.train, zeroed))
    with named(ArmFault.NOT_LOADED, "is inactive"):
        bench.resumed(tmp_path / "study")


def test_an_adapter_of_another_run(bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = load_tiny_model(bench.folder / "model")
    other = write_adapter(loaded, tmp_path / "other", seed=5, rank=16)
    monkeypatch.setattr(
        tuned_arms, "tuned_model", after(tuned_arms.tuned_model, lambda model: replace(model, folder=other))
    )
    with named(ArmFault.OTHER_THAN_TRAINED, "not those that the training left"):
        bench.resumed(tmp_path / "study")


def test_an_adapter_that_is_scaled_otherwise(bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def rescaled(result: TrainingResult) -> TrainingResult:
        file = result.tuned / "adapter_config.json"
        file.write_text(json.dumps(json.loads(file.read_text()) | {"lora_alpha": 256}))
        return result

    monkeypatch.setattr(trained, "train", after(trained.train, rescaled))
    with named(ArmFault.OTHER_THAN_TRAINED):
        bench.resumed(tmp_path / "study")


def test_an_adapter_that_is_switched_off(bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def within(contender, *args, **named):
        with contender.engine._peft.disable_adapter():
            return answered(contender, *args, **named)

    answered = run.measure_latency
    monkeypatch.setattr(run, "measure_latency", within)
    with named(ArmFault.NOT_LOADED, "not in place"):
        bench.resumed(tmp_path / "study")


def test_another_adapter_that_is_active_in_its_place(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = load_tiny_model(bench.folder / "model")
    other = write_adapter(loaded, tmp_path / "other", seed=5)

    def second(engine: LocalEngine) -> LocalEngine:
        put_on(engine._loaded, other, name="other", beside=engine._peft)
        engine._peft.set_adapter("other")
        return engine

    monkeypatch.setattr(tuned_arms, "tuned_engine", after(tuned_arms.tuned_engine, second))
    with named(ArmFault.NOT_LOADED, "not in place"):
        bench.resumed(tmp_path / "study")


# The base arm.


def test_an_adapter_that_stays_on_the_base_model(bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LocalEngine, "close", lambda _: None)
    with named(ArmFault.BASE_WITH_ADAPTER, "an adapter is on"):
        bench.resumed(tmp_path / "study")


def test_an_adapter_that_is_merged_into_the_base_model(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def merged(engine: LocalEngine) -> None:
        if engine._peft is not None:
            engine._peft.merge_and_unload()
            engine._peft = None

    monkeypatch.setattr(LocalEngine, "close", merged)
    with named(ArmFault.BASE_WITH_ADAPTER, "merged into its weights"):
        bench.resumed(tmp_path / "study")


def test_an_adapter_that_is_there_from_the_start(bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    adapter = write_adapter(load_tiny_model(bench.folder / "model"), tmp_path / "other", seed=5)

    def with_one(plan: StudyPlan) -> StudyPlan:
        put_on(plan.loaded, adapter, name="left")
        return plan

    monkeypatch.setattr(run, "plan_study", after(run.plan_study, with_one))
    with named(ArmFault.BASE_WITH_ADAPTER, "an adapter is on"):
        bench.resumed(tmp_path / "study")


# What is learned.

EDITS = {
    "as it is": lambda text: text,
    "case": str.upper,
    "spaces": lambda text: f"  {text.replace(' ', '   ')}\n",
    "punctuation": lambda text: text.replace(" ", ", ") + "?!",
    "a word more": lambda text: f"{text} now",
    "courtesies": lambda text: f"Hi team, {text}. Thanks in advance",
}


@pytest.mark.parametrize("edit", EDITS)
@pytest.mark.parametrize("part", ["train", "valid"])
def test_a_test_row_that_a_split_has_left_in_another_part(
    bench: Bench, plan: StudyPlan, edit: str, part: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    test = plan.split.test[0]
    leaked = told(test, EDITS[edit](test.user_text))
    torn = replace(plan.split, **{part: (*getattr(plan.split, part), leaked)})
    monkeypatch.setattr(prepare, "split_examples", lambda *_args, **_more: torn)
    with named(ArmFault.TEST_IN_TRAINING if part == "train" else ArmFault.TEST_IN_VALIDATION, str(test.source)):
        prepare.prepare(bench.settings)


def test_a_group_that_is_learned_and_tested(plan: StudyPlan) -> None:
    train, test = (replace(part[0], group="g") for part in (plan.split.train, plan.split.test))
    with named(ArmFault.TEST_IN_TRAINING, "of the group 'g'"):
        require_nothing_leaked(replace(plan.split, train=(train,), test=(test,)))


def test_what_a_studied_model_has_learned_before(plan: StudyPlan) -> None:
    test = plan.split.test[0]
    with named(ArmFault.TEST_IN_TRAINING, "trained on before"):
        require_nothing_leaked(plan.split, [told(test, test.user_text.upper())])
    with named(ArmFault.TEST_IN_TRAINING, "trained on before"):
        require_nothing_leaked(plan.split, seen=[test.id])


@pytest.mark.parametrize("edit", EDITS)
def test_a_test_row_in_the_users_training_file_is_told_and_not_learned(bench: Bench, tmp_path: Path, edit: str) -> None:
    rows, tested = questions(30), questions(40)[30:]
    leaked = (EDITS[edit](tested[3][0]), tested[3][1])
    given = replace(
        bench.settings,
        examples=write_rows(tmp_path / "train.jsonl", [*rows, leaked]),
        test=write_rows(tmp_path / "test.jsonl", tested),
    )
    data = prepare.prepare(given)
    [finding] = [one for one in data.findings if one.code in ("leak-exact", "leak-near")]
    assert (Path(finding.file).name, finding.line) == ("train.jsonl", 31)
    assert len(data.split.test) == 10
    assert len(data.split.train) + len(data.split.valid) == 30


def test_a_test_row_that_a_training_mail_quotes_is_told_and_not_learned(bench: Bench, tmp_path: Path) -> None:
    rows, tested = questions(30), questions(40)[30:]
    quoting = f"{rows[0][0]}, and this is what I wrote to you before:\n> {tested[3][0]}\n{rows[1][0]}"
    given = replace(
        bench.settings,
        examples=write_rows(tmp_path / "train.jsonl", [*rows[2:], (quoting, "billing")]),
        test=write_rows(tmp_path / "test.jsonl", tested),
    )
    data = prepare.prepare(given)
    [finding] = [one for one in data.findings if one.code == "leak-quote"]
    assert finding.line == 29
    assert len(data.split.train) + len(data.split.valid) == 28


def test_a_test_row_among_the_rows_of_tokens(plan: StudyPlan) -> None:
    row = plan.loaded.renderer.example_rows(plan.split.test[0])[0]
    for one in (row, replace(row, example_id="replay-001")):
        with named(ArmFault.TEST_IN_TRAINING, "a row that is trained on"):
            require_fair_rows([*plan.tokens.train, one], plan.loaded, plan.split, plan.prompt)


def test_a_general_row_that_is_nearly_a_test_row(plan: StudyPlan) -> None:
    renderer = plan.loaded.renderer

    def general(text: str) -> TokenisedExample:
        messages = (Message(role="user", content=text), Message(role="assistant", content="So it is."))
        return renderer.example_rows(replace(plan.split.train[0], id="replay-001", messages=messages))[0]

    require_fair_rows([general("Name three rivers of Europe.")], plan.loaded, plan.split, plan.prompt)
    with named(ArmFault.TEST_IN_TRAINING, "a general row"):
        require_fair_rows([general(f"{plan.split.test[0].user_text} now")], plan.loaded, plan.split, plan.prompt)


# What is shown.


def test_a_near_duplicate_among_fixed_shots(bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    test = bench.plan().split.test[0]
    leaked = told(test, f"{test.user_text} now")
    monkeypatch.setattr(ladder, "shot_sets", lambda *_args, **_more: ((leaked,), (leaked,)))
    with named(ArmFault.SHOWN_IN_PROMPT, "few_shot is shown"):
        bench.resumed(tmp_path / "study")


def test_a_near_duplicate_among_the_nearest_shots(
    bench: Bench, plan: StudyPlan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    leaked = tuple(told(test, f"{test.user_text} now") for test in plan.split.test)
    monkeypatch.setattr(ladder, "short_enough", lambda train: (*train, *leaked))
    with named(ArmFault.SHOWN_IN_PROMPT, "few_shot_nearest is shown"):
        bench.resumed(tmp_path / "study")


def test_another_question_than_the_examples(plan: StudyPlan, bench: Bench) -> None:
    class Trimming(OwnPrompt):
        def messages(self, example: Example) -> tuple[Message, ...]:
            *before, last = example.prompt
            return (*before, replace(last, content=last.content[:10]))

    arm = tuned.LanguageModel(
        name="prompt",
        title="Prompt",
        engine=LocalEngine(plan.loaded),
        style=OwnPrompt(),
        task=plan.data.task,
        options=plan.options,
    )
    require_fairly_asked(arm, plan.split.test)
    with named(ArmFault.ASKED_OTHERWISE):
        require_fairly_asked(replace(arm, style=Trimming()), plan.split.test)


# Template and stop tokens.


def test_a_tuned_model_that_is_asked_otherwise_than_it_was_trained(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hinted, kind = OwnPrompt("Answer with a label."), tuned.LanguageModel
    monkeypatch.setattr(tuned, "LanguageModel", lambda **parts: kind(**parts | {"style": hinted}))
    with named(ArmFault.OTHER_TEMPLATE, "other tokens"):
        bench.resumed(tmp_path / "study")


@pytest.mark.parametrize("changed", ["chat_template.jinja", "generation_config.json"])
def test_a_tuned_model_whose_files_say_otherwise(
    bench: Bench, tmp_path: Path, changed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def edited(result: TrainingResult) -> TrainingResult:
        if changed == "chat_template.jinja":
            (result.tuned / changed).write_text("{{ '' }}" + CHATML)
        else:
            (result.tuned / changed).write_text(json.dumps({"eos_token_id": [0, 7]}))
        return result

    monkeypatch.setattr(trained, "train", after(trained.train, edited))
    training = TrainingSettings(epochs=1, batch_size=4, method=Method.FULL)
    with named(ArmFault.OTHER_TEMPLATE):
        run_study(replace(bench.settings, out=tmp_path / "study", training=training))


def test_a_template_that_does_not_end_an_answer(tmp_path: Path) -> None:
    template = CHATML.replace("<|im_end|>", "")
    with pytest.raises(ModelError, match=f"{ArmFault.NO_STOP}: it ends an assistant turn with"):
        load_tiny_model(save_tiny_model(tmp_path / "model", "qwen2", template=template))


def test_rows_that_do_not_teach_to_stop(plan: StudyPlan) -> None:
    stops = plan.loaded.stop_token_ids
    row = plan.tokens.train[0]
    cut = replace(row, token_ids=row.token_ids[:-1], is_trained=row.is_trained[:-1])
    silent = replace(row, is_trained=(*row.is_trained[:-1], False))
    for one in (cut, silent):
        with named(ArmFault.NO_STOP, "ends no answer"):
            require_stops_taught([*plan.tokens.train, one], stops)
    with named(ArmFault.STOP_WITHIN):
        require_stops_taught([row], {*stops, row.token_ids[-2]})


# Every example is answered, or counted.


def test_an_answer_that_is_missing_or_another_ones(plan: StudyPlan) -> None:
    test = plan.split.test
    parrot = telling(test, ["billing"] * len(test))
    answers = parrot.answer(test)
    require_all_answered(parrot, test, answers)
    for wrong in (answers[1:], (answers[1], answers[0], *answers[2:]), (*answers, answers[0])):
        with named(ArmFault.UNANSWERED, "parrot"):
            require_all_answered(parrot, test, wrong)


def test_faults_are_named_alike_in_code_and_documents() -> None:
    design = Path(__file__).parents[3] / "docs" / "design" / "017-arms.md"
    assert not [fault for fault in ArmFault if f"**{fault}**" not in design.read_text("utf-8")]
