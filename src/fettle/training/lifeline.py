"""A process that ends with the one that started it, be that one killed."""

from __future__ import annotations

import os
import sys
import threading

from fettle.errors import EXIT_INTERNAL


def end_with_parent() -> None:
    """From now on this process ends, at once, when its standard input does: a pipe that its parent holds and never writes to."""
    threading.Thread(target=_end_with_standard_input, daemon=True).start()


def _end_with_standard_input() -> None:
    os.read(sys.stdin.fileno(), 1)  # a buffered read would hold a lock that the interpreter wants when it ends
    os._exit(EXIT_INTERNAL)
