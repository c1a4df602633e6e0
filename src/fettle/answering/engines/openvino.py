"""OpenVINO as an engine: a GGUF file of 16-bit floats, read by OpenVINO GenAI.

Free text is written by GenAI's continuous batching, which keeps what prompts share once. It tells of one log-probability only, so
whatever needs more (likely tokens, JSON forms, choices) runs the same weights as an ordinary OpenVINO model with a state. Only one
of the two is in memory at a time.

An adapter cannot stay beside the weights: GenAI takes one beside a GGUF file, warns, and leaves it out. Merge it first.

Legend: B rows, L tokens of the longest row, P paths of a tree, N tree nodes, E hidden size, V vocabulary.
"""

from __future__ import annotations

import importlib
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

from fettle.answering.choices import ChoiceTree
from fettle.answering.engines.greedy import GoesOn
from fettle.answering.engines.logits_engine import LogitsEngine, fill_edges
from fettle.errors import ConfigError, ModelError
from fettle.models.load import LoadedModel
from fettle.models.precision import Precision
from fettle.models.shared_prefix import common_prefix_length, shared_length
from fettle.settings import get_settings

_DEVICE = "CPU"
_MOST_PATHS = 256
"""Rows of the batch in which choices are scored: one for each path after each prompt."""
_BATCH_TOKENS = 2048
"""Tokens that GenAI runs at once."""
_BLOCK_TOKENS = 32
"""GenAI keeps keys in blocks of so many tokens. A block that was filled in part is not found again as it was (seen with 2026.4.1:
other tokens than the model's own, by nats), so no request ends within one that others are to share.
"""
_MODEL_FILE = "openvino_model.xml"
_NUMBER_TYPE = {Precision.EXACT: "f32", Precision.FAST: "bf16"}


