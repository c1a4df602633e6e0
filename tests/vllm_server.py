"""A small HTTP server that speaks as much of vLLM's API as the engines need, and answers with a tiny model, faults included."""

from __future__ import annotations

import json
import select
import socket
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import torch

from fettle.answering.constrain import Constrainers, mask_logits, take_token
from fettle.answering.engine import Form, Grammar, JsonForm
from fettle.answering.same_answers import reference_of
from fettle.models.adapter import load_adapter, unload_adapters
from fettle.models.load import LoadedModel

MODEL = "served-model"
NUM_LIKELY = 20


@dataclass
class FakeVllm:
    """What the server knows and does. The faults are those that real servers, and their users, have."""

    loaded: LoadedModel
    model: str = MODEL
    """What it calls its base model."""
    ignores_adapter: bool = False
    own_template: bool = False
    """It makes tokens of its own of a prompt."""
    stops: frozenset[int] | None = None
    """Where it ends an answer; None: where it is told to."""
    mixes_up: bool = False
    """It runs the base model with the weights of an adapter that it has, as vLLM 0.32 on a processor does in a batch of both."""
    allows_adapters: bool = True
    tells_token_ids: bool = True
    status: int = 200
    """Of completions; another one than 200: it refuses them."""
    breaks_after: int | None = None
    """Tokens of a stream after which it hangs up; None: it does not."""
    gate: threading.Event | None = None
    """Streams wait for it before their second token, and end if who asked hangs up meanwhile; None: they do not wait."""
    url: str = ""
    adapters: dict[str, str] = field(default_factory=dict)
    paths: list[str] = field(default_factory=list)
    bodies: list[dict[str, Any]] = field(default_factory=list)
    keys: set[str | None] = field(default_factory=set)
    num_at_gate: int = 0
    """Streams that have come to the gate, whether they still wait there or not."""
    num_hung_up: int = 0
    """Of these, those that were given up by who asked."""
    changed: threading.Condition = field(default_factory=threading.Condition)
    known: dict[tuple[str | None, tuple[int, ...]], torch.Tensor] = field(default_factory=dict)

    def answer(self, path: str, body: dict[str, Any]) -> tuple[int, Any]:
        if not path.startswith("/v1/"):
            return 404, {"detail": "Not Found"}
        if path == "/v1/models":
            adapters = [{"id": name, "parent": self.model, "root": place} for name, place in self.adapters.items()]
            return 200, {"data": [{"id": self.model, "parent": None, "max_model_len": 512}, *adapters]}
        if path in ("/v1/load_lora_adapter", "/v1/unload_lora_adapter") and not self.allows_adapters:
            return 404, {"detail": "Not Found"}
        if path == "/v1/load_lora_adapter":
            if body["lora_name"] in self.adapters:
                return 400, error("it has already been loaded")
            self.adapters[body["lora_name"]] = body["lora_path"]
            return 200, f"Success: LoRA adapter '{body['lora_name']}' added successfully."
        if path == "/v1/unload_lora_adapter":
            found = self.adapters.pop(body["lora_name"], None)
            return (404, error("cannot be found")) if found is None else (200, "Success")
        if body["model"] != self.model and body["model"] not in self.adapters:
            return 404, error(f"The model `{body['model']}` does not exist.")
        if self.status != 200:
            return self.status, error("not now")
        return 200, None if body.get("stream") else self.completion(body)

    def completion(self, body: dict[str, Any]) -> dict[str, Any]:
        choices = list(self.pieces(body))
        whole = choices[-1] | {"text": "what the server's own tokenizer makes of it"}
        if "token_ids" in whole:
            whole["token_ids"] = [token for choice in choices for token in choice["token_ids"]]
            whole["prompt_token_ids"] = choices[0]["prompt_token_ids"]
        if body.get("logprobs"):
            whole["logprobs"] = choices[0]["logprobs"]
        if body.get("prompt_logprobs") is not None:
            prompt = self.prompt(body)
            before = self.logits(body["model"], prompt).log_softmax(-1)
            told = [
                {str(token): {"logprob": float(before[place, token]), "rank": 1, "decoded_token": "?"}}
                for place, token in enumerate(prompt[1:])
            ]
            whole["prompt_logprobs"] = [None, *told]
        return self.frame(body, whole)

    def pieces(self, body: dict[str, Any]) -> Iterator[dict[str, Any]]:
        """One choice for each token, as a stream has them."""
        prompt, tokens = self.prompt(body), []
        stops = frozenset(body["stop_token_ids"]) if self.stops is None else self.stops
        generator = torch.Generator().manual_seed(body.get("seed") or 0)
        constrainer = self.constrainers.of(_form(body))
        matcher = constrainer.new_matcher() if constrainer else None
        while True:
            raw_V = self.logits(body["model"], [*prompt, *tokens])[-1]
            moved_V = _moved(raw_V, body, tokens)
            if matcher is not None:
                moved_V = mask_logits([matcher], moved_V[None])[0]
            temperature = body.get("temperature") or 0
            drawn = (moved_V / temperature).softmax(-1) if temperature else None
            token = int(moved_V.argmax() if drawn is None else torch.multinomial(drawn, 1, generator=generator))
            tokens.append(token)
            if matcher is not None and token not in stops:
                take_token(matcher, token)
            is_stopped = token in stops
            is_last = is_stopped or len(tokens) == body["max_tokens"]
            choice: dict[str, Any] = {
                "index": 0,
                "text": "?",
                "finish_reason": ("stop" if is_stopped else "length") if is_last else None,
                "stop_reason": token if is_stopped else None,
            }
            if body.get("return_token_ids") and self.tells_token_ids:
                choice |= {"token_ids": [token], "prompt_token_ids": prompt if len(tokens) == 1 else None}
            if body.get("logprobs") is not None:
                choice["logprobs"] = _log_probs(raw_V.log_softmax(-1), token, body["logprobs"])
            yield choice
            if is_last:
                return

    def prompt(self, body: dict[str, Any]) -> list[int]:
        return body["prompt"][1:] if self.own_template else body["prompt"]

    def frame(self, body: dict[str, Any], choice: dict[str, Any]) -> dict[str, Any]:
        frame = {"id": "c", "object": "text_completion", "created": 1, "model": body["model"], "choices": [choice]}
        return frame | {"usage": None}

    def logits(self, model: str, row: Sequence[int]) -> torch.Tensor:
        """The logits [T, V] of a row, by the base model or by an adapter."""
        with self.changed:  # the tiny model has its adapter put on and taken off
            places = list(self.adapters.values()) if self.mixes_up or model != self.model else []
            place = self.adapters.get(model) or (places[-1] if places else None)
            place = None if self.ignores_adapter else place
            key = (place, tuple(row))
            if key not in self.known:
                peft = load_adapter(self.loaded, Path(place), name="tuned") if place else None
                try:
                    self.known[key] = reference_of(self.loaded)(row)
                finally:
                    if peft is not None:
                        unload_adapters(peft)
            return self.known[key]

    @property
    def constrainers(self) -> Constrainers:
        return Constrainers(
            self.loaded.renderer.tokenizer,
            end_of_turn_id=self.loaded.renderer.end_of_turn_id,
            vocabulary_size=int(self.loaded.model.config.vocab_size),
        )


