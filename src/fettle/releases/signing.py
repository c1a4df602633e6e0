"""Releases as canonical JSON and back, and the hash that signs them."""

from __future__ import annotations

import threading
from functools import lru_cache
from typing import Any

from pydantic import TypeAdapter, ValidationError

from fettle.errors import IntegrityError
from fettle.files import sha256_of_json
from fettle.releases.records import Evidence, Release, ReleasedContender, Router
from fettle.store.releases import RawRelease, StoredRelease

FORMAT_VERSION = 2
"""Of what is stored. Raised whenever a reader of one version could not read, or would misread, a row of the other."""
_READABLE = (1, 2)
"""In version 1 a router had a measure and a threshold, and not the whole rule."""
_ROUTER, _CONTENDER = "router", "contender"


class ChangedReleaseError(IntegrityError):
    """What a release says, or the weights it names, are not what was signed."""


def contender_as_json(contender: ReleasedContender | Router) -> dict[str, Any]:
    """The contender, with its kind of record and the version of the format."""
    what = _ROUTER if isinstance(contender, Router) else _CONTENDER
    return {"format_version": FORMAT_VERSION, what: _adapter(type(contender)).dump_python(contender, mode="json")}


def evidence_as_json(evidence: Evidence) -> dict[str, Any]:
    """The evidence as JSON values."""
    return _adapter(Evidence).dump_python(evidence, mode="json")


def content_sha256(name: str, number: int, contender: dict[str, Any], evidence: dict[str, Any]) -> str:
    """What signs a release: the hash of all that it says, in canonical JSON (sorted keys, no spaces)."""
    return sha256_of_json([name, number, contender, evidence])


def verified(stored: StoredRelease) -> Release:
    """A stored release, once it is shown that it says what was signed.

    Raises:
        ChangedReleaseError: It does not, or another version of Fettle wrote it.
    """
    name = f"{stored.name}@{stored.number}"
    contender, evidence = dict(stored.contender), dict(stored.evidence)
    if content_sha256(stored.name, stored.number, contender, evidence) != stored.content_sha256:
        raise ChangedReleaseError(
            f"the release {name} was changed after it was made: its content does not have the hash that signs it",
            remedy="roll back to an earlier release, or make it anew with `fettle release create`",
        )
    if contender.get("format_version") not in _READABLE:
        raise ChangedReleaseError(
            f"the release {name} has format version {contender.get('format_version')!r}; this Fettle reads up to {FORMAT_VERSION}",
            remedy="update Fettle, or make the release anew with `fettle release create`",
        )
    what, kind = (Router, _ROUTER) if _ROUTER in contender else (ReleasedContender, _CONTENDER)
    try:
        return Release(
            name=stored.name,
            number=stored.number,
            project_id=stored.project_id,
            created_at=stored.created_at,
            contender=_adapter(what).validate_python(_as_now(contender[kind])),
            evidence=_adapter(Evidence).validate_python(evidence),
            content_sha256=stored.content_sha256,
        )
    except (KeyError, ValidationError) as error:
        raise ChangedReleaseError(
            f"the release {name} cannot be read ({type(error).__name__})",
            remedy="make it anew with `fettle release create`",
        ) from error


def _as_now(said: dict[str, Any]) -> dict[str, Any]:
    """What a contender of an earlier version is called today."""
    if "measure" not in said:
        return said
    rule = {"measure": said["measure"], "threshold": said["threshold"]}
    return {**{key: value for key, value in said.items() if key not in rule}, "rule": rule}


def verified_or_why_not(stored: StoredRelease) -> Release | ChangedReleaseError:
    """A stored release, or what has become of it since it was signed."""
    try:
        return verified(stored)
    except ChangedReleaseError as error:
        return error


class VerifiedReleases:
    """Releases that were verified once, remembered with every letter of their rows: what differs in one letter is verified anew.

    Args:
        most: How many are remembered, those that were verified last.
    """

    def __init__(self, *, most: int = 64) -> None:
        self._most, self._lock = most, threading.Lock()
        self._by_name: dict[tuple[str, str, int], tuple[RawRelease, Release]] = {}

    def release(self, raw: RawRelease) -> Release:
        """What a row says, once it is shown that it says what was signed.

        Raises:
            ChangedReleaseError: It does not.
        """
        key = (raw.project_id, raw.name, raw.number)
        known = self._by_name.get(key)
        if known is not None and known[0] == raw:
            return known[1]
        try:
            stored = raw.decoded()
        except ValueError as error:
            raise ChangedReleaseError(
                f"the release {raw.name}@{raw.number} was changed after it was made: it is no JSON",
                remedy="roll back to an earlier release, or make it anew with `fettle release create`",
            ) from error
        release = verified(stored)
        with self._lock:
            self._by_name.pop(key, None)
            self._by_name[key] = (raw, release)
            while len(self._by_name) > self._most:
                del self._by_name[next(iter(self._by_name))]
        return release


@lru_cache(maxsize=8)
def _adapter(kind: type[Any]) -> TypeAdapter[Any]:
    return TypeAdapter(kind)
