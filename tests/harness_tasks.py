"""Tasks for lm-evaluation-harness whose questions lie beside them: nothing is fetched."""

from __future__ import annotations

import json
from pathlib import Path

QUESTIONS = tuple(
    (
        f"The parcel number {number} was {'late' if number % 3 else 'lost'}: it was",
        ("late", "lost", "refund"),
        int(number % 3 == 0),
    )
    for number in range(12)
)
"""(question, choices, place of the right one)."""

_CHOSEN = """task: {name}
dataset_path: json
dataset_kwargs:
  data_files:
    test: {file}
test_split: test
output_type: multiple_choice
doc_to_text: "{{{{q}}}}"
doc_to_choice: choices
doc_to_target: label
metric_list:
  - metric: acc
    aggregation: mean
    higher_is_better: true
"""
_WRITTEN = """task: {name}
dataset_path: json
dataset_kwargs:
  data_files:
    test: {file}
test_split: test
output_type: generate_until
doc_to_text: "{{{{q}}}}"
doc_to_target: "{{{{choices[label]}}}}"
generation_kwargs:
  until: ["\\n"]
  max_gen_toks: 4
metric_list:
  - metric: exact_match
    aggregation: mean
    higher_is_better: true
"""
_ROLLING = """task: {name}
dataset_path: json
dataset_kwargs:
  data_files:
    test: {file}
test_split: test
output_type: loglikelihood_rolling
doc_to_text: ""
doc_to_target: "{{{{q}}}}"
metric_list:
  - metric: word_perplexity
    aggregation: weighted_perplexity
    higher_is_better: false
"""
_GROUP = """group: our_tasks
task:
  - our_choices
  - our_words
"""


def write_tasks(folder: Path) -> Path:
    """A folder with the tasks `our_choices`, `our_words`, `our_texts` (perplexity), and the group `our_tasks` of the first two."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "questions.jsonl"
    rows = [{"q": question, "choices": list(choices), "label": label} for question, choices, label in QUESTIONS]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    for name, text in (("our_choices", _CHOSEN), ("our_words", _WRITTEN), ("our_texts", _ROLLING)):
        (folder / f"{name}.yaml").write_text(text.format(name=name, file=file))
    (folder / "our_tasks.yaml").write_text(_GROUP)
    return folder
