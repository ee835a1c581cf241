"""JSON over HTTP, to servers that may hang, send too much, cut an answer short, or answer with something else."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import random
import re
import socket
import ssl
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from .errors import BadInput
from .text import one_line

BUSY = (408, 425, 429, 500, 502, 503, 504, 529)
"""HTTP statuses after which the same request may succeed."""
LONGEST_WAIT = 30.0
"""Seconds between two tries, at most, whatever Retry-After says."""
_POLL = 0.05


class ServerFailure(OSError):
    """No usable answer came. status: of HTTP, None without an answer. The message never holds the key."""

    def __init__(self, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits of one request.

    timeout: seconds for one try, connecting and reading included, above 0.
    retries: tries after the first one, on connection errors and BUSY answers, at least 0.
    backoff: seconds before the first retry, doubled each time, at least 0.
    max_bytes: of an answer, above 0.
    """

    timeout: float = 120.0
    retries: int = 3
    backoff: float = 0.5
    max_bytes: int = 8 << 20

    def __post_init__(self) -> None:
        if not (self.timeout > 0 and self.retries >= 0 and self.backoff >= 0 and self.max_bytes > 0):
            raise BadInput(f"limits of a server must be positive; found {self}")


def address(url: str) -> str:
    """Return the base URL without a trailing slash. Raises BadInput for anything but http(s)://host[:port][/path]."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise BadInput(f"server address {url!r:.200} cannot be read: {error}") from error
    if "@" in parts.netloc:
        raise BadInput(
            "a server address holds a user or a password; put the key into an environment variable and name that variable"
        )
    if parts.scheme not in ("http", "https") or not parts.hostname or port == 0 or not url.isprintable() or " " in url:
        raise BadInput(f"server address {url!r:.200} is not one; write it as http://127.0.0.1:8000/v1")
    if parts.query or parts.fragment:
        raise BadInput(f"server address {url!r:.200} holds a query; give the part before the question mark")
    return url.rstrip("/")


def key_of(variable: str) -> str:
    """Return the key in the environment variable; empty for an empty name.

    Raises BadInput, which never quotes the key, if the variable is not set or no header can carry its value.
    """
    if not variable:
        return ""
    key = os.environ.get(variable, "").strip()
    if not key:
        raise BadInput(f"the environment variable {variable} is to hold the server's key and is not set")
    if not (key.isascii() and key.isprintable()):
        raise BadInput(
            f"the environment variable {variable} holds a line break or another character that no key has; copy the key anew"
        )
    return key


def ask_json(
    url: str,
    body: Mapping[str, Any] | None = None,
    *,
    data: bytes | None = None,
    kind: str = "application/json",
    key: str = "",
    limits: Limits = Limits(),
    check: Callable[[], None] = lambda: None,
) -> dict[str, Any]:
    """Send a GET, or a POST if `body` or `data` is given, and return the parsed JSON object.

    body: sent as JSON.
    data: sent as it is, with `kind` as its Content-Type.
    key: sent as a bearer token; empty for none.
    check: called twenty times a second while waiting; what it raises ends the request at once.

    Redirects are not followed. Raises ServerFailure if no JSON object came.
    """
    headers = {"Accept": "application/json", "Connection": "close"}
    if body is not None:
        data = json.dumps(body).encode()
    if data is not None:
        headers["Content-Type"] = kind
    if key:
        headers["Authorization"] = f"Bearer {key}"
    for left in range(limits.retries, -1, -1):
        wait = limits.backoff * 2 ** (limits.retries - left)
        try:
            status, answer, asked_wait = _exchange(url, data, headers, limits, check)
        except _Broken as error:
            if not left:
                raise ServerFailure(_without(key, f"{_host(url)} {error}")) from error
        else:
            answer = _redacted(key, answer)
            if 200 <= status < 300:
                return _object(url, answer, key)
            if status not in BUSY or not left:
                said = one_line(answer[:2000].decode("utf-8", "replace"), 300)
                raise ServerFailure(
                    _without(key, f"{_host(url)} answered {status}{': ' if said else ''}{said}"), status
                )
            wait = max(wait, asked_wait)
        # Spread at random, so that several clients that were refused together do not come back together.
        _sleep(min(wait * random.uniform(0.8, 1.2), LONGEST_WAIT), check)
    raise AssertionError("unreachable")


class _Broken(Exception):
    """The connection failed; another try may succeed."""


def _exchange(
    url: str, data: bytes | None, headers: dict[str, str], limits: Limits, check: Callable[[], None]
) -> tuple[int, bytes, float]:
    """Make one try; return status, content and the seconds of Retry-After.

    Raises _Broken, or ServerFailure if another try would not help.
    """
    work = _Exchange(url, data, headers, limits)
    work.start()
    end = time.monotonic() + limits.timeout
    try:
        while work.is_alive():
            check()
            if time.monotonic() > end:
                raise ServerFailure(f"{_host(url)} gave no whole answer within {limits.timeout:g} s")
            work.join(_POLL)
    except BaseException:
        work.abandon()
        raise
    if isinstance(work.error, (OSError, http.client.HTTPException)) and not isinstance(work.error, ServerFailure):
        raise _Broken(_describe(work.error)) from work.error
    if work.error is not None:
        raise work.error
    return work.answer


class _Exchange(threading.Thread):
    """One request in its own thread, because only another thread can abandon a blocked read."""

    def __init__(self, url: str, data: bytes | None, headers: dict[str, str], limits: Limits) -> None:
        super().__init__(daemon=True)
        parts = urlsplit(url)
        socket_timeout = limits.timeout + 1  # the caller keeps the time; this ends a thread that it could not wake
        if parts.scheme == "https":
            self.connection = http.client.HTTPSConnection(
                parts.netloc, timeout=socket_timeout, context=ssl.create_default_context()
            )
        else:
            self.connection = http.client.HTTPConnection(parts.netloc, timeout=socket_timeout)
        self.request = ("GET" if data is None else "POST", parts.path or "/", data, headers)
        self.host, self.limits = parts.netloc, limits
        self.socket: socket.socket | None = None
        self.answer: tuple[int, bytes, float] = (0, b"", 0.0)
        self.error: Exception | None = None

    def run(self) -> None:
        try:
            self.connection.connect()
            self.socket = self.connection.sock
            self.connection.request(*self.request)
            response = self.connection.getresponse()
            content = response.read(self.limits.max_bytes + 1)
            if len(content) > self.limits.max_bytes:
                raise ServerFailure(f"{self.host} answered with more than {self.limits.max_bytes:,} bytes")
            if response.length:
                raise http.client.IncompleteRead(content, response.length)
            self.answer = response.status, content, _seconds(response.headers.get("Retry-After"))
        except Exception as error:  # raised in the caller's thread
            self.error = error
        finally:
            self.connection.close()

    def abandon(self) -> None:
        if self.socket is not None:
            with contextlib.suppress(OSError):  # it is closed already
                self.socket.shutdown(socket.SHUT_RDWR)


def _seconds(value: str | None) -> float:
    """Return a Retry-After in seconds; 0 for a date or no header."""
    return float(value) if value and value.isdecimal() and len(value) < 7 else 0.0


def _sleep(seconds: float, check: Callable[[], None]) -> None:
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        check()
        time.sleep(min(left, _POLL))


def _object(url: str, answer: bytes, key: str) -> dict[str, Any]:
    try:
        value = json.loads(answer)
    except (ValueError, RecursionError) as error:
        raise ServerFailure(
            _without(key, f"{_host(url)} answered with something that is not JSON: {one_line(str(error), 200)}")
        ) from error
    if not isinstance(value, dict):
        raise ServerFailure(f"{_host(url)} answered with {type(value).__name__} where an object belongs")
    return value


def _describe(error: Exception) -> str:
    if isinstance(error, http.client.IncompleteRead):
        return "cut its answer short"
    if isinstance(error, ConnectionRefusedError):
        return "refuses the connection; is the server running?"
    if isinstance(error, http.client.HTTPException):
        return f"does not speak HTTP as expected ({type(error).__name__})"
    return f"cannot be reached: {one_line(str(error), 200)}"


def _host(url: str) -> str:
    return urlsplit(url).netloc


def _without(key: str, text: str) -> str:
    """Remove the key from a message: a server may quote the request in its error."""
    return text.replace(key, "***") if key else text


def _redacted(key: str, answer: bytes) -> bytes:
    """Remove the key from an answer, which goes into journals, reports and pictures.

    JSON may escape characters as \\u0041.
    """
    if not key:
        return answer
    spelled = b"".join(
        b"(?:"
        + re.escape(letter.encode())
        + b"|\\\\u00(?i:%02x)" % ord(letter)
        + b"|\\\\"
        + re.escape(letter.encode())
        + b")"
        for letter in key
    )
    return re.sub(spelled, b"***", answer)
