"""Examples to a training, a validation and a test part that share no question, however it is worded."""

from __future__ import annotations

import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

from fettle.errors import ConfigError, DataError
from fettle.examples.duplicates import cluster_by_id
from fettle.examples.leaks import without_leaks
from fettle.records import Example, Finding, Split, Task, TaskKind

MIN_EXAMPLES = 20
"""Fewest examples that are split: of fewer, not even five are left to test with."""
MIN_UNTAUGHT = 8
"""Fewest examples to validate and to test with that a model has not learned from: as many as are held out of `MIN_EXAMPLES`."""
MIN_TRAINING_EXAMPLES = 10
"""Fewest training examples in files of the user's own; the hosted fine-tuning services ask for as many."""
_DEFAULT_MAX_VALID = 300
_DEFAULT_MAX_TEST = 1000
_MAX_CLUSTER_SHARE = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class SplitSizes:
    """How large the parts shall be: a fraction in (0, 1), or a number of examples. A cluster is never cut to meet a size."""

    valid: float | int | None = None
    """None: 15 % of the examples, at most 300."""
    test: float | int | None = None
    """None: 25 % of the examples, at most 1,000."""
    train: int | None = None
    """None: all others."""


DEFAULT_SIZES = SplitSizes()


def split_examples(
    examples: Sequence[Example],
    task: Task,
    *,
    seed: int,
    sizes: SplitSizes = DEFAULT_SIZES,
    taught: Collection[str] = frozenset(),
) -> Split:
    """Split by clusters of near-duplicates, stratified by label.

    The result depends on the examples' content and the seed, not on the order of rows in the file. A label's first cluster goes to
    training, so that no label is tested that was never taught; clusters larger than half a held-out part go to training as well.
    So do the examples of `taught`, by their ids, whole clusters of them: a model that is studied has learned from them before.

    Raises:
        DataError: There are fewer than `MIN_EXAMPLES` examples or 3 clusters, or a label task has only one label.
        ConfigError: The sizes leave nothing for training.
    """
    _check_enough(examples, task, fewest=MIN_EXAMPLES)
    cluster_of = cluster_by_id(examples)
    parts = _parts(examples, cluster_of, sizes, taught, task=task, seed=seed)
    _check_parts(parts)
    return _split(parts["train"], parts["valid"], parts["test"], cluster_of, seed=seed, given_by_user=False)


def given_split(
    train: Sequence[Example],
    valid: Sequence[Example] | None,
    test: Sequence[Example],
    task: Task,
    *,
    seed: int,
    sizes: SplitSizes = DEFAULT_SIZES,
    taught: Collection[str] = frozenset(),
) -> tuple[Split, tuple[Finding, ...]]:
    """The user's own split, with leaks between its parts reported and left out of training (and validation), never of the test.

    A part of which `sizes` asks for less than there is keeps its labels' shares. The order of the files does not count: what stands
    first in a part is a sample of it.

    Args:
        train: Training examples.
        valid: Validation examples; None: cut from `train` by clusters, `sizes.valid` of it.
        test: Test examples. None of them is left out for a leak.
        task: What `recognise_task` said.
        seed: For cutting the validation part, and for drawing what `sizes` asks for.
        sizes: How many of each part to use; a fraction is one of that part.
        taught: Ids of training examples that no validation part may be cut from.

    Raises:
        DataError: A part is empty, too little is left, or a label task has only one label.
        ConfigError: A size asks for more than there is.
    """
    if not train or not test:
        raise DataError("a part of the split is empty", remedy="give a training and a test file with examples")
    train, valid, test = with_distinct_ids(train, valid, test)
    findings: list[Finding] = []
    train, leaks = without_leaks(train, test, "test")
    findings += leaks
    if valid is not None:
        valid, leaks = without_leaks(valid, test, "test")
        findings += leaks
        train, leaks = without_leaks(train, valid, "validation")
        findings += leaks
    _require_enough_left(train, findings, task)
    if valid is None:
        parts = _parts(train, cluster_by_id(train), replace(sizes, test=0), taught, task=task, seed=seed)
        train, valid = parts["train"], parts["valid"]
    else:
        train = _drawn(train, sizes.train, "training", task=task, seed=seed)
        valid = _drawn(valid, sizes.valid, "validation", task=task, seed=seed)
    test = _drawn(test, sizes.test, "test", task=task, seed=seed)
    if not train or not valid:
        raise DataError("nothing is left to train or to validate with", remedy="give files that do not overlap")
    train, valid, test = (sorted(part, key=lambda item: _shuffle_key(item, seed)) for part in (train, valid, test))
    cluster_of = cluster_by_id([*train, *valid, *test])
    return _split(train, valid, test, cluster_of, seed=seed, given_by_user=True), tuple(findings)


