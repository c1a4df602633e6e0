"""A model as the harness asks it, by the harness's own reading of transformers models; every reply is kept as it comes.

A killed study goes on with the replies it has. They are kept by what was asked, so a task may change, and only what it asks anew is
asked.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fettle.errors import EngineError
from fettle.files import append_json_lines, read_json_lines, sha256_of_json, write_json_lines
from fettle.forgetting.harness import import_lm_eval
from fettle.models.load import LoadedModel, load_tokenizer
from fettle.progress import Listener, Stage

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_NUM_AT_ONCE = 32
"""Requests between two writes: what a kill can cost."""
_BATCH_SIZE_ON_GPU = 8
"""On a processor rows are run one by one: one keeps it busy, and the logits of all places are held at once."""


@dataclass(slots=True)
class KeptReplies:
    """Replies of one model, in a file of JSON lines whose first line says whose they are."""

    file: Path
    key: str
    _by_request: dict[str, Any] = field(init=False)

    def __post_init__(self) -> None:
        """Read what there is; of another model nothing is kept."""
        rows = read_json_lines(self.file)
        if not rows or rows[0] != {"key": self.key}:
            write_json_lines(self.file, [{"key": self.key}])
            rows = rows[:1]
        self._by_request = {row["request"]: row["reply"] for row in rows[1:]}

    def get(self, request: str) -> Any | None:
        """The reply to a request, by its hash; None: there is none yet."""
        return self._by_request.get(request)

    def keep(self, replies: dict[str, Any]) -> None:
        """Have some on disk."""
        append_json_lines(self.file, [{"request": request, "reply": reply} for request, reply in replies.items()])
        self._by_request |= replies


def harness_lm(model: PreTrainedModel, loaded: LoadedModel) -> Any:
    """A transformers model, bare or tuned, as `lm_eval` reads it.

    Args:
        model: On one side.
        loaded: The base model that it belongs to.
    """
    return import_lm_eval("models.huggingface").HFLM(
        pretrained=model,
        tokenizer=load_tokenizer(loaded.source),  # one of its own: a padding token is put on it
        batch_size=_BATCH_SIZE_ON_GPU if model.device.type == "cuda" else 1,
        max_length=loaded.max_tokens,
    )


class HarnessModel:
    """What `lm_eval.evaluator.evaluate` takes for a language model.

    Args:
        lm: The harness's own reading of a model (`harness_lm`).
        kept: The model's replies so far.
        listener: Is told after each write.
        who: The model's name, for the progress display.
    """

    rank, world_size = 0, 1

    def __init__(self, lm: Any, kept: KeptReplies, listener: Listener, *, who: str) -> None:
        self._lm, self._kept, self._listener, self._who = lm, kept, listener, who

    def loglikelihood(self, requests: Sequence[Any]) -> list[tuple[float, bool]]:
        """(log-likelihood of a continuation, nats, whether it is the greedy one) for each request."""
        replies = self._replies("loglikelihood", requests, self._lm.loglikelihood)
        return [(float(nats), bool(is_greedy)) for nats, is_greedy in replies]

    def loglikelihood_rolling(self, requests: Sequence[Any]) -> list[float]:
        """Log-likelihood of a whole text, nats, for each request."""
        return [float(nats) for nats in self._replies("rolling", requests, self._lm.loglikelihood_rolling)]

    def generate_until(self, requests: Sequence[Any]) -> list[str]:
        """The text that is written after each prompt."""
        return [str(text) for text in self._replies("generate", requests, self._lm.generate_until)]

    def _replies(self, kind: str, requests: Sequence[Any], ask: Callable[[list[Any]], list[Any]]) -> list[Any]:
        hashes = _hashes(kind, requests)
        missing = [place for place, request in enumerate(hashes) if self._kept.get(request) is None]
        for start in range(0, len(missing), _NUM_AT_ONCE):
            places = missing[start : start + _NUM_AT_ONCE]
            replies = ask([requests[place] for place in places])
            pairs = zip(places, replies, strict=True)
            self._kept.keep({hashes[place]: _finite(reply) for place, reply in pairs})
            num_done = len(requests) - len(missing) + start + len(places)
            name = f"{self._who} answers lm-evaluation-harness"
            self._listener.on_stage(Stage(name=name, num_done=num_done, num_total=len(requests)))
        return [self._kept.get(request) for request in hashes]


def _hashes(kind: str, requests: Sequence[Any]) -> list[str]:
    """Of what is asked; the same asked once more, where a task draws several answers, is another request."""
    seen: Counter[str] = Counter()
    found = []
    for request in requests:
        asked = sha256_of_json([kind, request.args])
        found.append(sha256_of_json([asked, seen[asked]]) if seen[asked] else asked)
        seen[asked] += 1
    return found


def _finite(reply: Any) -> Any:
    """The reply as JSON.

    Raises:
        EngineError: A log-likelihood is NaN or infinite.
    """
    numbers = reply if isinstance(reply, (list, tuple)) else [reply]
    if any(isinstance(number, float) and not math.isfinite(number) for number in numbers):
        raise EngineError(
            "the model gives no finite log-likelihoods to what lm-evaluation-harness asks",
            remedy="use --precision exact; if it stays so, the model's weights are damaged",
        )
    return list(reply) if isinstance(reply, tuple) else reply
