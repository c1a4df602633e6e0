"""Two studies of one file, compared: rows are found again by their questions, and what differs is told."""

from __future__ import annotations

import json
from pathlib import Path

from command import Runner
from reports import load
from studies import LABEL_STUDY, Study, require_refused


def test_two_studies_of_one_file_are_compared_on_what_both_test(
    fettle: Runner, label_study: Study, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    finished = fettle(*LABEL_STUDY, "--rank", "4", "--seed", "1", "--out", other)
    assert finished.code in (0, 3, 4), finished.everything
    compared = fettle("compare", label_study.folder, other, "--json")
    document = json.loads(compared.out)
    assert compared.code == {"better": 0, "not better": 3, "cannot tell yet": 4}[document["outcome"]]

    ours, theirs = load(label_study.folder), load(other)
    scores = {row["input_text"]: row["scores"]["tuned"] for row in theirs["rows"]}
    gains = [scores[row["input_text"]] - row["scores"]["tuned"] for row in ours["rows"] if row["input_text"] in scores]
    assert 0 < document["num_shared"] == len(gains) < len(ours["rows"]), "another seed cuts another test split"
    own = document["comparisons"][0]["comparison"]
    assert abs(own["difference"]["estimate"] - sum(gains) / len(gains)) < 1e-9
    names = {one["comparison"]["baseline"] for one in document["comparisons"]}
    assert names == {f"A:{contender['name']}" for contender in ours["contenders"]}
    differing = {one["name"]: (one["first"], one["second"]) for one in document["differences"]}
    assert differing["seed"] == (0, 1)
    assert differing["training.lora.rank"] == (16, 4)
    assert "test split, SHA-256" in differing
    assert "model_sha256" not in differing

    told = fettle("compare", label_study.folder, other)
    assert told.code == compared.code
    assert f"Compared on {len(gains)} test rows that both have" in told.everything


def test_a_study_that_is_not_finished_is_refused(fettle: Runner, label_study: Study, tmp_path: Path) -> None:
    (tmp_path / "begun").mkdir()
    (tmp_path / "begun" / "study.json").write_text("{}")
    require_refused(fettle("compare", label_study.folder, tmp_path / "begun"), "this study is not finished")
