"""Small made-up data files for label, JSON and text tasks: a study of the tiny model on them takes seconds."""

from __future__ import annotations

import csv
import json
import random
from pathlib import Path

QUEUES = ("lost parcel", "billing", "address change")
WORDS = {
    "lost parcel": ("parcel", "missing", "tracking", "depot", "driver", "nowhere", "courier", "vanished"),
    "billing": ("invoice", "charged", "refund", "twice", "card", "price", "receipt", "paid"),
    "address change": ("moved", "street", "postcode", "house", "new", "flat", "deliver", "instead"),
}
FILLERS = (
    "please",
    "help",
    "today",
    "again",
    "thanks",
    "hello",
    "we",
    "they",
    "still",
    "since",
    "monday",
    "soon",
    "why",
)


def messages(count: int, *, seed: int) -> list[tuple[str, str]]:
    """(message, queue), no two messages alike and each queue as often as the others."""
    rng = random.Random(seed)
    made: dict[str, str] = {}
    while len(made) < count:
        queue = QUEUES[len(made) % len(QUEUES)]
        words = [*rng.sample(WORDS[queue], 3), *rng.sample(FILLERS, 4), f"{rng.randrange(10**4):04d}"]
        rng.shuffle(words)
        made[" ".join(words)] = queue
    return list(made.items())


def label_file(path: Path, count: int = 60, *, seed: int = 1) -> Path:
    """A CSV file with the columns `message` and `queue`."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(("message", "queue"))
        writer.writerows(messages(count, seed=seed))
    return path


def json_file(path: Path, count: int = 60, *, seed: int = 2) -> Path:
    """Chat JSON Lines whose answers are JSON objects."""
    rows = []
    for message, queue in messages(count, seed=seed):
        number = next(word for word in message.split() if word.isdigit())
        answer = json.dumps({"queue": queue, "number": number, "urgent": "today" in message})
        rows.append({"messages": [{"role": "user", "content": message}, {"role": "assistant", "content": answer}]})
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def text_file(path: Path, count: int = 60, *, seed: int = 3) -> Path:
    """Prompt/completion JSON Lines whose answers are short replies, no two alike."""
    rows = [
        {
            "prompt": message,
            "completion": f"Dear customer, we looked at your {queue}: {message.split()[0]}. Yours, Lark",
        }
        for message, queue in messages(count, seed=seed)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def reply_file(path: Path, count: int = 150, *, seed: int = 3) -> Path:
    """Prompt/completion JSON Lines with one reply for each queue, and little that the replies have in common."""
    rows = [
        {"prompt": message, "completion": f"{queue} ".upper() * 3 + f"is our {queue} desk's, Lark"}
        for message, queue in messages(count, seed=seed)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path
