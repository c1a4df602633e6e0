"""Small examples for the tests of this room."""

from __future__ import annotations

from pathlib import Path

from fettle.records import Dataset, Example, Location, Message

CHAT = '{"messages": [{"role": "user", "content": "Hi %s"}, {"role": "assistant", "content": "Hello"}]}'
"""One conversation as a line; the % is for the message."""


def save(tmp_path: Path, name: str, content: str | bytes) -> Path:
    path = tmp_path / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def codes(dataset: Dataset) -> dict[str, int | None]:
    return {finding.code: finding.line for finding in dataset.findings}


def example(text: str, answer: str, *, line: int = 1, name: str | None = None, group: str | None = None) -> Example:
    return Example(
        id=name or f"t:{line}",
        messages=(Message(role="user", content=text), Message(role="assistant", content=answer)),
        source=Location(file="t.jsonl", line=line),
        group=group,
    )


def examples(*pairs: tuple[str, str]) -> tuple[Example, ...]:
    return tuple(example(text, answer, line=line) for line, (text, answer) in enumerate(pairs, start=1))


def dataset(*pairs: tuple[str, str]) -> Dataset:
    return Dataset(name="t", examples=examples(*pairs), findings=(), file_sha256={})


TOPICS = {
    "lost_parcel": (
        "my parcel never came",
        "nothing arrived at the door",
        "the courier lost the box",
        "where did it vanish",
    ),
    "refund": ("give me the money back", "I want a refund today", "reimburse the charge", "return what I paid"),
    "address": ("I moved house recently", "change where it is sent", "the street is wrong", "deliver to another town"),
}
_DETAILS = (
    "since Monday; blue lamp; rather cross", "after three phone calls to somebody called Pat", "before our holiday in Crete",
    "while the neighbours were watching football", "as promised by your website in March", "with the cracked green vase",
    "although the app insisted otherwise twice", "during last week's thunderstorm", "because grandmother turned ninety",
    "unlike every other firm on this road", "for the school's new piano stool", "near the old windmill by the canal",
)  # fmt: skip


def labelled(num_per_label: int) -> tuple[Example, ...]:
    """Distinct messages of three labels."""
    rows = []
    for label, openings in TOPICS.items():
        for index in range(num_per_label):
            opening = openings[index % len(openings)]
            first, second = _DETAILS[index % 12], _DETAILS[(index * 5 + 7 + index // 12) % 12]
            rows.append((f"{opening} {first}, {second} ({label[:2]}{index}x{index * index})", label))
    return examples(*rows)
