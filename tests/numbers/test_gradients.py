"""Loss and gradients of a packed step against the plain way: one example at a time through the model's own forward."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from fettle.models.adapter import LoraSettings, LoraVariant, new_adapter, unload_adapters
from fettle.models.prefix_tree import prefix_tree
from fettle.records import TokenisedExample
from fettle.training.accumulate import add_gradients, mean_loss, summed_loss
from fettle.training.equal_calls import add_gradients_in_equal_calls
from fettle.training.sft import input_tokens
from tiny_models import FAMILIES

RELATIVE_TOLERANCE = 2e-5


def row(id_: str, prefix: Sequence[int], rest: Sequence[int], trained: Sequence[bool]) -> TokenisedExample:
    flags = (False,) * len(prefix) + tuple(trained)
    return TokenisedExample(example_id=id_, token_ids=(*prefix, *rest), is_trained=flags)


def ragged_rows(*, num_shared: int, seed: int) -> list[TokenisedExample]:
    """Rows of very different lengths after a common prefix; answers of one token, of many, and in two stretches."""
    random = np.random.default_rng(seed)
    prefix = random.integers(4, 400, num_shared).tolist()
    rows = []
    for number, (num_prompt, num_answer) in enumerate([(3, 1), (9, 4), (2, 12), (21, 1), (5, 2), (4, 30), (3, 3)]):
        rest = random.integers(4, 400, num_prompt + num_answer).tolist()
        trained = [False] * num_prompt + [True] * num_answer
        if number == 2:  # a turn with weight 0 between two that are trained
            trained[5:9] = [False] * 4
        rows.append(row(f"r{number}", prefix, rest, trained))
    return rows


def plain_loss(model: Any, example: TokenisedExample) -> torch.Tensor:
    """The definition: minus the log-probability of each trained token given all before it."""
    ids = torch.tensor([example.token_ids], device=model.device)
    log_probs = model(input_ids=ids, use_cache=False).logits[0].float().log_softmax(-1)
    places = [place for place, is_trained in enumerate(example.is_trained) if is_trained]
    return -sum(log_probs[place - 1, example.token_ids[place]] for place in places)  # pyright: ignore[reportReturnType]


def plain_num_right(model: Any, example: TokenisedExample) -> int:
    """The definition: the trained tokens that are what greedy decoding would write after all before them."""
    with torch.no_grad():
        greedy = model(input_ids=torch.tensor([example.token_ids]), use_cache=False).logits[0].argmax(-1).tolist()
    return sum(
        greedy[place - 1] == example.token_ids[place] for place, trained in enumerate(example.is_trained) if trained
    )


def gradients(peft: Any) -> dict[str, torch.Tensor]:
    found = {name: p.grad.clone() for name, p in peft.named_parameters() if p.requires_grad and p.grad is not None}
    peft.zero_grad(set_to_none=True)
    return found


@pytest.fixture
def adapted(tiny_model: Callable[[str], Any], request: pytest.FixtureRequest) -> Any:
    """A tiny model with a random adapter on it, so that both of its factors have gradients: `family`, or `(family, variant)`."""
    family, variant = (request.param, LoraVariant.LORA) if isinstance(request.param, str) else request.param
    loaded = tiny_model(family)
    peft = new_adapter(loaded, LoraSettings(rank=4, alpha=8, variant=variant), seed=1, name="tuned")
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in peft.parameters():
            if parameter.requires_grad:
                parameter.copy_(0.1 * torch.randn(parameter.shape, generator=generator))
    yield loaded.model, peft
    unload_adapters(peft)
    loaded.model.requires_grad_(requires_grad=False)


@pytest.mark.parametrize(
    "adapted",
    [*FAMILIES, ("llama", LoraVariant.RSLORA), ("llama", LoraVariant.DORA), ("gemma3", LoraVariant.DORA)],
    indirect=True,
)
@pytest.mark.parametrize(
    ("num_shared", "max_tokens"),
    [(0, 10_000), (0, 40), (20, 10_000), (20, 25)],
    ids=["separate", "separate-in-parts", "shared-prefix", "shared-prefix-in-parts"],
)
def test_a_step_equals_one_example_at_a_time(adapted: Any, num_shared: int, max_tokens: int) -> None:
    model, peft = adapted
    examples = ragged_rows(num_shared=num_shared, seed=num_shared)

    total, num_tokens, num_right = add_gradients(model, examples, max_tokens=max_tokens)
    packed = gradients(peft)

    expected = 0.0
    for example in examples:
        loss = plain_loss(peft, example)
        loss.backward()
        expected += float(loss.detach())
    plain = gradients(peft)

    assert num_tokens == sum(example.num_trained_tokens for example in examples)
    assert num_right == sum(plain_num_right(peft, example) for example in examples)
    assert total == pytest.approx(expected, rel=1e-5)
    assert packed.keys() == plain.keys()
    assert len(plain) >= 2 * 4  # both factors of at least four linear layers
    for name, reference in plain.items():
        assert float(reference.norm()) > 0, name
        assert float((packed[name] - reference).norm() / reference.norm()) < RELATIVE_TOLERANCE, name


@pytest.mark.parametrize("adapted", ["llama", "gemma2_narrow", "qwen3", "mistral_narrow"], indirect=True)
@pytest.mark.parametrize("num_shared", [0, 300], ids=["separate", "long-shared-prefix"])
def test_rows_longer_than_a_block_of_queries_and_rows_of_one_token(adapted: Any, num_shared: int) -> None:
    model, peft = adapted
    random = np.random.default_rng(5)
    prefix = random.integers(4, 400, num_shared).tolist()
    lengths = [600, 257, 256, 1] if num_shared else [600, 257, 256, 2]
    rests = [random.integers(4, 400, length).tolist() for length in lengths]
    rests[-1] = rests[0][:1] if num_shared else rests[-1]
    examples = [row(str(number), prefix, rest, [*[False] * (len(rest) - 1), True]) for number, rest in enumerate(rests)]
    total, *_ = add_gradients(model, examples, max_tokens=10_000)
    packed = gradients(peft)
    losses = [plain_loss(peft, example) for example in examples]
    sum(losses).backward()  # pyright: ignore[reportAttributeAccessIssue] (a tensor)
    assert total == pytest.approx(sum(float(loss.detach()) for loss in losses), rel=1e-5)
    for name, reference in gradients(peft).items():
        assert float((packed[name] - reference).norm() / reference.norm()) < RELATIVE_TOLERANCE, name


@pytest.mark.parametrize("adapted", ["llama"], indirect=True)
def test_rows_that_are_alike_but_for_one_answer_token(adapted: Any) -> None:
    model, peft = adapted
    examples = [row(str(token), range(30, 60), [token], [True]) for token in (7, 8, 7)]
    total, num_tokens, _ = add_gradients(model, examples, max_tokens=1000)
    packed = gradients(peft)
    losses = [plain_loss(peft, example) for example in examples]
    sum(losses).backward()  # pyright: ignore[reportAttributeAccessIssue] (a tensor)
    assert num_tokens == 3
    assert total == pytest.approx(sum(float(loss.detach()) for loss in losses), rel=1e-5)
    for name, reference in gradients(peft).items():
        assert float((packed[name] - reference).norm() / reference.norm()) < RELATIVE_TOLERANCE, name


@pytest.mark.parametrize("adapted", ["llama", "mistral_narrow"], indirect=True)
def test_trained_token_inside_the_common_prefix_is_not_lost(adapted: Any) -> None:
    # All rows share 20 tokens of which the twelfth carries loss, in all three of them.
    model, _peft = adapted
    trained = [place == 11 for place in range(20)] + [True, True]
    examples = [row(str(n), (), [*range(40, 60), 5 + n, 9], trained) for n in range(3)]
    total, num_tokens, _ = add_gradients(model, examples, max_tokens=1000)
    assert num_tokens == 9
    assert total == pytest.approx(sum(float(plain_loss(model, example).detach()) for example in examples), rel=1e-5)


def family_tree(*, seed: int) -> list[TokenisedExample]:
    """Rows that share prefixes in three levels, some of whose trained tokens lie in what they share.

    An instruction common to all but one; conversations that go on from each other, with answers trained in each of them; a pair
    of answers to one prompt; samples of one prompt; a row twice; a row of other tokens altogether.
    """
    random = np.random.default_rng(seed)

    def tokens(count: int) -> list[int]:
        return random.integers(4, 400, count).tolist()

    instruction, first_turn, second_turn, prompt = tokens(40), tokens(37), tokens(35), tokens(50)
    is_answer = [False] * 20 + [True] * 17  # the first turn's answer
    answers = [tokens(length) for length in (30, 4, 1, 33)]
    return [
        row("turn-1", instruction, [*first_turn, 9], [*is_answer, True]),
        row("turn-2", [*instruction], [*first_turn, *second_turn], [*is_answer, *[False] * 15, *[True] * 20]),
        row("turn-2-only", [*instruction, *first_turn], second_turn, [False] * 15 + [True] * 20),
        row("turn-3", [*instruction, *first_turn, *second_turn], tokens(12), [False] * 9 + [True] * 3),
        *(
            row(f"answer-{n}", [*instruction, *prompt], answer, [True] * len(answer))
            for n, answer in enumerate([*answers, answers[0]])
        ),
        row("other", (), tokens(45), [False] * 40 + [True] * 5),
        row("instruction-alone", instruction[:32], instruction[32:], [False] * 4 + [True] * 4),
    ]


@pytest.mark.parametrize("adapted", FAMILIES, indirect=True)
@pytest.mark.parametrize("max_tokens", [10_000, 40], ids=["at-once", "in-parts"])
def test_a_tree_of_prefixes_equals_one_example_at_a_time(adapted: Any, max_tokens: int) -> None:
    model, peft = adapted
    examples = family_tree(seed=11)
    tree = prefix_tree([input_tokens(example) for example in examples])
    assert tree.num_levels == 3

    total, num_tokens, num_right = add_gradients(model, examples, max_tokens=max_tokens)
    packed = gradients(peft)
    losses = [plain_loss(peft, example) for example in examples]
    sum(losses).backward()  # pyright: ignore[reportAttributeAccessIssue] (a tensor)

    assert num_tokens == sum(example.num_trained_tokens for example in examples)
    assert num_right == sum(plain_num_right(peft, example) for example in examples)
    assert total == pytest.approx(sum(float(loss.detach()) for loss in losses), rel=1e-5)
    for name, reference in gradients(peft).items():
        assert float((packed[name] - reference).norm() / reference.norm()) < RELATIVE_TOLERANCE, name

    expected = total / num_tokens
    assert mean_loss(model, examples, batch_size=100, max_tokens=max_tokens) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("adapted", ["qwen3", "gemma3_narrow"], indirect=True)
def test_mean_loss_divides_once_over_all_batches(adapted: Any) -> None:
    model, _ = adapted
    examples = ragged_rows(num_shared=16, seed=3)
    expected = sum(float(plain_loss(model, e).detach()) for e in examples) / sum(e.num_trained_tokens for e in examples)
    for batch_size in (1, 3, 100):
        assert mean_loss(model, examples, batch_size=batch_size, max_tokens=60) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("adapted", ["llama"], indirect=True)
def test_gradient_does_not_depend_on_the_order_of_examples(adapted: Any) -> None:
    model, peft = adapted
    examples = [*ragged_rows(num_shared=12, seed=4), *family_tree(seed=4)]
    add_gradients(model, examples, max_tokens=60)
    forwards = gradients(peft)
    add_gradients(model, examples[::-1], max_tokens=60)
    for name, gradient in gradients(peft).items():
        assert torch.equal(gradient, forwards[name]), name


def greedy_rows(model: Any, prefix: Sequence[int], *, count: int) -> list[TokenisedExample]:
    """Rows of one prefix whose answers are partly what the model would write."""
    random = np.random.default_rng(3)
    rows = []
    for number in range(count):
        ids = [*prefix, *random.integers(4, 400, 1 + number % 3).tolist()]
        num_prompt = len(ids)
        for place in range(6):
            with torch.no_grad():
                likeliest = int(model(input_ids=torch.tensor([ids]), use_cache=False).logits[0, -1].argmax())
            ids.append(likeliest if place % 2 else int(random.integers(4, 400)))
        rows.append(row(f"g{number}", ids[:num_prompt], ids[num_prompt:], [True] * 6))
    return rows


@pytest.mark.parametrize("adapted", ["llama", "gemma2", "qwen3"], indirect=True)
@pytest.mark.parametrize("max_tokens", [10_000, 40], ids=["at-once", "in-parts"])
def test_right_tokens_are_counted_as_one_example_at_a_time(adapted: Any, max_tokens: int) -> None:
    # Two examples are alike, so that all their targets count twice; half of all answers' tokens are the likeliest.
    model, peft = adapted
    examples = greedy_rows(peft, range(30, 50), count=5)
    examples.append(replace(examples[0], example_id="again"))
    expected = sum(plain_num_right(peft, example) for example in examples)
    assert expected >= 18
    assert add_gradients(model, examples, max_tokens=max_tokens).num_right == expected
    assert summed_loss(model, examples, batch_size=4, max_tokens=max_tokens).num_right == expected
    assert add_gradients(model, examples, max_tokens=max_tokens, plainly=True).num_right == expected
    alone = add_gradients_in_equal_calls(model, examples, max_tokens=max_tokens, most=lambda number: number + 1)
    assert (alone.num_tokens, alone.num_right) == (36, expected)
