from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from fettle.errors import DataError
from fettle.jobs.rows import JobRows, read_job_rows
from fettle.jobs.training_rows import FileRole


def chat(*contents: str, weights: Sequence[int | None] = (), **more: Any) -> dict[str, Any]:
    """A row of turns of the user and the assistant."""
    messages: list[dict[str, Any]] = []
    for number, content in enumerate(contents):
        message: dict[str, Any] = {"role": ("user", "assistant")[number % 2], "content": content}
        if number % 2 and weights and weights[number // 2] is not None:
            message["weight"] = weights[number // 2]
        messages.append(message)
    return {"messages": messages, **more}


@pytest.fixture
def read(tiny_model: Callable[[str], Any], tmp_path: Path) -> Callable[..., JobRows]:
    def read_lines(*lines: str | dict[str, Any], max_tokens: int = 1000, prefix: bytes = b"") -> JobRows:
        texts = [line if isinstance(line, str) else json.dumps(line, ensure_ascii=False) for line in lines]
        file = tmp_path / "rows.jsonl"
        file.write_bytes(prefix + "".join(texts).encode())
        return read_job_rows(file, tiny_model("llama").renderer, FileRole.TRAINING, max_tokens=max_tokens)

    return read_lines


ROW = json.dumps(chat("Where is it?", "In the depot."))


@pytest.mark.parametrize("end", ["\n", "\r\n", "\n\n\n", ""])
def test_lines_end_as_they_like(end: str, read: Callable[..., JobRows]) -> None:
    found = read(f"{ROW}\n", f"{ROW}{end}")
    assert (found.counts.num_rows, found.counts.num_skipped, found.counts.num_truncated) == (2, 0, 0)


def test_a_line_separator_inside_a_text_ends_no_line(read: Callable[..., JobRows], tiny_model: Any) -> None:
    found = read(chat("Where\u2028is it?", "In the\u0085depot."), prefix=b"\xef\xbb\xbf")
    assert "depot" in tiny_model("llama").renderer.decode(found.rows[0].token_ids)
    assert found.counts.num_rows == 1


def test_every_answer_is_trained_but_those_of_weight_0(read: Callable[..., JobRows]) -> None:
    [both], [last], [first] = (
        read(chat("a", "yes", "b", "no", weights=weights)).rows for weights in ((1, None), (0, 1), (1, 0))
    )
    assert both.num_trained_tokens > last.num_trained_tokens > 0
    assert len(first.token_ids) < len(both.token_ids) == len(last.token_ids)  # nothing is learned from what follows
    assert first.num_trained_tokens + last.num_trained_tokens == both.num_trained_tokens


def test_long_rows_are_cut_at_their_end_and_those_with_nothing_left_are_skipped(read: Callable[..., JobRows]) -> None:
    short = chat("Where is it?", "In the depot.")
    whole = read(short).rows[0]
    long_answer, long_question = chat("Where is it?", "no " * 200), chat("where " * 200, "In the depot.")
    rows = "\n".join(json.dumps(row) for row in (short, long_answer, long_question, chat("a", "b", weights=(0,))))
    found = read(rows, max_tokens=80)
    assert [len(row.token_ids) for row in found.rows] == [len(whole.token_ids), 80]
    assert found.rows[1].is_trained[-1]
    counts = found.counts
    assert (counts.num_rows, counts.num_truncated, counts.num_skipped) == (2, 1, 2)
    assert len(read(chat("a", "b")).rows[0].token_ids) == 17
    assert counts.num_tokens == len(whole.token_ids) + 80 + 80 + 17  # the skipped ones are rows of the file too


def test_check_prompts_are_the_first_ones_that_leave_room(read: Callable[..., JobRows]) -> None:
    tools = [{"type": "function", "function": {"name": "seats", "parameters": {"type": "object"}}}]
    questions = [chat(f"Where is {number}?", "In the depot.", tools=tools) for number in range(6)]
    long = chat("where " * 150, "In")
    rows = "\n".join(json.dumps(row) for row in (long, *questions))
    assert read(rows).check_prompts[0].messages[-1].content.startswith("where")
    prompts = read(rows, max_tokens=len(read(long).rows[0].token_ids)).check_prompts
    assert [prompt.messages[-1].content for prompt in prompts] == [f"Where is {number}?" for number in range(4)]
    assert prompts[0].tools[0].name == "seats"
    [made] = read(long, max_tokens=len(read(long).rows[0].token_ids)).check_prompts
    assert made.messages[0].content == "Hello"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("[1, 2]", "line 2 is an array"),
        ("{'messages': []}", "line 2 is not a JSON object"),
        ('{"prompt": "a"}', "line 2: `messages` is missing"),
        (json.dumps(chat("a", "b", "c")), "line 2: the last message is from the user"),
    ],
)
def test_a_line_that_is_no_row_is_named(line: str, message: str, read: Callable[..., JobRows]) -> None:
    with pytest.raises(DataError, match=message):
        read(f"{ROW}\n{line}\n")


def test_a_file_of_which_nothing_can_be_trained(read: Callable[..., JobRows]) -> None:
    with pytest.raises(DataError, match="nothing can be trained of any of its 2 examples"):
        read(f"{json.dumps(chat('a', 'b', weights=(0,)))}\n{json.dumps(chat('where ' * 50, 'b'))}", max_tokens=50)
    with pytest.raises(DataError, match="every assistant message has weight 0"):
        read(json.dumps(chat("a", "b", weights=(0,))))


def test_rows_whose_earlier_answers_the_template_rewrites_are_counted(tiny_model: Any, tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    thoughts = chat("a", "<think>hm</think>yes", "b", "no")
    file.write_text(f"{ROW}\n{json.dumps(thoughts)}\n")
    found = read_job_rows(file, tiny_model("qwen3").renderer, FileRole.TRAINING, max_tokens=1000)
    assert (found.counts.num_rows, found.counts.num_partly_trained) == (2, 1)


def test_a_row_of_several_answers_counts_once_where_each_is_learned_from_a_row_of_its_own(
    tiny_model: Any, tmp_path: Path
) -> None:
    file, renderer = tmp_path / "rows.jsonl", tiny_model("qwen3").renderer
    file.write_text(json.dumps(chat("a", "yes", "b", "no", "c", "perhaps", weights=(1, 0, 1))))
    found = read_job_rows(file, renderer, FileRole.TRAINING, max_tokens=1000)
    assert [renderer.decode(row.token_ids[row.is_trained.index(True) :]) for row in found.rows] == ["yes", "perhaps"]
    assert len({row.example_id for row in found.rows}) == found.counts.num_rows == 1
    assert found.counts.num_tokens == len(found.rows[-1].token_ids)
    assert (found.counts.num_partly_trained, found.counts.num_skipped) == (0, 0)


def test_what_follows_the_last_learned_answer_counts_as_tokens_of_the_file(read: Callable[..., JobRows]) -> None:
    whole, cut = (read(chat("a", "yes", "b", "no", weights=weights)) for weights in ((1, 1), (1, 0)))
    assert cut.counts.num_tokens == whole.counts.num_tokens > len(cut.rows[0].token_ids)
