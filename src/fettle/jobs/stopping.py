"""How a process that runs for weeks is told to stop: SIGTERM or Ctrl-C once, or twice by somebody who will not wait."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

_SIGNALS = (signal.SIGTERM, signal.SIGINT)
_EXIT_BY_SIGNAL = 128


@contextmanager
def stopped_by_signals(stop: Callable[[], None], before_leaving: Callable[[], None] = lambda: None) -> Iterator[None]:
    """Within it the first signal asks for an orderly end, and the second one ends the process at once.

    Args:
        stop: Asks what runs to come to its end.
        before_leaving: What the second signal does before the process is gone.
    """
    is_asked = False
    read_end, write_end = os.pipe()

    def on_signal(number: int, _frame: FrameType | None) -> None:
        nonlocal is_asked
        if is_asked:
            before_leaving()
            os._exit(_EXIT_BY_SIGNAL + number)
        is_asked = True
        os.write(write_end, b".")  # `stop` may want a lock that the interrupted code holds: another thread calls it

    def stop_when_asked() -> None:
        with os.fdopen(read_end, "rb", buffering=0) as pipe:
            if pipe.read(1):
                stop()

    watching = threading.Thread(target=stop_when_asked, name="waits for signals", daemon=True)
    watching.start()
    before = {number: signal.signal(number, on_signal) for number in _SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        os.close(write_end)
        watching.join()