def _require_enough_left(train: Sequence[Example], findings: Sequence[Finding], task: Task) -> None:
    """Refuse what is too little to train with, and say so where it was enough before the leaks were left out."""
    if findings and len(train) < MIN_TRAINING_EXAMPLES:
        raise DataError(
            f"only {len(train)} training examples are left: {len(findings)} share a question or a group with the held-out files",
            where=findings[0].file,
            remedy="give files that do not overlap, or one file, which is then split without overlap",
        )
    try:
        _check_enough(train, task, fewest=MIN_TRAINING_EXAMPLES)
    except DataError as error:
        if not findings:
            raise
        problem = f"{error.problem}, after {len(findings)} that share a question or a group with the held-out files were left out"
        raise DataError(problem, where=findings[0].file, remedy="give files that do not overlap") from error


def describe_split(split: Split) -> str:
    """The sizes in words, to be shown before anything starts."""
    parts = {"training": split.train, "validation": split.valid, "test": split.test}
    sizes = ", ".join(f"{len(part)} {name}" for name, part in parts.items())
    how = "given by the user" if split.given_by_user else f"cut by near-duplicate clusters with seed {split.seed}"
    num_clusters = len(set(split.cluster_by_id.values()))
    return f"{sizes} ({how}; {len(split.cluster_by_id)} examples in {num_clusters} clusters)"


def _targets(num_examples: int, sizes: SplitSizes) -> dict[str, int]:
    """Examples wanted in each part; `unused` takes what is left over when `sizes.train` asks for fewer than there are."""
    valid = _count(
        sizes.valid, num_examples, "valid", default=min(_DEFAULT_MAX_VALID, max(1, round(0.15 * num_examples)))
    )
    test = _count(sizes.test, num_examples, "test", default=min(_DEFAULT_MAX_TEST, max(1, round(0.25 * num_examples))))
    left = num_examples - valid - test
    train = left if sizes.train is None else sizes.train
    if not 1 <= train <= left:
        raise ConfigError(
            f"{valid} validation and {test} test examples leave {left} of {num_examples} for training",
            remedy=f"ask for between 1 and {left} training examples" if left > 0 else "make the held-out parts smaller",
        )
    return {"train": train, "valid": valid, "test": test, "unused": left - train}


def _parts(
    examples: Sequence[Example],
    cluster_of: Mapping[str, int],
    sizes: SplitSizes,
    taught: Collection[str],
    *,
    task: Task,
    seed: int,
) -> dict[str, list[Example]]:
    """The parts, `taught` in training whatever the sizes ask for."""
    kept = [example for example in examples if example.id in taught]
    if not kept:
        return _assign(examples, cluster_of, _targets(len(examples), sizes), task=task, seed=seed)
    others = [example for example in examples if example.id not in taught]
    targets = _targets_beside(len(kept), len(others), sizes)
    labels = {_stratum(example, task) for example in kept}
    parts = _assign(others, cluster_of, targets, task=task, seed=seed, taught=labels)
    train = sorted([*parts["train"], *kept], key=lambda item: _shuffle_key(item, seed))
    return parts | {"train": list(_drawn(train, sizes.train, "training", task=task, seed=seed))}


def _targets_beside(num_kept: int, num_others: int, sizes: SplitSizes) -> dict[str, int]:
    """Examples wanted in each part of the others: what is wanted of all, or as much of that as there is.

    Raises:
        DataError: There are too few others.
        ConfigError: The sizes ask for more than there are.
    """
    if num_others < MIN_UNTAUGHT:
        raise DataError(
            f"{num_others} of {num_kept + num_others} examples are left that the model was not trained on, and at least "
            f"{MIN_UNTAUGHT} are needed",
            remedy="add examples that were in neither its training nor its validation file, nor nearly the same as one that was",
        )
    wanted = _targets(num_kept + num_others, replace(sizes, train=None))
    valid, test = wanted["valid"], wanted["test"]
    if valid + test > num_others:
        if sizes.valid is not None or sizes.test:
            raise ConfigError(
                f"{valid} validation and {test} test examples are asked for, and the model was trained on all but {num_others}",
                remedy="leave --valid-size and --test-size out, or add examples that it was not trained on",
            )
        valid = max(1, round(num_others * valid / (valid + test)))
        test = num_others - valid
    return {"train": num_others - valid - test, "valid": valid, "test": test, "unused": 0}


def _count(size: float | None, num_examples: int, name: str, *, default: int) -> int:
    if size is None:
        return default
    if size < 0 or (isinstance(size, float) and not 0 < size < 1):
        raise ConfigError(
            f"the {name} size must be a share between 0 and 1 or a whole number, not {size:g}",
            remedy="give 50 for 50 examples, or 0.2 for a fifth of them; without held-out examples nothing can be compared",
        )
    return max(1, round(size * num_examples)) if isinstance(size, float) else size


