"""One HTTP request and its answer: what a server did with it, in a thread that can be left."""

from __future__ import annotations

import contextlib
import email.utils
import http.client
import math
import socket
import ssl
import threading
import time
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from ..text import one_line

POLL = 0.05
"""Seconds between two looks at a request that is under way."""


class Broken(Exception):
    """The connection failed; another try may succeed."""


class TimedOut(Exception):
    """No whole answer came in time."""


class TooLarge(Exception):
    """The answer is larger than is read."""


@dataclass(frozen=True, slots=True)
class Heard:
    """An answer. headers: by their names in lower case."""

    status: int
    content: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def asked_wait(self) -> float:
        """Return the seconds of Retry-After, given as a number or as a date; 0 without one."""
        value = self.headers.get("retry-after", "").strip()
        if value.isdecimal() and len(value) < 10:
            return float(value)
        # Against the server's own clock, if it tells it.
        until, now = _date(value), _date(self.headers.get("date", ""))
        return 0.0 if until is None else max(0.0, until - (time.time() if now is None else now))


def exchange(
    url: str,
    data: bytes | None,
    headers: Mapping[str, str],
    timeout: float,
    max_bytes: int,
    check: Callable[[], None],
) -> Heard:
    """Send a GET, or a POST if there is data, once. check: called before and then twenty times a second; what it raises
    ends the request at once.

    Raises Broken, TimedOut or TooLarge if no whole answer came.
    """
    check()
    work = _Exchange(url, data, headers, timeout, max_bytes)
    work.start()
    end = time.monotonic() + timeout
    try:
        while work.is_alive():
            check()
            if time.monotonic() > end:
                raise TimedOut
            work.join(POLL)
    except BaseException:
        work.abandon()
        raise
    if isinstance(work.error, (OSError, http.client.HTTPException)):
        raise Broken(_describe(work.error)) from work.error
    if work.error is not None:
        raise work.error
    return work.heard


class _Exchange(threading.Thread):
    """One request in its own thread, because only another thread can abandon a blocked read."""

    def __init__(
        self, url: str, data: bytes | None, headers: Mapping[str, str], timeout: float, max_bytes: int
    ) -> None:
        super().__init__(daemon=True)
        parts = urlsplit(url)
        socket_timeout = timeout + 1  # the caller keeps the time; this ends a thread that it could not wake
        if parts.scheme == "https":
            self.connection = http.client.HTTPSConnection(
                parts.netloc, timeout=socket_timeout, context=ssl.create_default_context()
            )
        else:
            self.connection = http.client.HTTPConnection(parts.netloc, timeout=socket_timeout)
        self.data, self.headers = data, dict(headers)
        self.path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        self.max_bytes = max_bytes
        self.socket: socket.socket | None = None
        self.heard = Heard(0)
        self.error: Exception | None = None

    def run(self) -> None:
        try:
            self.connection.connect()
            self.socket = self.connection.sock
            self.heard = self._answer()
        except Exception as error:  # raised in the caller's thread
            self.error = error
        finally:
            self.connection.close()

    def _answer(self) -> Heard:
        sending: OSError | None = None
        try:
            self.connection.request("GET" if self.data is None else "POST", self.path, self.data, self.headers)
        except (BrokenPipeError, ConnectionResetError) as error:
            # A server that refuses a large request answers before it has read it: the answer may lie there.
            sending = error
        try:
            response = self.connection.getresponse()
        except (OSError, http.client.HTTPException):
            if sending is not None:
                raise sending from None
            raise
        content = response.read(self.max_bytes + 1)
        if len(content) > self.max_bytes:
            raise TooLarge
        if response.length:
            raise http.client.IncompleteRead(content, response.length)
        headers = {name.lower(): value for name, value in response.headers.items()}
        return Heard(response.status, _unpacked(content, headers, self.max_bytes), headers)

    def abandon(self) -> None:
        if self.socket is not None:
            with contextlib.suppress(OSError):  # it is closed already
                self.socket.shutdown(socket.SHUT_RDWR)


def _unpacked(content: bytes, headers: Mapping[str, str], max_bytes: int) -> bytes:
    """Undo the gzip of a gateway that packs what nobody asked it to pack."""
    if headers.get("content-encoding", "").strip().lower() not in ("gzip", "x-gzip"):
        return content
    unpacking = zlib.decompressobj(wbits=31)
    try:
        content = unpacking.decompress(content, max_bytes + 1)
    except zlib.error as error:
        raise http.client.HTTPException(f"broken gzip: {error}") from error
    if len(content) > max_bytes:
        raise TooLarge
    return content


def _date(value: str) -> float | None:
    """Return an HTTP date (RFC 9110) in seconds since 1970; None if it is none."""
    try:
        seconds = email.utils.parsedate_to_datetime(value).timestamp()
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    return seconds if math.isfinite(seconds) else None


def _describe(error: Exception) -> str:
    if isinstance(error, http.client.IncompleteRead):
        return "cut its answer short"
    if isinstance(error, ConnectionRefusedError):
        return "refuses the connection; is the server running?"
    if isinstance(error, http.client.HTTPException):
        return f"does not speak HTTP as expected ({type(error).__name__})"
    return f"cannot be reached: {one_line(str(error), 200)}"
