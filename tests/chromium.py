"""A real Chromium, driven over its own protocol through a pipe: pages are opened, keys pressed, and what is shown is asked for."""

from __future__ import annotations

import contextlib
import fcntl
import itertools
import json
import os
import select
import shutil
import subprocess
from base64 import b64decode
from collections.abc import Iterator
from pathlib import Path
from typing import Any

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
"""Where it is; None: not here."""

OPTIONS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage",
)  # fmt: skip
_READ_FROM, _WRITE_TO = 3, 4
"""The descriptors through which Chromium speaks; its own numbers."""
_TEXTS = {"Enter": "\r"}
_SECONDS = 60.0
"""The longest that an answer may take."""


class Page:
    """One tab."""

    def __init__(self, browser: Browser) -> None:
        self._browser = browser
        target = browser.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = browser.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for name in ("Page", "Runtime", "Log"):
            self._call(f"{name}.enable")

    def open(self, url: str) -> None:
        self._call("Page.navigate", url=url)
        self.wait_for_load()

    def reload(self) -> None:
        self._call("Page.reload")
        self.wait_for_load()

    def wait_for_load(self) -> None:
        """Come back once the page that something has led to is there."""
        self._browser.wait_for("Page.loadEventFired", self._session)

    def press(self, key: str, *, holds: bool = False) -> None:
        """Press a key and let go of it; `holds`: it repeats meanwhile."""
        text = {"text": _TEXTS.get(key, key)} if len(key) == 1 or key in _TEXTS else {}
        for repeats in (False, True, True) if holds else (False,):
            self._call("Input.dispatchKeyEvent", type="keyDown", key=key, autoRepeat=repeats, **text)
        self._call("Input.dispatchKeyEvent", type="keyUp", key=key)

    def type(self, text: str) -> None:
        self._call("Input.insertText", text=text)

    def ask(self, expression: str) -> Any:
        """The value of a JavaScript expression, a promise's too."""
        answer = self._call("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def wait_until(self, condition: str) -> None:
        """Come back once a JavaScript expression is true."""
        look = f"(resolve) => {{ const look = () => (({condition}) ? resolve(true) : setTimeout(look, 10)); look(); }}"
        assert self.ask(f"new Promise({look})") is True

    def show_in(self, *, width: int, height: int, is_dark: bool = False) -> None:
        """Another window, another theme."""
        theme = {"name": "prefers-color-scheme", "value": "dark" if is_dark else "light"}
        self._call("Emulation.setEmulatedMedia", features=[theme])
        self._call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)

    def photograph(self, path: Path) -> None:
        path.write_bytes(b64decode(self._call("Page.captureScreenshot")["data"]))

    def complaints(self) -> list[str]:
        """What the browser had to say against the page so far: errors, and what its policy forbade."""
        return [
            event["params"].get("entry", {}).get("text") or event["params"]["exceptionDetails"]["text"]
            for event in self._browser.events
            if event["method"] in ("Log.entryAdded", "Runtime.exceptionThrown")
            and event.get("sessionId") == self._session
        ]

    def _call(self, method: str, **parameters: Any) -> dict[str, Any]:
        return self._browser.call(method, session=self._session, **parameters)


class Browser:
    """The process at the other end of the pipes."""

    def __init__(self, process: subprocess.Popen[bytes], to_browser: int, from_browser: int) -> None:
        self._process = process
        self._to, self._from = os.fdopen(to_browser, "wb", buffering=0), os.fdopen(from_browser, "rb", buffering=0)
        self._unread = b""
        self._numbers = itertools.count(1)
        self.events: list[dict[str, Any]] = []

    def call(self, method: str, *, session: str | None = None, **parameters: Any) -> dict[str, Any]:
        number = next(self._numbers)
        message = {"id": number, "method": method, "params": parameters} | ({"sessionId": session} if session else {})
        self._to.write(json.dumps(message).encode() + b"\0")
        while (answer := self._next_message()).get("id") != number:
            self.events.append(answer)
        assert "error" not in answer, (method, answer["error"])
        return answer["result"]

    def wait_for(self, event: str, session: str) -> None:
        """Come back once an event has come that was not waited for before."""
        while True:
            for place, seen in enumerate(self.events):
                if seen["method"] == event and seen.get("sessionId") == session:
                    del self.events[place]
                    return
            self.events.append(self._next_message())

    def end(self) -> None:
        self._to.close()
        self._from.close()
        self._process.kill()
        self._process.wait()

    def _next_message(self) -> dict[str, Any]:
        while b"\0" not in self._unread:
            is_ready, _, _ = select.select([self._from], [], [], _SECONDS)
            assert is_ready, "Chromium does not answer, or what was waited for never came"
            read = self._from.read(1 << 16)
            assert read, f"Chromium has ended: {self._process.poll()}"
            self._unread += read
        message, self._unread = self._unread.split(b"\0", 1)
        return json.loads(message)


@contextlib.contextmanager
def browser(profile: Path) -> Iterator[Browser]:
    """A browser with a new profile."""
    assert CHROMIUM is not None
    (read_here, write_there), (read_there, write_here) = _pipe(), _pipe()

    def connect() -> None:
        os.dup2(read_there, _READ_FROM)
        os.dup2(write_there, _WRITE_TO)

    process = subprocess.Popen(
        [CHROMIUM, *OPTIONS, "--remote-debugging-pipe", f"--user-data-dir={profile}"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        close_fds=False,  # Python's own are not inherited
        preexec_fn=connect,
    )
    for descriptor in (read_there, write_there):
        os.close(descriptor)
    opened = Browser(process, write_here, read_here)
    try:
        yield opened
    finally:
        opened.end()


def _pipe() -> tuple[int, int]:
    """A pipe whose descriptors are out of the way of those that Chromium wants."""
    ends = os.pipe()
    moved = [fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 10) for end in ends]
    for end in ends:
        os.close(end)
    return moved[0], moved[1]
