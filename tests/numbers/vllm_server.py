"""A small HTTP server that speaks as much of vLLM's API as the engine needs, and answers with a tiny model, faults included."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from engine_cases import Case

MODEL = "served-model"


@dataclass
class FakeVllm:
    """What the server knows and does. The faults are those that real servers, and their users, have."""

    case: Case
    ignores_adapter: bool = False
    own_template: bool = False
    """It makes tokens of its own of a prompt."""
    stops: frozenset[int] | None = None
    """Where it ends an answer; None: where it is told to."""
    allows_adapters: bool = True
    tells_token_ids: bool = True
    url: str = ""
    adapters: dict[str, str] = field(default_factory=dict)
    paths: list[str] = field(default_factory=list)
    bodies: list[dict[str, Any]] = field(default_factory=list)
    keys: set[str | None] = field(default_factory=set)
    lock: threading.RLock = field(default_factory=threading.RLock)

    def answer(self, path: str, body: dict[str, Any]) -> tuple[int, Any]:
        if not path.startswith("/v1/"):
            return 404, {"detail": "Not Found"}
        if path == "/v1/models":
            adapters = [{"id": name, "parent": MODEL} for name in self.adapters]
            return 200, {"data": [{"id": MODEL, "parent": None, "max_model_len": 512}, *adapters]}
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
        if body["model"] != MODEL and body["model"] not in self.adapters:
            return 404, error(f"The model `{body['model']}` does not exist.")
        return 200, self.completion(body)

    def completion(self, body: dict[str, Any]) -> dict[str, Any]:
        reference = self.case.reference(is_tuned=body["model"] != MODEL and not self.ignores_adapter)
        prompt = body["prompt"][1:] if self.own_template else body["prompt"]
        stops = frozenset(body["stop_token_ids"]) if self.stops is None else self.stops
        tokens: list[int] = []
        first = reference(prompt)[-1].log_softmax(-1)
        while len(tokens) < body["max_tokens"] and not set(tokens) & stops:
            tokens.append(int(reference([*prompt, *tokens])[-1].argmax()))
        is_stopped = tokens[-1] in stops
        choice: dict[str, Any] = {
            "index": 0,
            "text": "what the server's own tokenizer makes of it",
            "finish_reason": "stop" if is_stopped else "length",
            "stop_reason": tokens[-1] if is_stopped else None,
        }
        if body.get("return_token_ids") and self.tells_token_ids:
            choice |= {"token_ids": tokens, "prompt_token_ids": prompt}
        if body.get("logprobs"):
            likely = first.topk(body["logprobs"])
            pairs = zip(likely.indices.tolist(), likely.values.tolist(), strict=True)
            choice["logprobs"] = {"top_logprobs": [{f"token_id:{token}": value for token, value in pairs}]}
        if body.get("prompt_logprobs") is not None:
            before = reference(prompt).log_softmax(-1)
            told = [
                {str(token): {"logprob": float(before[place, token]), "rank": 1, "decoded_token": "?"}}
                for place, token in enumerate(prompt[1:])
            ]
            choice["prompt_logprobs"] = [None, *told]
        return {"id": "c", "object": "text_completion", "model": body["model"], "choices": [choice], "usage": {}}


def error(message: str) -> dict[str, Any]:
    return {"error": {"message": message, "type": "BadRequestError", "code": 400}}


@contextmanager
def serving(fake: FakeVllm) -> Iterator[FakeVllm]:
    """The server on a free port."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.reply({})

        def do_POST(self) -> None:
            self.reply(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))

        def reply(self, body: dict[str, Any]) -> None:
            with fake.lock:  # the tiny model has its adapter put on and taken off
                fake.paths.append(self.path)
                fake.bodies.append(body)
                fake.keys.add(self.headers["Authorization"])
                status, content = fake.answer(self.path, body)
            data = content.encode() if isinstance(content, str) else json.dumps(content).encode()
            self.send_response(status)
            self.send_header("Content-Type", "text/plain" if isinstance(content, str) else "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 (its name in the library)
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    fake.url = f"http://127.0.0.1:{server.server_address[1]}/v1"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield fake
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
