"""Spoils training processes, so that there is time to do something to them, or no room. Python runs this where PYTHONPATH names it.

FETTLE_TEST_STEP_SECONDS is what each step takes longer; `5:600` lets step 5 alone take 600 seconds longer. FETTLE_TEST_FILE_BYTES
is the size at which writing a file fails, as on a full disk.
"""

from __future__ import annotations

import importlib.util
import os
import resource
import sys
import time
from importlib.abc import MetaPathFinder
from typing import Any


def _slow_down(loop: Any) -> None:
    step_text, _, seconds_text = os.environ["FETTLE_TEST_STEP_SECONDS"].rpartition(":")
    quick = loop._Run.step

    def slow(run: Any) -> None:
        if not step_text or run._progress.step + 1 == int(step_text):
            time.sleep(float(seconds_text))
        quick(run)

    loop._Run.step = slow


class _SlowLoop(MetaPathFinder):
    def find_spec(self, fullname: str, _path: Any, _target: Any = None) -> Any:
        if fullname != "fettle.training.loop":
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(fullname)
        assert spec is not None
        assert spec.loader is not None
        execute = spec.loader.exec_module

        def execute_and_slow_down(module: Any) -> None:
            execute(module)
            _slow_down(module)

        spec.loader.exec_module = execute_and_slow_down
        return spec


if "fettle.jobs.training_process" in sys.orig_argv:
    if "FETTLE_TEST_STEP_SECONDS" in os.environ:
        sys.meta_path.insert(0, _SlowLoop())
    if size := os.environ.get("FETTLE_TEST_FILE_BYTES"):
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(size), int(size)))