def _form(body: dict[str, Any]) -> Form | None:
    if grammar := (body.get("structured_outputs") or {}).get("grammar"):
        return Grammar(lark=grammar)
    if body.get("response_format") is None:
        return None
    return JsonForm(schema=json.dumps(body["response_format"]["json_schema"]["schema"]))


def _moved(raw_V: torch.Tensor, body: dict[str, Any], tokens: Sequence[int]) -> torch.Tensor:
    moved_V = raw_V.clone()
    for token, bias in (body.get("logit_bias") or {}).items():
        moved_V[int(token)] += bias
    for token, count in Counter(tokens).items():
        moved_V[token] -= (body.get("presence_penalty") or 0) + (body.get("frequency_penalty") or 0) * count
    return moved_V


def _log_probs(log_probs_V: torch.Tensor, token: int, num_top: int) -> dict[str, Any]:
    likely = log_probs_V.topk(num_top) if num_top else None
    pairs = zip(likely.indices.tolist(), likely.values.tolist(), strict=True) if likely else ()
    own = float(log_probs_V[token])
    top = {f"token_id:{token}": own} | {f"token_id:{other}": value for other, value in pairs}
    return {"tokens": [f"token_id:{token}"], "token_logprobs": [own], "top_logprobs": [top], "text_offset": [0]}


def error(message: str) -> dict[str, Any]:
    return {"error": {"message": message, "type": "BadRequestError", "code": 400}}


@contextmanager
def serving(fake: FakeVllm) -> Iterator[FakeVllm]:
    """The server on a free port."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self.reply({})

        def do_POST(self) -> None:
            self.reply(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))

        def reply(self, body: dict[str, Any]) -> None:
            with fake.changed:
                fake.paths.append(self.path)
                fake.bodies.append(body)
                fake.keys.add(self.headers["Authorization"])
                status, content = fake.answer(self.path, body)
            if status == 200 and body.get("stream"):
                self.stream(body)
                return
            data = content.encode() if isinstance(content, str) else json.dumps(content).encode()
            self.send_response(status)
            self.send_header("Content-Type", "text/plain" if isinstance(content, str) else "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def stream(self, body: dict[str, Any]) -> None:
            self.close_connection = True  # its end ends the stream
            self.send_response(200)
            self.send_header("Content-Type", "text/event-stream")
            self.send_header("Connection", "close")
            self.end_headers()
            with suppress(OSError):  # who has read the last token hangs up as well
                for number, choice in enumerate(fake.pieces(body)):
                    if number == 1 and fake.gate is not None and not self.passes(fake.gate):
                        return
                    if number == fake.breaks_after:
                        return
                    self.wfile.write(f"data: {json.dumps(fake.frame(body, choice))}\n\n".encode())
                    self.wfile.flush()
                self.wfile.write(b"data: [DONE]\n\n")

        def passes(self, gate: threading.Event) -> bool:
            """Wait until the gate is opened; False: who asked has hung up before."""
            with fake.changed:
                fake.num_at_gate += 1
                fake.changed.notify_all()
            while not gate.wait(0.01):
                if self.is_hung_up:
                    with fake.changed:
                        fake.num_hung_up += 1
                        fake.changed.notify_all()
                    return False
            return True

        @property
        def is_hung_up(self) -> bool:
            if not select.select([self.connection], [], [], 0)[0]:
                return False
            try:
                return not self.connection.recv(1, socket.MSG_PEEK)
            except ConnectionResetError:  # it had not read all that was sent
                return True

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 (its name in the library)
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True  # connections that are kept open
    fake.url = f"http://127.0.0.1:{server.server_address[1]}/v1"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield fake
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
