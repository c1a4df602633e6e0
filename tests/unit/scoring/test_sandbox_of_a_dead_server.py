"""A sandbox ends with the process that started it."""

import subprocess
import sys

import psutil

from sandboxes import sandbox

SERVER = """
from fettle.scoring.sandbox.bubblewrap import BubblewrapRunner
from fettle.scoring.sandbox.code_runner import CodeCall
runner = BubblewrapRunner()
assert runner.unavailable_because() is None
print("ready", flush=True)
runner.run("import time\\ndef grade(sample, item): time.sleep(1000)", [CodeCall(sample={}, item={})])
"""


def test_a_killed_server_leaves_no_sandbox_behind() -> None:
    sandbox()
    server = subprocess.Popen([sys.executable, "-c", SERVER], stdout=subprocess.PIPE, text=True)
    assert server.stdout is not None
    assert server.stdout.readline() == "ready\n"
    inside: list[psutil.Process] = []
    while len(inside) < 4:  # bubblewrap, its first process inside, Python, the fork
        inside = psutil.Process(server.pid).children(recursive=True)
    server.kill()
    server.wait()
    server.stdout.close()
    _, alive = psutil.wait_procs(inside, timeout=60)
    assert alive == []
