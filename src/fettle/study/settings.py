"""What a study is told. One record serves the command line, the Python API and the report."""

from __future__ import annotations

from dataclasses import MISSING, Field, asdict, dataclass, field, fields, is_dataclass, replace
from enum import Enum
from pathlib import Path

from fettle.answering.address import public_address, require_http_address
from fettle.answering.answer_with import AnswerWith
from fettle.economics_records import Assumptions
from fettle.errors import ConfigError, require_range
from fettle.examples.column_names import ColumnMapping
from fettle.examples.split import SplitSizes
from fettle.forgetting.replay import ReplaySettings
from fettle.forgetting.settings import ForgettingSettings
from fettle.judging.settings import TokenPrices
from fettle.models.precision import Precision
from fettle.records import Task, TaskKind
from fettle.retrieval.records import PassageSettings, SearchSettings
from fettle.retrieval.rerankers.registry import LATE_INTERACTION
from fettle.scoring.grader_files import grader_reference
from fettle.store.keys import DEFAULT_PROJECT
from fettle.training.settings import MAX_SEED, TrainingSettings

STRENGTHS = (0.25, 0.5, 0.75, 1.0)
"""At which an adapter is tried on validation."""
CURVE_PARTS = (0.25, 0.5)
"""Shares of the training examples that a learning curve trains models of their own on."""
SEARCH_PARTS = (0.25, 0.5)
"""Shares of the training examples that the trials of a settings search get, round by round."""
_MOST_SAMPLES = 20
_NUM_TRIED = {TaskKind.LABELS: 200}
_NUM_TRIED_WRITTEN = 64
SEARCHED_EPOCHS = (1, 2, 3, 4, 6)
SEARCHED_RANKS = (8, 16, 32, 64)


def num_tried_examples(task: Task) -> int:
    """How many validation examples, at most, answer what is tried: labels are chosen in one pass, texts are written."""
    return _NUM_TRIED.get(task.kind, _NUM_TRIED_WRITTEN)


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteModel:
    """A model behind an OpenAI-compatible endpoint; the key comes from FETTLE_REMOTE_API_KEY."""

    url: str
    """Base URL, usually ending in /v1. User name, password and query in it are sent, and never recorded."""
    model: str

    def __post_init__(self) -> None:
        """Refuse what cannot be asked.

        Raises:
            ConfigError: The URL is no http(s) URL, or the model has no name.
        """
        require_http_address(self.url)
        if not self.model.strip():
            raise ConfigError("the name of the remote model is empty", where="--remote-model", remedy="give its name")


@dataclass(frozen=True, slots=True, kw_only=True)
class DocumentSettings:
    """The documents that contenders with retrieval answer from."""

    place: str | None = None
    """A file, a folder or an fsspec URL; None: `index` is given."""
    index: str | None = None
    """The name or id of an index that is there; None: `place` is given."""
    embedder: str | None = None
    """What makes the vectors of `place`; None: the packaged one."""
    passages: PassageSettings | None = None
    """How the documents of `place` are cut; None: as they were before, or by default."""
    search: SearchSettings = field(default_factory=lambda: SearchSettings(reranker=LATE_INTERACTION))
    trains: bool = True
    """Whether a model is trained with passages in its prompts, as a tuned contender of its own."""

    def __post_init__(self) -> None:
        """Refuse what names no documents, or two.

        Raises:
            ConfigError: Not one of the two is given, or both, or what belongs to a place is given with an index.
        """
        if (self.place is None) == (self.index is None):
            raise ConfigError("--documents and --index exclude each other", remedy="give one of them")
        if self.index is not None and (self.embedder is not None or self.passages is not None):
            raise ConfigError(
                "an index that is there has its embedder and its passages already",
                where="--index",
                remedy="leave out --embedder, --passage-tokens and --overlap-tokens, or give --documents",
            )

    @property
    def described(self) -> str:
        """The place or the index, as people know it."""
        return self.place or f"index {self.index}"


