"""The graders of a study: which there are, what they are called, and what is told of those that fail."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from small_studies import example, split, telling

from fettle.answering.engine import GenerationOptions
from fettle.errors import ConfigError, DataError
from fettle.progress import SilentListener
from fettle.records import Task, TaskKind
from fettle.scoring.graders.openai_json import OpenAIJson
from fettle.scoring.openai_grader import GradingServices, Question, Reply
from fettle.study import results
from fettle.study.grading import grader_hashes, study_graders, wanted_before, wanted_of, warnings_of_grading
from fettle.study.ladder import Ladder, Rung
from grading import NoRunner, string_check

TEXT = Task(kind=TaskKind.TEXT, reason="said so")
ROWS = [example(number, f"Dear Ann, we looked at number {number} for you.") for number in range(12)]
ASKING = {"type": "score_model", "model": "judge", "input": [{"role": "user", "content": "{{sample.output_text}}"}]}


class Judge:
    """A grading model that gives one, and fails on what it is told to."""

    def __init__(self, *, failing: str = "nothing") -> None:
        self.num_asked = 0
        self.failing = failing

    def knows(self, model: str) -> bool:
        return True

    def ask(self, questions: Sequence[Question]) -> Sequence[Reply]:
        self.num_asked += len(questions)
        return [
            Reply(text="", error="HTTP 500: overloaded")
            if self.failing in question.messages[0].content
            else Reply(text='{"steps": [], "result": 1}')
            for question in questions
        ]


def written(folder: Path, name: str, value: Any) -> Path:
    file = folder / name
    file.write_text(json.dumps(value))
    return file


def asking(folder: Path, judge: Judge) -> OpenAIJson:
    file = written(folder, "asks.json", ASKING | {"name": "helpful"})
    (grader, *_) = study_graders([file], TEXT, ROWS, url="http://here/v1")
    assert isinstance(grader, OpenAIJson)
    return grader.using(GradingServices(code_runner=NoRunner(), sampler=judge))


class TestWhichThereAre:
    def test_the_named_ones_come_first_and_those_of_the_task_stay(self, tmp_path: Path) -> None:
        file = written(tmp_path, "strict.json", string_check() | {"name": "strict"})
        graders = study_graders([file, "rouge_l"], TEXT, ROWS)
        assert [grader.name for grader in graders] == ["strict", "rouge_l", "chrf"]
        assert [grader.name for grader in study_graders([], TEXT, ROWS)] == ["chrf", "rouge_l"]

    @pytest.mark.parametrize("name", ["house_style", "groundedness", "json_valid"])
    def test_measures_can_be_named(self, name: str) -> None:
        assert study_graders(["chrf", name], TEXT, ROWS)[1].name == name

    @pytest.mark.parametrize(
        ("file", "grader", "name"),
        [
            ("near.json", string_check() | {"name": " Is it\n near? "}, "Is it near?"),
            ("near.json", string_check() | {"name": " "}, "near"),
            ("near.json", {"type": "multi", "graders": {"a": string_check()}, "calculate_output": "a"}, "near"),
            ("chrf.json", string_check() | {"name": "chrf"}, "chrf (string_check)"),
            ("f1.json", string_check() | {"name": "macro_f1"}, "macro_f1 (string_check)"),
        ],
    )
    def test_each_has_a_name_of_its_own(self, tmp_path: Path, file: str, grader: Any, name: str) -> None:
        assert study_graders([written(tmp_path, file, grader)], TEXT, ROWS)[0].name == name

    def test_two_of_one_name_are_refused(self, tmp_path: Path) -> None:
        files = [written(tmp_path, name, string_check()) for name in ("a.json", "b.json")]
        with pytest.raises(ConfigError, match="two graders are called 'check'"):
            study_graders(files, TEXT, ROWS)
        with pytest.raises(ConfigError, match="two graders are called 'chrf'"):
            study_graders(["chrf", "chrf"], TEXT, ROWS)

    def test_only_files_are_hashed(self, tmp_path: Path) -> None:
        file = written(tmp_path, "a.json", string_check())
        assert len(grader_hashes(study_graders([file, "chrf"], TEXT, ROWS))) == 1
        assert grader_hashes(study_graders(["chrf"], TEXT, ROWS)) == []

    def test_what_only_some_kinds_say_is_right_or_wrong(self, tmp_path: Path) -> None:
        check = written(tmp_path, "a.json", string_check())
        near = {
            "type": "text_similarity",
            "name": "near",
            "input": "{{sample.output_text}}",
            "reference": "{{item.input}}",
        }
        file = written(tmp_path, "b.json", near | {"evaluation_metric": "fuzzy_match"})
        assert [grader.is_binary for grader in study_graders([check, file], TEXT, ROWS)[:2]] == [True, False]


class TestWantedAnswers:
    PARTS = split(train=ROWS, valid=ROWS[:4], test=ROWS[4:8])

    def test_those_that_a_grader_calls_wrong_are_findings_with_their_lines(self, tmp_path: Path) -> None:
        file = written(tmp_path, "odd.json", string_check(reference="number 2", operation="like") | {"name": "odd"})
        wanted = wanted_before(study_graders([file], TEXT, ROWS), 1, split(train=ROWS, valid=ROWS[:4], test=ROWS[1:4]))
        assert [finding.line for finding in wanted.findings] == [0, 1, 3, 1, 3]
        assert {finding.message for finding in wanted.findings} == {"the wanted answer gets 0.00 from odd"}
        (doubt,) = wanted.doubts
        assert doubt.startswith("The grader odd gives the wanted answers themselves only 28.6 % on average (of 7)")

    def test_one_that_calls_all_wrong_is_refused_where_it_decides_and_told_of_elsewhere(self, tmp_path: Path) -> None:
        never = written(tmp_path, "never.json", string_check(reference="never") | {"name": "never"})
        with pytest.raises(DataError, match="never gives each of the 4 wanted validation answers a score of 0"):
            wanted_before(study_graders([never], TEXT, ROWS), 1, self.PARTS)
        wanted = wanted_before(study_graders(["chrf", never], TEXT, ROWS), 2, self.PARTS)
        assert wanted.by_name["chrf"].mean == 1.0
        assert "never gives the wanted answers themselves only 0.0 %" in wanted.doubts[0]

    def test_one_that_asks_a_model_is_not_asked_yet(self, tmp_path: Path) -> None:
        judge = Judge()
        assert wanted_before([asking(tmp_path, judge)], 1, self.PARTS).by_name == {}
        assert judge.num_asked == 0

    def test_a_model_is_asked_about_sixteen_at_most(self, tmp_path: Path) -> None:
        judge = Judge()
        many = [example(number) for number in range(40)]
        assert len(wanted_of([asking(tmp_path, judge)], many).by_name["helpful"].values) == judge.num_asked == 16


def test_whom_a_grader_could_not_score_is_told_with_the_reasons(tmp_path: Path) -> None:
    grader = asking(tmp_path, Judge(failing="bad"))
    texts = ["fine", "bad", "fine", "bad one"]
    rung = Rung(contender=telling(ROWS[:4], texts), reading=None, validation_score=None)
    tested = results.TestedRung(rung=rung, answers=rung.contender.answer(ROWS[:4]), latencies=())
    told = warnings_of_grading([tested], ROWS[:4], [grader], wanted_of([], ROWS))
    assert told == (
        "Parrot: 2 of 4 answers could not be scored by helpful: the grading model did not answer: HTTP 500: overloaded (2). "
        "The same command tries again where a service failed.",
    )


class TestOnTheLadder:
    def ladder(self, folder: Path, judge: Judge) -> Ladder:
        return Ladder(
            split=split(train=ROWS, valid=ROWS[:4], test=ROWS[4:8]),
            task=TEXT,
            primary=asking(folder, judge),
            options=GenerationOptions(max_new_tokens=4),
            folder=folder,
            listener=SilentListener(),
        )

    def test_a_model_is_not_asked_which_answer_is_most_like_the_others(self, tmp_path: Path) -> None:
        judge = Judge()
        rung = self.ladder(tmp_path, judge).constant()
        assert rung.validation_score == 1.0
        assert judge.num_asked == 4, "about the constant answer to each validation example"

    def test_what_the_model_failed_at_counts_as_failed_so_that_the_declaration_may_be_mended(
        self, tmp_path: Path
    ) -> None:
        parrot = telling(ROWS[:4], ["fine", "bad", "fine", "bad"])
        rung = self.ladder(tmp_path, Judge(failing="bad")).best([parrot])
        assert (rung.validation_score, rung.num_failed) == (1.0, 2)
