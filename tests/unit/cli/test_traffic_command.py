"""`fettle keys keep-traffic`, `fettle traffic` and `fettle examples from-traffic`."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from typer.testing import CliRunner

from databases import fresh_store
from fettle.cli import store as store_of_commands
from fettle.cli.main import app
from fettle.errors import ConfigError, DataError
from fettle.retrieval.embedders import registry
from fettle.store.database import Store, now
from fettle.store.ids import new_id
from fettle.store.keys import Key, create_key
from fettle.store.traffic import Feedback, KeptRequest, TrafficRule, add_feedback, add_kept, list_rules
from indexed import WordEmbedder

Run = Callable[..., Result]


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    with fresh_store(tmp_path / "home") as opened:
        monkeypatch.setattr(store_of_commands, "open_store", lambda: opened)
        yield opened


@pytest.fixture
def key(store: Store) -> Key:
    return create_key(store, "shop")[1]


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, arguments, catch_exceptions=False)


def keep(store: Store, key: Key, texts: list[str], *, day: int = 1_767_312_000, **values: Any) -> None:
    rows = [
        KeptRequest(
            **{
                "id": new_id("chatcmpl-"),
                "project_id": key.project_id,
                "key_id": key.id,
                "model": "triage",
                "request": {"messages": [{"role": "user", "content": text}]},
                "answer": {"role": "assistant", "content": "Yes."},
                "finish_reason": "stop",
                "confidence": None,
                "num_prompt_tokens": 1,
                "num_completion_tokens": 1,
                "seconds": 1.0,
                "is_redacted": True,
                "created_at": day,
                "expires_at": now() + 1000,
                **values,
            }
        )
        for text in texts
    ]
    with store.writing() as connection:
        add_kept(connection, rows)


def test_a_keys_rule_is_set_and_taken_back(store: Store, key: Key) -> None:
    said = run("keys", "keep-traffic", key.id, "--days", "30", "--share", "0.1").output
    assert "30 days, personal data replaced" in said
    with store.reading() as connection:
        assert list_rules(connection) == {key.id: TrafficRule(key_id=key.id, num_days=30, share=0.1)}
    assert "INCLUDED" in run("keys", "keep-traffic", key.id, "--days", "1", "--no-redact").output
    assert "traffic forget" in run("keys", "keep-traffic", key.id, "--off").output
    with store.reading() as connection:
        assert list_rules(connection) == {}


@pytest.mark.parametrize("options", [[], ["--days", "3", "--off"], ["--days", "0"], ["--days", "3", "--share", "2"]])
def test_rules_that_say_nothing_or_too_much_are_refused(key: Key, options: list[str]) -> None:
    with pytest.raises(ConfigError):
        run("keys", "keep-traffic", key.id, *options)


def test_what_is_kept_is_shown_and_forgotten(store: Store, key: Key) -> None:
    run("keys", "keep-traffic", key.id, "--days", "30")
    keep(store, key, ["One?", "Two?"])
    keep(store, key, ["Three?"], day=1_767_312_000 + 86_400)
    said = run("traffic", "show").output
    assert key.id in said
    assert "3 requests, 3 with texts, 0 times feedback, the oldest of 2026-01-02" in said
    assert run("traffic", "forget", "--before", "2026-01-03").output == "Deleted: 2 requests\n"
    assert run("traffic", "forget", "--all").output == "Deleted: 1 requests\n"
    with pytest.raises(ConfigError, match="what to delete"):
        run("traffic", "forget")
    with pytest.raises(ConfigError, match="no project"):
        run("traffic", "show", "--project", "nobody")
    with pytest.raises(ConfigError, match="a day"):
        run("traffic", "forget", "--before", "yesterday")


def test_kept_requests_become_a_file_of_examples(store: Store, key: Key, tmp_path: Path) -> None:
    keep(store, key, ["May I send wine to Norway?", "Where is my parcel now?"])
    keep(store, key, ["What does a label cost?"], day=1)
    out = tmp_path / "examples.jsonl"
    with pytest.raises(DataError, match="none of 3"):
        run("examples", "from-traffic", "--out", str(out))
    with store.reading() as connection:
        rows = connection.exec_driver_sql("SELECT id FROM kept_requests ORDER BY number").all()
    given = Feedback(
        id="fdbk_1",
        project_id=key.project_id,
        completion_id=rows[0].id,
        score=None,
        corrected_answer="No.",
        comment=None,
        created_at=1,
    )
    with store.writing() as connection:
        add_feedback(connection, given)
    said = run("examples", "from-traffic", "--out", str(out)).output
    assert "1 examples of 3 requests (1 corrected)" in said
    [row] = [json.loads(line) for line in out.read_text().splitlines()]
    assert row["id"] == rows[0].id
    assert row["messages"][-1]["content"] == "No."
    run("examples", "from-traffic", "--out", str(out), "--only", "all", "--since", "2026-01-01", "--model", "triage")
    assert len(out.read_text().splitlines()) == 2


def test_the_test_file_is_not_written_over(store: Store, key: Key, tmp_path: Path) -> None:
    test = tmp_path / "test.jsonl"
    test.write_text('{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}\n')
    before = test.read_bytes()
    with pytest.raises(ConfigError, match="would be replaced"):
        run("examples", "from-traffic", "--out", str(test), "--test", str(tmp_path / "." / "test.jsonl"))
    assert test.read_bytes() == before


def test_drift_is_looked_for_again_and_again(
    store: Store, key: Key, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry, "embedder_by_name", lambda _name: WordEmbedder(64))
    things = ["parcel", "label", "invoice", "driver", "address", "customs", "refund"]
    usual = [f"Where is the {thing} number {number}?" for number in range(10, 26) for thing in things]
    random.Random(1).shuffle(usual)
    files = {}
    for name, texts in (("train", usual[:40]), ("test", usual[40:90])):
        files[name] = tmp_path / f"{name}.jsonl"
        rows = [{"messages": [{"role": "user", "content": t}, {"role": "assistant", "content": "x"}]} for t in texts]
        files[name].write_text("".join(json.dumps(row) + "\n" for row in rows))
    options = ["traffic", "drift", "--train", str(files["train"]), "--test", str(files["test"]), "--model", "triage"]
    keep(store, key, usual[90:])
    first = run(*options)
    assert first.exit_code == 0
    assert "22 new requests, 22 in 1 looks, against 50 test examples" in first.output
    assert "0 new requests, 22 in 1 looks" in run(*options).output
    keep(store, key, [f"Translate sentence {number} into French, please, and quickly" for number in range(40)])
    keep(store, key, ["Something else"], model="other")
    last = run(*options)
    assert last.exit_code == 5
    assert "ALARM" in last.output
    assert "40 new requests, 62 in 2 looks" in last.output
    assert "Translate sentence" in last.output
