"""The signs of life of a worker, given in the background for as long as it lives."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from types import TracebackType

from sqlalchemy import Connection

from fettle.errors import FettleError
from fettle.store.database import Store
from fettle.store.workers import SECONDS_BETWEEN_SIGNS, give_sign, leave

_logger = logging.getLogger("fettle.worker")


class SignsOfLife:
    """Within it the store knows that the worker lives.

    Args:
        store: Where the worker looks for jobs.
        name: The worker's.
    """

    def __init__(self, store: Store, name: str) -> None:
        self._store, self._name = store, name
        self._ends = threading.Event()
        self._thread = threading.Thread(target=self._give, name="gives signs of life", daemon=True)

    def __enter__(self) -> SignsOfLife:
        """Begin."""
        self._tell(give_sign)
        self._thread.start()
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        """Say that the worker is gone."""
        self._ends.set()
        self._thread.join()
        self._tell(leave)

    def _give(self) -> None:
        while not self._ends.wait(SECONDS_BETWEEN_SIGNS):
            self._tell(give_sign)

    def _tell(self, what: Callable[[Connection, str], None]) -> None:
        try:
            with self._store.writing() as connection:
                what(connection, self._name)
        except FettleError as error:  # the database does not answer: it may again
            _logger.warning("%s", error.describe())