def _assign(
    examples: Sequence[Example],
    cluster_of: Mapping[str, int],
    targets: Mapping[str, int],
    *,
    task: Task,
    seed: int,
    taught: Collection[str] = frozenset(),
) -> dict[str, list[Example]]:
    """Clusters to parts, by carrying each part's claim from cluster to cluster and giving to the one with the largest.

    Sorted by label, this keeps every label's share and the totals right at once, to within a cluster. The labels of `taught` need
    no cluster in training any more.
    """
    members: dict[int, list[Example]] = defaultdict(list)
    for example in examples:
        members[cluster_of[example.id]].append(example)
    label_counts = Counter(_stratum(example, task) for example in examples)
    keyed = [
        (_cluster_stratum(items, task, label_counts), _cluster_key(items, seed), items) for items in members.values()
    ]
    keyed.sort(key=lambda entry: (label_counts[entry[0]], entry[0], entry[1]))
    shares = {part: Fraction(target, len(examples)) for part, target in targets.items() if target}
    largest = _MAX_CLUSTER_SHARE * min(target for part, target in targets.items() if target and part != "train")
    claims = dict.fromkeys(shares, Fraction(0))
    parts: dict[str, list[Example]] = {part: [] for part in targets}
    taught = set(taught)
    for stratum, _, items in keyed:
        for part, share in shares.items():
            claims[part] += share * len(items)
        labels = {_stratum(item, task) for item in items}
        must_train = not labels <= taught or len(items) > max(1, largest)
        part = "train" if must_train else max(claims, key=lambda name: (claims[name], name))
        claims[part] = claims.get(part, Fraction(0)) - len(items)
        parts[part].extend(sorted(items, key=_content_key))
        if part == "train":
            taught |= {stratum, *labels}
    return {part: sorted(items, key=lambda item: _shuffle_key(item, seed)) for part, items in parts.items()}


def _drawn(examples: Sequence[Example], size: float | None, name: str, *, task: Task, seed: int) -> Sequence[Example]:
    """`size` of the examples in their order, drawn evenly from the labels (systematic sampling); None: all of them."""
    count = _count(size, len(examples), name, default=len(examples))
    if not 1 <= count <= len(examples):
        raise ConfigError(
            f"{count} {name} examples are asked for, and there are {len(examples)}",
            remedy=f"ask for between 1 and {len(examples)}, or leave the size out",
        )
    by_label = sorted(examples, key=lambda item: (_stratum(item, task), _shuffle_key(item, seed)))
    kept = {by_label[index * len(examples) // count].id for index in range(count)}
    return [example for example in examples if example.id in kept]


def _stratum(example: Example, task: Task) -> str:
    return example.answer.strip() if task.kind is TaskKind.LABELS else ""


def _cluster_stratum(items: list[Example], task: Task, label_counts: Counter[str]) -> str:
    """The rarest label in the cluster: rare ones are dealt out first."""
    return min((_stratum(item, task) for item in items), key=lambda label: (label_counts[label], label))


def _content_key(example: Example) -> str:
    """A hash of what the example says, whatever it is called and wherever it stands."""
    turns = [
        (message.role, message.content, [call.arguments for call in message.tool_calls]) for message in example.messages
    ]
    return hashlib.sha256(json.dumps(turns).encode()).hexdigest()


def _cluster_key(items: Iterable[Example], seed: int) -> str:
    return hashlib.sha256(f"{seed}:{min(map(_content_key, items))}".encode()).hexdigest()


def _shuffle_key(example: Example, seed: int) -> tuple[str, str]:
    return hashlib.sha256(f"order:{seed}:{_content_key(example)}".encode()).hexdigest(), example.id


def _split(
    train: Sequence[Example],
    valid: Sequence[Example],
    test: Sequence[Example],
    cluster_of: Mapping[str, int],
    *,
    seed: int,
    given_by_user: bool,
) -> Split:
    used = {example.id: cluster_of[example.id] for example in (*train, *valid, *test)}
    return Split(
        train=tuple(train),
        valid=tuple(valid),
        test=tuple(test),
        cluster_by_id=used,
        seed=seed,
        given_by_user=given_by_user,
    )


def _check_enough(examples: Sequence[Example], task: Task, *, fewest: int) -> None:
    if len(examples) < fewest:
        raise DataError(
            f"expected at least {fewest} examples, and there are {len(examples)}",
            remedy="add examples; a few hundred are needed for a clear answer",
        )
    labels = {_stratum(example, task) for example in examples}
    if task.kind is TaskKind.LABELS and len(labels) < 2:
        raise DataError(
            f"every example has the label {next(iter(labels))!r}, so there is nothing to learn",
            remedy="add examples of other labels, or name another answer column with --answer",
        )


def _check_parts(parts: Mapping[str, Sequence[Example]]) -> None:
    if empty := [name for name in ("train", "valid", "test") if not parts[name]]:
        raise DataError(
            f"no examples are left for {' and '.join(empty)}: too many ask nearly the same, or every label is rare",
            remedy="add examples that differ, or give the three parts as files of your own",
        )


def with_distinct_ids(
    train: Sequence[Example], valid: Sequence[Example] | None, test: Sequence[Example]
) -> tuple[Sequence[Example], Sequence[Example] | None, Sequence[Example]]:
    """The parts, with ids that two of them share replaced by `<part>/<id>`."""
    counts = Counter(example.id for part in (train, valid or (), test) for example in part)

    def renamed(part: Sequence[Example], name: str) -> tuple[Example, ...]:
        return tuple(
            replace(example, id=f"{name}/{example.id}") if counts[example.id] > 1 else example for example in part
        )

    return renamed(train, "train"), None if valid is None else renamed(valid, "valid"), renamed(test, "test")