@dataclass(frozen=True, slots=True, kw_only=True)
class RoutingSettings:
    """What the router made of the tuned contender and the remote one has to keep."""

    target: float | None = None
    """Mean primary score, above 0 and below 1; None: a share of what the remote contender reaches on validation."""
    level: float = 0.95
    """Confidence with which it is promised."""
    num_samples: int = 0
    """Further answers that the tuned contender draws to each validation and test example, 2 to 20, to see how far they agree."""

    def __post_init__(self) -> None:
        """Refuse what cannot be promised.

        Raises:
            ConfigError: A value is out of its range.
        """
        if self.target is not None:
            require_range("target", self.target, low=0.01, high=0.999)
        require_range("level", self.level, low=0.5, high=0.999)
        if self.num_samples:
            require_range("num_samples", self.num_samples, low=2, high=_MOST_SAMPLES)


@dataclass(frozen=True, slots=True, kw_only=True)
class StudySettings:
    """One study. Only `examples` is needed; everything else is derived from the data where it is left out."""

    examples: Path
    """File or folder of labelled examples; the training examples where `test` is given too. `example:triage`, `example:routing` and
    `example:replies` name the bundled ones."""
    columns: ColumnMapping | None = None
    """Which columns hold input and answer; None: the format or the column names say it."""
    encoding: str | None = None
    """What text files are encoded in; None: told from their bytes."""
    valid: Path | None = None
    """The user's own validation file; None: cut from the examples."""
    test: Path | None = None
    """The user's own test file; None: cut from the examples."""
    sizes: SplitSizes = field(default_factory=SplitSizes)
    instruction: str | None = None
    """The instruction that every contender is given; None: the examples' own, else one derived from the data."""
    task: TaskKind | None = None
    """None: recognised from the answers."""
    graders: tuple[str | Path, ...] = ()
    """Names of built-in graders, and JSON files with graders of OpenAI's API. The first decides, the others are shown; the task's
    own are shown as well, and decide where none is named."""
    grader_url: str | None = None
    """Base URL of the endpoint that graders ask their models at; None: none of them asks one. What may be secret in it is sent, and
    never recorded."""
    grader_prices: TokenPrices | None = None
    """What its tokens cost; None: no cost of grading is told."""
    model: str | None = None
    """The model to tune; None: the embedded one."""
    precision: Precision = Precision.AUTO
    answer_with: AnswerWith = field(default_factory=AnswerWith)
    """The engine of the base model and of what was trained."""
    remote: RemoteModel | None = None
    routing: RoutingSettings = field(default_factory=RoutingSettings)
    """Of the router that is made where there is a remote contender."""
    documents: DocumentSettings | None = None
    """What contenders with retrieval answer from; None: there are none."""
    training: TrainingSettings = field(default_factory=TrainingSettings)
    """Its seed is that of the study, whatever is given here."""
    price_per_hour: float | None = None
    """What the machine costs an hour, in whatever currency; None: no cost of the run is told, and `economics` looks it up."""
    economics: Assumptions = field(default_factory=Assumptions)
    """What is said of money: prices, traffic, wages, what answers are worth."""
    worthwhile: float = 0.01
    """Smallest difference in mean score, in [0, 1], that is worth a tuned model."""
    replay: ReplaySettings = field(default_factory=ReplaySettings)
    """General examples among the training examples, against forgetting."""
    num_trials: int | None = None
    """Settings, the given ones among them, that are tried on validation before the best are trained with; None: none are."""
    learning_curve: bool = False
    """Models trained on a quarter and on half of the examples answer the test split too, to tell what more would bring."""
    forgetting: ForgettingSettings | None = field(default_factory=ForgettingSettings)
    """How what was forgotten is looked for; None: it is not."""
    max_new_tokens: int | None = None
    """Longest answer, tokens; None: twice the longest training answer, of JSON half as much again."""
    leave_out_long: bool = False
    """Leave out examples that are longer than the model takes, instead of refusing them."""
    seed: int = 0
    """Of the split, the shots, the adapter and the order of examples."""
    out: Path | None = None
    """Folder of the study; None: one under FETTLE_HOME, named after the examples and these settings."""
    fresh: bool = False
    """Start over, even where an earlier run of this study can be continued."""
    project: str = DEFAULT_PROJECT
    """Whose index is searched or made, and whose the study's job and its model are; made where there is none."""

    def __post_init__(self) -> None:
        """Refuse what no study can be made of.

        Raises:
            ConfigError: A value is out of its range.
        """
        for name in ("examples", "valid", "test", "out"):  # a text is as good as a path
            value = getattr(self, name)
            object.__setattr__(self, name, value if value is None else Path(value))
        if self.instruction is not None and not self.instruction.strip():
            raise ConfigError("the instruction is empty", remedy="write one, or leave it out: one is then derived")
        if self.num_trials is not None:
            require_range("num_trials", self.num_trials, low=2)
        if (self.num_trials or self.learning_curve) and self.training.shard:
            raise ConfigError(
                "a divided model answers too slowly for a settings search or a learning curve",
                where="--search, --learning-curve",
                remedy="leave them out, or --shard",
            )
        named = (self.graders,) if isinstance(self.graders, str | Path) else self.graders
        object.__setattr__(self, "graders", tuple(grader_reference(one) for one in named))
        if self.grader_url is not None:
            require_http_address(self.grader_url, where="--grader-url")
        if (self.routing.target is not None or self.routing.num_samples) and self.remote is None:
            raise ConfigError(
                "a router needs a large model to send hard requests to",
                where="--route-samples" if self.routing.target is None else "--route-to-target",
                remedy="name one with --remote and --remote-model, or leave it out",
            )
        require_range("worthwhile", self.worthwhile, low=0, high=1)
        require_range("seed", self.seed, low=0, high=MAX_SEED)
        if self.price_per_hour is not None:
            require_range("price_per_hour", self.price_per_hour, low=0)
        object.__setattr__(self, "training", replace(self.training, seed=self.seed))
        if self.max_new_tokens is not None:
            require_range("max_new_tokens", self.max_new_tokens, low=1)

    def describe(self) -> str:
        """The call that makes them, with what differs from the defaults.

        >>> StudySettings(examples=Path("a.csv"), seed=7).describe()
        "StudySettings(examples='a.csv', seed=7)"
        """
        return _as_code(self)

    def key_parts(self) -> dict[str, object]:
        """Everything that can change the result, as JSON values: what decides whether a run can be continued.

        Files stand here by name alone, so that the same file is the same study from wherever it is named; their content is
        hashed beside. Servers are known by their public addresses: a changed password is the same study.
        """
        parts = asdict(self)
        if self.remote is not None:
            parts["remote"]["url"] = public_address(self.remote.url)
        if self.grader_url is not None:
            parts["grader_url"] = public_address(self.grader_url)
        if self.answer_with.url is not None:
            parts["answer_with"]["url"] = public_address(self.answer_with.url)
        if self.documents is not None:  # what they hold is hashed beside
            del parts["documents"]["place"], parts["documents"]["index"]
        for irrelevant in (
            "out",
            "fresh",
            "price_per_hour",
            "grader_prices",
            "routing",
            "economics",
            "project",
        ):  # read once all is answered, or who may see it
            del parts[irrelevant]
        for irrelevant in (
            "processes",
            "shard",
            "checkpointing",
            "micro_batch_tokens",
        ):  # beyond rounding; a run may go on with others
            del parts["training"][irrelevant]
        return {name: _plain(value) for name, value in parts.items()}


def _as_code(value: object) -> str:
    if isinstance(value, Enum):
        return f"{type(value).__name__}.{value.name}"
    if is_dataclass(value):
        given = [one.name for one in fields(value) if getattr(value, one.name) != _default_of(one)]
        # A training's seed is the study's.
        names = [name for name in given if not (isinstance(value, TrainingSettings) and name == "seed")]
        codes = {name: _as_code(getattr(value, name)) for name in names}
        told = [f"{name}={code}" for name, code in codes.items() if code != "TrainingSettings()"]
        return f"{type(value).__name__}({', '.join(told)})"
    if isinstance(value, tuple):
        return f"({', '.join(map(_as_code, value))}{',' if len(value) == 1 else ''})"
    return repr(str(value) if isinstance(value, Path) else value)


def _default_of(field_: Field[object]) -> object:
    return field_.default if field_.default_factory is MISSING else field_.default_factory()


def _plain(value: object) -> object:
    if isinstance(value, dict):
        return {str(name): _plain(inner) for name, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(inner) for inner in value]
    return value.name if isinstance(value, Path) else value
