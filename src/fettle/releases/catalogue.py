"""Who answers to a name: a model, the release in force, or a release by its number. The one place where this is decided.

It is decided once for each request: a request that has begun keeps its release, whatever is promoted or rolled back meanwhile.
"""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from fettle.answering.engine_pool import ServedModel
from fettle.errors import ConfigError, FettleError
from fettle.files import iter_files, sha256_of_file, sha256_of_json
from fettle.jobs.catalogue import StoreCatalogue
from fettle.models.precision import Precision
from fettle.releases.arms import Assigned, assigned
from fettle.releases.records import Release, ReleaseAnswered, ReleasedContender, Router
from fettle.releases.signing import ChangedReleaseError, VerifiedReleases
from fettle.store.challenges import open_challenge
from fettle.store.database import Store
from fettle.store.models import NoSuchModelError, TunedModel, find_model, folder_of
from fettle.store.releases import RawRelease, find_raw_release, has_releases, number_in_force

ROUTER = "router"
"""What a router is called among the kinds of contenders."""
_logger = logging.getLogger("fettle.releases")
_Stamp = tuple[str, int, int, int]
"""Path, time of change in nanoseconds, size in bytes and inode of a file."""
_NAME = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]{0,99})(?:@([1-9][0-9]{0,8}))?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Answering:
    """Who answers a request."""

    model: ServedModel | None
    """None: a router, or an endpoint."""
    contender: ReleasedContender | None = None
    """None: no release was asked for, but a model; or a router was."""
    release: ReleaseAnswered | None = None
    """None: no release was asked for, but a model."""
    router: Release | None = None
    """The release, where a router answers, or an endpoint does."""
    assigned: Assigned | None = None
    """The side of a challenge that the request is on; None: there is none."""


def require_release_name(name: str) -> None:
    """Refuse a name that could not be told from a model's, or that is no part of an address.

    Raises:
        ConfigError: It is such a name.
    """
    match = _NAME.fullmatch(name)
    if match is None or match[2] is not None:
        raise ConfigError(
            f"expected a name of letters, digits, dots, dashes and underscores, and it is {name[:100]!r}",
            where="NAME",
            remedy="name it after its task, such as triage",
        )


class ReleaseCatalogue:
    """Finds who answers to a name.

    That a release's content and weights are what was signed is shown at every request: hashed once, then compared letter by letter
    with what was hashed, of files their sizes and times.

    Args:
        store: Where models and releases are kept.
    """

    def __init__(self, store: Store) -> None:
        self._store, self._models = store, StoreCatalogue(store)
        self._verified = VerifiedReleases()
        self._stamps: dict[str, tuple[_Stamp, ...]] = {}
        """Of the files of releases whose weights were hashed, by the release's own hash."""
        self._lock = threading.Lock()

    def find(self, name: str, project_id: str, assignment_key: str | None = None) -> Answering:
        """Who answers to a name of a project.

        A challenger that cannot be asked is left out: the release in force answers, and the request is on no side.

        Args:
            name: A model's or a release's.
            project_id: Whose.
            assignment_key: What decides on which side of a challenge the request is (`releases.arms`); None: the release in force
                answers, whatever challenges it.

        Raises:
            NoSuchModelError: Nobody: there is no such model, and no release of this name is in force.
            NoSuchReleaseError: There is no release of this number.
            ChangedReleaseError: The release or its weights are not what was signed.
            ModelError: The model's files are not there.
        """
        raw, side = self._raw(name, project_id, assignment_key)
        if raw is None:
            return Answering(model=self._models.find(name, project_id))
        try:
            return replace(self._answering(self._verified.release(raw)), assigned=side)
        except FettleError as error:
            if side is None or not side.by_challenger:
                raise
            _logger.error("%s@%d challenges, and cannot be asked: %s", raw.name, raw.number, error.describe())
            return self.find(name, project_id)

    def _answering(self, release: Release) -> Answering:
        contender = release.contender
        kind = ROUTER if isinstance(contender, Router) else contender.kind.value
        answered = ReleaseAnswered(name=release.name, number=release.number, contender=kind)
        if isinstance(contender, Router):
            sides = (side for side in (contender.small, contender.large) if side.url is None)
            self._require_same_weights(release, [self._model_of(release, side) for side in sides])
            return Answering(model=None, release=answered, router=release)
        if contender.url is not None:
            return Answering(model=None, contender=contender, release=answered, router=release)
        model = self._model_of(release, contender)
        self._require_same_weights(release, [model])
        return Answering(model=model, contender=contender, release=answered)

    def model_of(self, contender: ReleasedContender, project_id: str) -> ServedModel:
        """The model of a contender of this server, as it answers.

        Raises:
            NoSuchModelError: There is no such model.
            ModelError: Its files are not there.
        """
        return served_as(self._models.find(contender.model, project_id), contender)

    def _model_of(self, release: Release, contender: ReleasedContender) -> ServedModel:
        try:
            return self.model_of(contender, release.project_id)
        except NoSuchModelError as error:
            raise _model_is_gone(release, contender) from error

    def _raw(self, name: str, project_id: str, assignment_key: str | None) -> tuple[RawRelease | None, Assigned | None]:
        """What is kept of the release that a name means (None: it is no name of releases), and the request's side, in one reading.

        Raises:
            NoSuchModelError: No release of this name is in force.
            NoSuchReleaseError: There is no release of this number.
        """
        match = _NAME.fullmatch(name)
        if match is None:
            return None, None
        with self._store.reading() as connection:
            if not has_releases(connection, project_id, match[1]):
                return None, None
            if match[2]:
                return find_raw_release(connection, project_id, match[1], int(match[2])), None
            number = number_in_force(connection, project_id, match[1])
            if number is None:
                raise NoReleaseInForceError(name)
            challenge = None if assignment_key is None else open_challenge(connection, project_id, match[1])
            side = None
            if challenge is not None and assignment_key is not None and challenge.incumbent_number == number:
                side = assigned(challenge, assignment_key)
                number = side.challenger if side.by_challenger else number
            return find_raw_release(connection, project_id, match[1], number), side

    def _require_same_weights(self, release: Release, models: Sequence[ServedModel]) -> None:
        """As the function of that name; what was hashed is hashed again once a file of it has changed."""
        try:
            found = tuple(stamp for model in models for stamp in _stamps(model))
        except OSError as error:
            raise _cannot_be_read(release, error) from error
        if self._stamps.get(release.content_sha256) == found:
            return
        with self._lock:  # weights are hashed once, and only those who wait for them wait
            if self._stamps.get(release.content_sha256) != found:
                require_same_weights(self._store, release)
                self._stamps[release.content_sha256] = found


