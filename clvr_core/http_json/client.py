"""A client of one server, at one address or several: its key, its limits, and how long it is waited for."""

from __future__ import annotations

import json
import math
import os
import random
import re
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from .. import __version__
from ..errors import BadInput
from ..progress import countdown
from ..reading import json_of
from ..text import one_line
from . import wire

AWAY = (429, 502, 503, 529)
"""HTTP statuses of a server that is loading, restarted or has too much to do. It is waited for by the clock."""
BUSY = (408, 425, 500, 504)
"""HTTP statuses after which the same request may succeed. It is tried again a few times."""
REQUEST = (400, 413, 414, 415, 422, 431)
"""HTTP statuses that are about the request, and say nothing of whether the server is there."""
LONGEST_PAUSE = 30.0
"""Seconds between two tries, at most, unless the server asks for more."""
UNTOLD = 2.0
"""Seconds that a server may be away before it is told."""
SECRET = 8
"""Characters from which on the value of a header is kept out of messages and answers as a key is."""
_POLL = 0.05


class ServerFailure(OSError):
    """No usable answer came. The message never holds the key.

    status: of HTTP, None without an answer.
    away: another request would fail as well until the server is mended, or back.
    timed_out: no whole answer came in time.
    """

    def __init__(self, message: str, status: int | None = None, *, away: bool = False, timed_out: bool = False) -> None:
        super().__init__(message)
        self.status, self.away, self.timed_out = status, away, timed_out


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits of one request.

    timeout: seconds for one try, connecting and reading included, above 0.
    retries: tries after the first one, at least 0.
    backoff: seconds before the first retry, doubled each time, at least 0.
    max_bytes: of an answer, above 0.
    wait: seconds that a server is waited for that is too busy, or that has answered before and cannot be reached, at
        least 0.
    """

    timeout: float = 120.0
    retries: int = 3
    backoff: float = 0.5
    max_bytes: int = 8 << 20
    wait: float = 600.0

    def __post_init__(self) -> None:
        if not (self.timeout > 0 and self.retries >= 0 and self.backoff >= 0 and self.max_bytes > 0 and self.wait >= 0):
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


@dataclass
class _Place:
    """One address of a server. busy: requests that are under way there. until: when it may be asked again. failures: in
    a row."""

    url: str
    busy: int = 0
    until: float = -math.inf
    failures: int = 0

    @property
    def host(self) -> str:
        return urlsplit(self.url).netloc


class Client:
    """Asks a server, at one address or at several that serve the same model. Several threads may ask at the same time.

    limits: of each request.
    check: called twenty times a second while waiting; what it raises ends the request at once.
    waiting: called about once a second while the server is away, with what is wrong and the seconds that it is waited
        for at most; at the end with no words and 0.
    """

    def __init__(
        self,
        url: str,
        key_variable: str = "",
        limits: Limits = Limits(),
        check: Callable[[], None] = lambda: None,
        waiting: Callable[[str, float], None] = countdown,
        *,
        urls: Sequence[str] = (),
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """
        url: the part of the address that all requests share.
        key_variable: the environment variable that holds the key, sent as a bearer token; empty if there is no key.
        urls: further addresses. A request goes to the one with the fewest requests under way, and to another if that
            one is away.
        headers: sent as well; each by the environment variable that holds its value.

        Raises BadInput for an address, a key or a header that cannot be used.
        """
        self._places = [_Place(address(each)) for each in (url, *urls)]
        self.limits, self.check, self.waiting = limits, check, waiting
        self.key_variable, key = key_variable, key_of(key_variable)
        self._headers = {"Accept": "application/json", "Connection": "close", "User-Agent": f"clvr/{__version__}"}
        self._headers |= {"Authorization": f"Bearer {key}"} if key else {}
        values = {name: key_of(variable) for name, variable in (headers or {}).items()}
        if unfit := [name for name in values if not re.fullmatch(r"[A-Za-z0-9-]+", name)]:
            raise BadInput(f"{unfit[0]!r:.80} cannot name a header; use letters, digits and hyphens")
        self._headers |= values
        self._secrets = [value for value in (key, *values.values()) if value == key != "" or len(value) >= SECRET]
        self._answered = False
        self._lost: float | None = None
        self._guard = threading.Lock()

    @property
    def host(self) -> str:
        return self._places[0].host

    def unnamed(self, failure: ServerFailure) -> ServerFailure:
        """Return the failure without the addresses."""
        words = str(failure)
        for place in self._places:
            words = words.replace(place.host, "the server")
        return ServerFailure(words, failure.status, away=failure.away, timed_out=failure.timed_out)

    def ask(
        self,
        path: str,
        body: Mapping[str, Any] | None = None,
        *,
        data: bytes | None = None,
        kind: str = "application/json",
        check: Callable[[], None] | None = None,
        max_bytes: int = 0,
    ) -> dict[str, Any]:
        """Send a GET, or a POST if `body` or `data` is given, and return the parsed JSON object. A path may have a query.

        body: sent as JSON.
        data: sent as it is, with `kind` as its Content-Type.
        check: in place of the client's own.
        max_bytes: of the answer, in place of the limit; 0 for that.

        Redirects are not followed. Raises ServerFailure if no JSON object came.
        """
        if body is not None:
            data = json.dumps(body).encode()
        headers = self._headers | ({} if data is None else {"Content-Type": kind})
        check, most = check or self.check, max_bytes or self.limits.max_bytes
        said, failures, since, told = "", 0, time.monotonic(), False

        def tell() -> None:
            nonlocal told
            if (now := time.monotonic()) - since >= UNTOLD:
                told = True
                self.waiting(said, max(0.0, since + self.limits.wait - now))

        try:
            while True:
                place = self._next()
                try:
                    answer = self._try(place, path, data, headers, check, most)
                finally:
                    place.busy -= 1
                if isinstance(answer, dict):
                    self._lost = None
                    return answer
                left = 0.0
                if answer.by_clock:
                    # Those who ask one after the other wait for the same outage together.
                    self._lost = lost = time.monotonic() if self._lost is None else self._lost
                    left = min(since, lost) + self.limits.wait - time.monotonic()
                if left <= 0 and failures + 1 >= (self.limits.retries + 1) * len(self._places):
                    raise answer.failure
                pause = self._pause(answer, failures // len(self._places), left)
                failures, said = failures + 1, str(answer.failure)
                place.until = time.monotonic() + max(pause, self._backoff(place.failures))
                place.failures += 1
                others = [other.until for other in self._places if other is not place]
                pause = min(pause, max(0.0, min(others) - time.monotonic())) if others else pause
                _sleep(pause, check, tell if answer.by_clock else lambda: None)
        finally:
            if told:
                self.waiting("", 0.0)

    def _pause(self, unanswered: _Unanswered, failures: int, left: float) -> float:
        """Return the seconds before the next try; `left` are those that the server is waited for, 0 if it is not.

        Raises ServerFailure if the server asks for more than that.
        """
        if (asked := unanswered.asked_wait) > max(left, LONGEST_PAUSE):
            failure = unanswered.failure
            raise ServerFailure(f"{failure}; it is not to be asked again for {asked:.0f} s", failure.status, away=True)
        pause = max(self._backoff(failures), asked)
        # The last try is made when the time is over.
        return min(max(pause, _POLL), left) if left > 0 else pause

    def _backoff(self, failures: int) -> float:
        # Spread at random, so that several clients that were refused together do not come back together.
        return min(self.limits.backoff * 2 ** min(failures, 16), LONGEST_PAUSE) * random.uniform(0.8, 1.2)

    def _next(self) -> _Place:
        """Return the place to ask next, and count the request there."""
        with self._guard:
            now = time.monotonic()
            place = min(self._places, key=lambda place: (max(0.0, place.until - now), place.busy))
            place.busy += 1
            return place

    def _try(
        self,
        place: _Place,
        path: str,
        data: bytes | None,
        headers: Mapping[str, str],
        check: Callable[[], None],
        max_bytes: int,
    ) -> dict[str, Any] | _Unanswered:
        """Ask once. Raises ServerFailure if another try would not help."""
        limits, host = self.limits, place.host
        try:
            heard = wire.exchange(f"{place.url}{path}", data, headers, limits.timeout, max_bytes, check)
        except wire.TimedOut:
            place.until = time.monotonic() + LONGEST_PAUSE
            raise ServerFailure(
                f"{host} gave no whole answer within {limits.timeout:g} s; if it needs longer, raise timeout",
                away=True,
                timed_out=True,
            ) from None
        except wire.TooLarge:
            raise ServerFailure(f"{host} answered with more than {max_bytes:,} bytes") from None
        except wire.Broken as error:
            return _Unanswered(ServerFailure(self._without_secrets(f"{host} {error}"), away=True), self._answered)
        self._answered = True
        content, status = heard.content, heard.status
        for secret in self._secrets:
            content = _redacted(secret, content)
        said = one_line(content[:2000].decode("utf-8", "replace"), 300)
        if 200 <= status < 300:
            value = self._object(host, content)
            place.failures, place.until = 0, -math.inf
            error = _error_in(value)
            if error is None:
                return value
            # Gateways answer 200 before they know what comes; the true status stands inside.
            status, said = _code(error), one_line(json.dumps(error, ensure_ascii=False), 300)
        words = f"{host} answered {status}{': ' if said else ''}{said}{self._hint(place, status, heard)}"
        failure = ServerFailure(self._without_secrets(words), status, away=status not in (*REQUEST, 200))
        if status not in (*AWAY, *BUSY):
            raise failure
        return _Unanswered(failure, status in AWAY, heard.asked_wait)

    def _hint(self, place: _Place, status: int, heard: wire.Heard) -> str:
        """Return what to do about an answer, to stand behind it; empty if there is nothing to say."""
        if status in (401, 403):
            key = f"the key is in {self.key_variable}" if self.key_variable else "name the variable that holds its key"
            return f"; {key} (key_variable)"
        if 300 <= status < 400:
            target = urlsplit(heard.headers.get("location", ""))
            return (
                f"; it points to {one_line(target._replace(query='', fragment='').geturl(), 200)}: write that into url"
            )
        if status in (200, 404, 405) and not urlsplit(place.url).path.endswith("/v1"):
            return "; with most servers the url ends in /v1"
        return ""

    def _object(self, host: str, content: bytes) -> dict[str, Any]:
        try:
            value = json_of(content)
        except ValueError as error:
            words = f"{host} answered with something that is not JSON: {one_line(str(error), 200)}"
            raise ServerFailure(self._without_secrets(words)) from error
        if not isinstance(value, dict):
            raise ServerFailure(f"{host} answered with {type(value).__name__} where an object belongs")
        return value

    def _without_secrets(self, text: str) -> str:
        """Remove key and header values from a message: a server may quote the request in its error."""
        for secret in self._secrets:
            text = text.replace(secret, "***")
        return text


@dataclass(frozen=True, slots=True)
class _Unanswered:
    """A try that gave no answer and may be repeated.

    by_clock: for as long as a server is waited for, and not only a few times.
    asked_wait: seconds that the server asks to be left alone.
    """

    failure: ServerFailure
    by_clock: bool
    asked_wait: float = 0.0


def _error_in(value: Mapping[str, Any]) -> Any:
    """Return the error that an answer holds, or that its first choice holds; None if there is none."""
    choices = value.get("choices")
    first = choices[0] if isinstance(choices, list) and choices else None
    return value.get("error") or (first.get("error") if isinstance(first, dict) else None) or None


def _code(error: Any) -> int:
    """Return the HTTP status that an error inside an answer names; 200 if it names none."""
    code = error.get("code") if isinstance(error, dict) else None
    code = int(code) if isinstance(code, str) and code.isdecimal() and len(code) == 3 else code
    return code if type(code) is int and 400 <= code < 600 else 200


def _sleep(seconds: float, check: Callable[[], None], tell: Callable[[], None]) -> None:
    """Wait. check: called at each look. tell: called about once a second."""
    end = time.monotonic() + seconds
    told = math.inf
    while (left := end - time.monotonic()) > 0:
        check()
        if left <= told - 1:
            tell()
            told = left
        time.sleep(min(left, _POLL))


def _redacted(key: str, answer: bytes) -> bytes:
    """Remove the key from an answer, which goes into journals, reports and pictures.

    JSON may escape characters as \\u0041.
    """
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
