"""Code that a child process runs before anything else, to forbid it sockets."""

from __future__ import annotations

NO_SOCKETS = """
import sys

class ForbiddenError(BaseException):
    pass

def hook(event, arguments):
    # An audit hook sees every socket, whoever opens it, and cannot be taken off again.
    if event in ("socket.__new__", "socket.connect", "socket.getaddrinfo", "socket.sendto"):
        raise ForbiddenError(f"{event} {arguments}")

sys.addaudithook(hook)
"""
"""Opening any socket, or looking a name up, ends the process."""

LOOPBACK_ONLY = """
import sys

class ForbiddenError(BaseException):
    pass

def hook(event, arguments):
    if event == "socket.connect" and arguments[1][0] not in ("127.0.0.1", "::1"):
        raise ForbiddenError(f"{event} {arguments}")

sys.addaudithook(hook)
"""
"""Connecting to anything but this machine ends the process."""