class NoReleaseInForceError(NoSuchModelError):
    """A name has releases, and none of them was promoted."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.problem = f"The model `{name}` has releases, and none of them is in force"
        self.remedy = f"`fettle release promote {name}` promotes one; {name}@1 asks the first one before that"
        self.args = (self.describe(),)


def _stamps(model: ServedModel) -> Iterator[_Stamp]:
    """Of all files that decide what a model says."""
    tuned = () if model.adapter is None else iter_files(model.adapter)
    for file in (*model.base.identity_files, *tuned):
        found = file.stat()
        yield str(file), found.st_mtime_ns, found.st_size, found.st_ino


def served_as(model: ServedModel, contender: ReleasedContender) -> ServedModel:
    """A contender's model, answering in the precision of its study."""
    return model if contender.precision is None else replace(model, precision=Precision(contender.precision))


def require_same_weights(store: Store, release: Release) -> None:
    """Show that a release would answer with the weights and the template that were signed. An endpoint's cannot be seen.

    Raises:
        ChangedReleaseError: It would not, or the weights are gone.
    """
    contender, evidence = release.contender, release.evidence
    if not isinstance(contender, Router):
        _require_same(store, release, contender, evidence.tuned_sha256)
        return
    for one in (contender.small, contender.large):
        _require_same(store, release, one, evidence.tuned_sha256 if one.kind.is_tuned else None)


def _require_same(store: Store, release: Release, contender: ReleasedContender, signed_tuned: str | None) -> None:
    if contender.url is not None:
        return
    try:
        tuned_sha256, base_sha256 = weights_sha256(store, release.project_id, contender.model)
    except NoSuchModelError as error:
        raise _model_is_gone(release, contender) from error
    except OSError as error:
        raise _cannot_be_read(release, error) from error
    for what, found, signed in (
        ("tuned weights", tuned_sha256, signed_tuned),
        ("base model's weights", base_sha256, release.evidence.base_sha256),
    ):
        if found != signed:
            raise ChangedReleaseError(
                f"the {what} of the release {release} ({contender.model}) are not those that were signed",
                remedy="put the earlier weights back, roll back, or make a new release with `fettle release create`",
            )


def _model_is_gone(release: Release, contender: ReleasedContender) -> ChangedReleaseError:
    return ChangedReleaseError(
        f"the model {contender.model} of the release {release} is not here any more",
        remedy="roll back to a release whose model is here, or make a new one",
    )


def _cannot_be_read(release: Release, error: OSError) -> ChangedReleaseError:
    return ChangedReleaseError(
        f"a file that the release {release} answers with cannot be read",
        where=f"{error.filename}: {error.strerror}",
        remedy="put it back, or roll back to a release whose model is here",
    )


def weights_sha256(store: Store, project_id: str, model: str) -> tuple[str | None, str]:
    """The hashes of what a model answers with: of what was tuned (None: nothing was), and of its base model.

    Raises:
        NoSuchModelError: There is no such model.
        ModelError: Its files are not there.
    """
    with store.reading() as connection:
        found = find_model(connection, project_id, model)
    served = StoreCatalogue(store).find(model, project_id)
    if not isinstance(found, TunedModel):
        return None, served.base.sha256()
    folder = folder_of(store, found)
    files = {str(path.relative_to(folder)): sha256_of_file(path) for path in iter_files(folder)}
    return sha256_of_json(files), found.base_sha256 if served.adapter is None else served.base.sha256()
