"""Rounding to 4 bits so that a layer's outputs change least, not its weights: what one column loses is made up by those after it.

Rounding each weight by itself loses more than a small tuning changed: of the embedded model tuned on 200 examples nothing was left.
The outputs that count are those on text like the model's own, so it writes the calibration text itself; no examples are needed.

Source: GPTQ (Frantar et al. 2022), with the columns in their order and the blocks of `Q4_1`. Unlike there, the inputs of all layers
are those of the model before any rounding.

Shapes: O outputs, I inputs of a layer, B = 32 columns of a block, N tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from fettle.export.gguf_tensors import TensorPlan
from fettle.export.merge import MergedModel

if TYPE_CHECKING:
    import numpy as np
    import torch

_BLOCK, _LARGEST = 32, 15
_NUM_ROWS, _NUM_TOKENS = 32, 160
_SEED = 0
_DAMPING = 0.01
"""Of the mean square input, added to each: inputs that hardly occur must not be made use of."""
_SAME_INPUT = {"k_proj": "q_proj", "v_proj": "q_proj", "up_proj": "gate_proj"}


def rounded_with_feedback(
    merged: MergedModel, plans: Sequence[TensorPlan], *, on_tensor: Callable[[int], None]
) -> dict[str, np.ndarray]:
    """The blocks [O, bytes of a row] of every weight that is stored as Q4_1, by its name in the model.

    Args:
        merged: The model; it stays as it is.
        plans: Its tensors; those of other types are left out.
        on_tensor: Called with the number of weights that are done.
    """
    import gguf

    chosen = [plan for plan in plans if plan.kind is gguf.GGMLQuantizationType.Q4_1]
    if not chosen:
        return {}
    squares = _input_squares(merged, [plan.source.removesuffix(".weight") for plan in chosen])
    weights, blocks = merged.model.state_dict(), {}
    for number, plan in enumerate(chosen, start=1):
        squares_II = squares[_measured_at(plan.source.removesuffix(".weight"))]
        blocks[plan.source] = _rounded(weights[plan.source].detach().float().cpu(), squares_II)
        on_tensor(number)
    return blocks


def _input_squares(merged: MergedModel, layers: Sequence[str]) -> Mapping[str, torch.Tensor]:
    """X'X [I, I] of the inputs X [N, I] of some linear layers, on text that the model wrote, by the layer's name."""
    import torch

    squares: dict[str, torch.Tensor] = {}

    def watch(name: str) -> Any:
        def note(_module: Any, inputs: tuple[torch.Tensor, ...]) -> None:
            x_NI = inputs[0].reshape(-1, inputs[0].shape[-1]).float()
            added = (x_NI.T @ x_NI).cpu()
            squares[name] = squares[name] + added if name in squares else added

        return note

    measured = dict.fromkeys(_measured_at(layer) for layer in layers)
    texts = _own_text(merged)
    hooks = [merged.model.get_submodule(name).register_forward_pre_hook(watch(name)) for name in measured]
    try:
        with torch.no_grad():
            for ids_T in texts:
                merged.model(input_ids=ids_T[None], use_cache=False)
    finally:
        for hook in hooks:
            hook.remove()
    return squares


def _own_text(merged: MergedModel) -> torch.Tensor:
    """Token ids of conversations that the model writes, from what all of them begin with."""
    import torch

    places = enumerate(zip(*merged.rows, strict=False))
    num_shared = next((place for place, ids in places if len(set(ids)) > 1), 1)
    start = torch.tensor([merged.rows[0][: max(num_shared, 1)]] * _NUM_ROWS, device=merged.model.device)
    length = max(min(_NUM_TOKENS, merged.loaded.max_tokens - start.shape[1]), 1)
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(_SEED)
        return merged.model.generate(  # pyright: ignore[reportCallIssue, reportReturnType] (generation is mixed in)
            start,
            attention_mask=torch.ones_like(start),
            min_new_tokens=length,
            max_new_tokens=length,
            do_sample=True,
            temperature=1.0,
            top_k=0,
            top_p=1.0,
            pad_token_id=merged.tokenizer.eos_token_id,
        )


def _measured_at(layer: str) -> str:
    """Layers that share their input are measured at one of them."""
    parent, _, name = layer.rpartition(".")
    return f"{parent}.{_SAME_INPUT.get(name, name)}"


def _rounded(weight_OI: torch.Tensor, squares_II: torch.Tensor) -> np.ndarray:
    import numpy as np
    import torch

    remaining_OI, factor_II = weight_OI.clone(), _inverse_factor(squares_II)
    blocks = []
    for start in range(0, weight_OI.shape[1], _BLOCK):
        end = start + _BLOCK
        block_OB = remaining_OI[:, start:end]
        low_O, high_O = block_OB.amin(1), block_OB.amax(1)
        step_O, low_O = ((high_O - low_O) / _LARGEST).half().float(), low_O.half().float()
        per_step_O = torch.where(step_O == 0, 0.0, 1 / step_O)
        errors_OB, steps_OB = torch.zeros_like(block_OB), torch.zeros_like(block_OB)
        for column in range(_BLOCK):
            value_O = block_OB[:, column]
            steps_OB[:, column] = ((value_O - low_O) * per_step_O).round().clamp(0, _LARGEST)
            lost_O = value_O - (steps_OB[:, column] * step_O + low_O)
            errors_OB[:, column] = lost_O / factor_II[start + column, start + column]
            block_OB[:, column + 1 :] -= torch.outer(
                errors_OB[:, column], factor_II[start + column, start + column + 1 : end]
            )
        remaining_OI[:, end:] -= errors_OB @ factor_II[start:end, end:]
        blocks.append(_packed(step_O, low_O, steps_OB))
    return np.concatenate(blocks, axis=1)


def _inverse_factor(squares_II: torch.Tensor) -> torch.Tensor:
    """The upper Cholesky factor of the inverse of the damped squares [I, I], fp32."""
    import torch

    damped = squares_II.double()
    mean = damped.diagonal().mean()
    damped.diagonal().add_(_DAMPING * mean if mean > 0 else 1.0)
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(damped))
    return torch.linalg.cholesky(inverse, upper=True).float()


def _packed(step_O: torch.Tensor, low_O: torch.Tensor, steps_OB: torch.Tensor) -> np.ndarray:
    """One block of each row [O, 20 bytes] as `Q4_1` has it: step, minimum, then values i and i + 16 in one byte."""
    import numpy as np

    halves = steps_OB.numpy().astype(np.uint8).reshape(-1, 2, _BLOCK // 2)
    scales = [values.numpy().astype(np.float16)[:, None].view(np.uint8) for values in (step_O, low_O)]
    return np.concatenate([*scales, halves[:, 0] | (halves[:, 1] << 4)], axis=1)
