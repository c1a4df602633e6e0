"""Ctrl-C that cannot get lost.

Python raises KeyboardInterrupt wherever the program happens to be. C code of a library that asks whether an object has an
attribute throws away every exception raised meanwhile, this one too, and the program would go on as if nothing had been asked.
So the wish is noted as well, and looked at whenever there is progress.
"""

from __future__ import annotations

import signal
from types import FrameType, TracebackType
from typing import Self


class Interruption:
    """Within it, a Ctrl-C is raised at once as ever, and again by `raise_if_asked` should that have come to nothing."""

    def __init__(self) -> None:
        self._is_asked = False
        self._is_watching = False

    def __enter__(self) -> Self:
        """Watch, unless whoever started the program has the signal ignored or handles it differently."""
        if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            signal.signal(signal.SIGINT, self._note)
            self._is_watching = True
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Leave the signal to Python again."""
        if self._is_watching:
            signal.signal(signal.SIGINT, signal.default_int_handler)
            self._is_watching = False

    def raise_if_asked(self) -> None:
        """Raise KeyboardInterrupt if Ctrl-C was pressed before."""
        if self._is_asked:
            raise KeyboardInterrupt

    def _note(self, _signal: int, _frame: FrameType | None) -> None:
        self._is_asked = True
        raise KeyboardInterrupt