class OpenVinoEngine(LogitsEngine):
    """Answers with a GGUF file of type f16.

    Args:
        loaded: Says how prompts become tokens, which tokens end an answer and how precisely to compute; its weights are not used.
        file: The GGUF file. What OpenVINO makes of it is written beside it, and removed when the engine is closed.
        name: What the weights are called in a report.

    Raises:
        ConfigError: OpenVINO GenAI is not installed.
        ModelError: It cannot read the file.
    """

    def __init__(self, loaded: LoadedModel, file: Path, *, name: str, max_rows: int = 64) -> None:
        self._ov, self._genai = import_openvino()
        version = str(self._genai.__version__).split("-")[0]
        super().__init__(loaded, name=f"{name} by OpenVINO GenAI {version}", max_rows=max_rows)
        self._folder = file.parent / f"{file.stem}-openvino"
        self._folder.mkdir(exist_ok=True)
        self._file = self._folder / file.name
        self._file.unlink(missing_ok=True)
        self._file.hardlink_to(file)
        number = _NUMBER_TYPE[loaded.precision]
        self._properties = {
            "INFERENCE_PRECISION_HINT": number,
            "KV_CACHE_PRECISION": number,
            "INFERENCE_NUM_THREADS": get_settings().threads or torch.get_num_threads(),
        }
        self._pipeline: Any = None
        self._states: _States | None = None
        try:  # what is saved beside the file is the model with a state
            self._genai.LLMPipeline(str(self._file), _DEVICE, enable_save_ov_model=True, **self._properties)
        except RuntimeError as error:
            raise ModelError(
                f"OpenVINO GenAI cannot read this GGUF file ({str(error).strip().splitlines()[-1][:200]})",
                where=str(file),
                remedy="leave --answer-with out, or name another engine",
            ) from error

    @property
    def num_words(self) -> int:
        """Width of the logits."""
        return self._with_states().num_words

    def close(self) -> None:
        """Free the weights and remove what was written beside the file."""
        self._pipeline = self._states = None
        shutil.rmtree(self._folder, ignore_errors=True)

    def written(self, rows: Sequence[Sequence[int]], limits: Sequence[int]) -> list[list[int]]:
        """Greedy tokens after each row, the stop token included where it was reached."""
        if shared := shared_length(common_prefix_length(rows), len(rows)) // _BLOCK_TOKENS * _BLOCK_TOKENS:
            self._run_requests([rows[0][:shared]], [1])  # kept, and found by all that are asked after it
        return self._run_requests(rows, limits)

    def _run_requests(self, rows: Sequence[Sequence[int]], limits: Sequence[int]) -> list[list[int]]:
        pipeline = self._with_pipeline()
        handles = [
            pipeline.add_request(number, self._ov.Tensor(np.array([row], dtype=np.int64)), self._config(limit))
            for number, (row, limit) in enumerate(zip(rows, limits, strict=True))
        ]
        while pipeline.has_non_finished_requests():
            pipeline.step()
        return [list(handle.read_all()[0].generated_ids) for handle in handles]

    def edges(self, rows: Sequence[Sequence[int]], tree: ChoiceTree) -> list[torch.Tensor]:
        """Each row's log-probability of every node's token given its parent [N + 1], fp32, 0 where nothing else may follow."""
        paths = tree.paths_to_run()
        at_once = max(1, _MOST_PATHS // len(paths))
        edges: list[torch.Tensor] = []
        for first in range(0, len(rows), at_once):
            edges += self._with_states().edges(rows[first : first + at_once], tree, paths)
        return edges

    @contextmanager
    def sequences(self, rows: Sequence[Sequence[int]], limits: Sequence[int]) -> Iterator[_Rows]:
        """The state, which grows by itself, with these rows alone in it."""
        del limits
        yield _Rows(self._with_states(), rows)

    def _with_pipeline(self) -> Any:
        if self._pipeline is None:
            self._require_open()
            self._states = None
            scheduler = self._genai.SchedulerConfig()
            scheduler.max_num_seqs = self._max_rows
            scheduler.max_num_batched_tokens = _BATCH_TOKENS
            scheduler.enable_prefix_caching = True
            self._pipeline = self._genai.ContinuousBatchingPipeline(
                str(self._file), scheduler, _DEVICE, self._properties
            )
        return self._pipeline

    def _with_states(self) -> _States:
        if self._states is None:
            self._require_open()
            self._pipeline = None
            self._states = _States(self._ov, self._folder / _MODEL_FILE, self._properties)
        return self._states

    def _require_open(self) -> None:
        if not self._folder.is_dir():
            raise ConfigError("this engine was closed", remedy="make a new one")

    def _config(self, limit: int) -> Any:
        config = self._genai.GenerationConfig()
        config.max_new_tokens = limit
        config.do_sample = False
        config.apply_chat_template = False
        config.stop_token_ids = set(self.stop_token_ids)
        config.ignore_eos = not self.stop_token_ids
        if self.stop_token_ids:
            config.set_eos_token_id(self._renderer.end_of_turn_id)
        return config


class _States:
    """The model with a state, changed to give logits only where they are asked for."""

    def __init__(self, ov: Any, file: Path, properties: dict[str, Any]) -> None:
        core = ov.Core()
        model = core.read_model(str(file))
        _ask_for_some(ov, model)
        self.num_words = int(model.output("logits").get_partial_shape()[1].get_length())
        self._request = core.compile_model(model, _DEVICE, properties).create_infer_request()

    def reset(self) -> None:
        """Forget all rows."""
        self._request.reset_state()

    def run(
        self,
        ids_BL: np.ndarray,
        seen_BT: np.ndarray,
        positions_BL: np.ndarray,
        parents: Sequence[int],
        asked: Sequence[int],
    ) -> torch.Tensor:
        """Run L tokens of every row; the logits [asked, V] of what follows some of the B x L tokens, fp32.

        Args:
            ids_BL: Tokens.
            seen_BT: 1 for each token so far that the row sees, padding 0, these tokens included.
            positions_BL: The tokens' positions.
            parents: The rows of the state that these rows go on from.
            asked: Places among the B x L tokens, row after row.
        """
        self._request.infer(
            {
                "input_ids": ids_BL.astype(np.int64),
                "attention_mask": seen_BT.astype(np.int64),
                "position_ids": positions_BL.astype(np.int64),
                "beam_idx": np.array(parents, dtype=np.int32),
                "asked": np.array(asked, dtype=np.int64),
            }
        )
        return torch.from_numpy(np.array(self._request.get_tensor("logits").data, dtype=np.float32))

    def edges(
        self, rows: Sequence[Sequence[int]], tree: ChoiceTree, paths: Sequence[Sequence[int]]
    ) -> list[torch.Tensor]:
        """Of some rows, by running every path after every row."""
        filled = _Rows(self, rows)
        edges = [torch.zeros(len(tree.token_ids)) for _ in rows]
        for edges_N, logits_V in zip(edges, filled.prefill(), strict=True):
            fill_edges(edges_N, tree, 0, logits_V)
        if not paths[0]:
            return edges
        width = max(map(len, paths))
        asked_of = {node: (number, place) for number, path in enumerate(paths) for place, node in enumerate(path)}
        logits_TV = filled.branch(
            [[tree.token_ids[node] for node in path] for path in paths],
            [
                (row * len(paths) + number) * width + place
                for row in range(len(rows))
                for number, place in asked_of.values()
            ],
        )
        for edges_N, logits_NV in zip(edges, logits_TV.split(len(asked_of)), strict=True):
            for node, logits_V in zip(asked_of, logits_NV, strict=True):
                fill_edges(edges_N, tree, node, logits_V)
        return edges


class _Rows:
    """Some rows in the state: padded at the beginning of each call, so that each call's last token is a real one."""

    def __init__(self, states: _States, rows: Sequence[Sequence[int]]) -> None:
        self._states, self._rows = states, rows
        self._numbers = list(range(len(rows)))
        """The rows in the state, in order."""
        self._lengths = np.array([len(row) for row in rows])
        self._seen_BT = np.zeros((len(rows), 0), dtype=np.int64)

    def prefill(self) -> torch.Tensor:
        """Run the prompts, what they begin with once; the logits [B, V] of what follows each, fp32."""
        rows, count = self._rows, len(self._rows)
        shared = shared_length(common_prefix_length(rows), count)
        self._states.reset()
        parents = list(range(count))
        if shared:
            places_1L = np.arange(shared)[None]
            self._states.run(np.array([rows[0][:shared]]), np.ones_like(places_1L), places_1L, [0], [shared - 1])
            parents = [0] * count
            self._seen_BT = np.ones((count, shared), dtype=np.int64)
        return self._run([row[shared:] for row in rows], np.full(count, shared), parents)

    def go_on(self, new: Sequence[GoesOn]) -> torch.Tensor:
        """Run new tokens of some rows; the others leave the state."""
        places = {number: place for place, number in enumerate(self._numbers)}
        parents = [places[one.row] for one in new]
        self._numbers = [one.row for one in new]
        self._seen_BT, self._lengths = self._seen_BT[parents], self._lengths[parents]
        before = self._lengths.copy()
        self._lengths += np.array([len(one.tokens) for one in new])
        return self._run([one.tokens for one in new], before, parents)

    def branch(self, paths: Sequence[Sequence[int]], asked: Sequence[int]) -> torch.Tensor:
        """Run every path after every row, padded at the end; the logits of what follows some of the tokens."""
        width, count = max(map(len, paths)), len(paths)
        parents = [row for row in range(len(self._lengths)) for _ in paths]
        ids_PL, seen_PL = np.zeros((count, width), dtype=np.int64), np.zeros((count, width), dtype=np.int64)
        for number, path in enumerate(paths):
            ids_PL[number, : len(path)], seen_PL[number, : len(path)] = path, 1
        repeats = len(self._lengths)
        seen_BT = np.concatenate([self._seen_BT[parents], np.tile(seen_PL, (repeats, 1))], axis=1)
        positions_BL = self._lengths[parents][:, None] + np.arange(width)
        return self._states.run(np.tile(ids_PL, (repeats, 1)), seen_BT, positions_BL, parents, asked)

    def _run(self, tokens: Sequence[Sequence[int]], starts: np.ndarray, parents: Sequence[int]) -> torch.Tensor:
        count, width = len(tokens), max(map(len, tokens))
        ids_BL, seen_BL = np.zeros((count, width), dtype=np.int64), np.zeros((count, width), dtype=np.int64)
        positions_BL = np.zeros((count, width), dtype=np.int64)
        for place, (row, start) in enumerate(zip(tokens, starts, strict=True)):
            own = slice(width - len(row), None)
            ids_BL[place, own], seen_BL[place, own] = row, 1
            positions_BL[place, own] = np.arange(start, start + len(row))
        self._seen_BT = np.concatenate([self._seen_BT, seen_BL], axis=1)
        asked = [place * width + width - 1 for place in range(count)]
        return self._states.run(ids_BL, self._seen_BT, positions_BL, parents, asked)


def _ask_for_some(ov: Any, model: Any) -> None:
    """Give the model an input `asked`, the tokens whose logits are wanted: those of all would take longer than the layers.

    Raises:
        ModelError: The head is not where it should be.
    """
    opset = ov.opset13
    head = model.output("logits").get_node().input_value(0).get_node()
    if head.get_type_name() != "MatMul":
        raise ModelError("the head of the model that OpenVINO made is not known", remedy="leave --answer-with out")
    hidden = head.input_value(0)
    asked = opset.parameter([-1], ov.Type.i64, name="asked")
    asked.output(0).set_names({"asked"})
    width = hidden.get_partial_shape()[2].get_length()
    states_TE = opset.reshape(hidden, opset.constant(np.array([-1, width], dtype=np.int64)), special_zero=False)
    chosen_E = opset.gather(states_TE, asked, opset.constant(np.int64(0)))
    head.input(0).replace_source_output(chosen_E.output(0))
    model.add_parameters([asked])
    model.validate_nodes_and_infer_types()


def import_openvino() -> tuple[Any, Any]:
    """The modules openvino and openvino_genai.

    Raises:
        ConfigError: They are not installed.
    """
    try:
        ov = importlib.import_module("openvino")
        importlib.import_module("openvino.opset13")
        return ov, importlib.import_module("openvino_genai")
    except (ImportError, OSError) as error:
        raise ConfigError(
            f"OpenVINO GenAI is not installed here, or does not load ({str(error).splitlines()[0]})",
            where="--answer-with openvino",
            remedy="pip install 'fettle-llm[openvino]'; or leave --answer-with out",
        ) from error
