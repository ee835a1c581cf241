"""What a server may do to a request, and the errors that come of it."""

from __future__ import annotations

import gzip
import re
import socket
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from clvr_core import __version__
from clvr_core.errors import BadInput
from clvr_core.http_json import Client, Limits, ServerFailure, address
from tests.vlm.servers import Said, serving
from tests.waiting import HUNG

QUICK = Limits(timeout=5, retries=2, backoff=0, wait=0)


class Stopped(Exception):
    pass


def ask(*answers: Said, limits: Limits = QUICK, key_variable: str = ""):
    """The answer, or the failure, and how often the server was asked; the last answer is repeated."""
    left = list(answers)
    with serving(lambda _: left.pop(0) if len(left) > 1 else left[0]) as server:
        try:
            found = Client(server.url, key_variable, limits).ask("/thing", {"a": "\xfc"})
        except ServerFailure as failure:
            return failure, len(server.asked)
        return found, len(server.asked)


def test_an_object_comes_back_and_the_request_is_what_was_said(monkeypatch):
    monkeypatch.setenv("SOME_KEY", "secret")
    with serving(lambda _: Said({"b": 2})) as server:
        assert Client(server.url, "SOME_KEY", QUICK).ask("/thing", {"a": "\xfc"}) == {"b": 2}
        assert Client(server.url, limits=QUICK).ask("/models") == {"b": 2}
        post, get = server.asked
    assert (post.path, post.body, post.headers["Authorization"]) == ("/v1/thing", {"a": "\xfc"}, "Bearer secret")
    assert (get.path, get.body) == ("/v1/models", None) and "Authorization" not in get.headers


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_busy_server_is_asked_again(status):
    assert ask(Said(status=status), Said(status=status), Said({"b": 2})) == ({"b": 2}, 3)


def test_a_busy_server_is_given_up_after_the_retries():
    failure, times = ask(Said({"error": "overloaded"}, status=503))
    assert times == 3 and failure.status == 503 and "answered 503" in str(failure) and "overloaded" in str(failure)


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"Retry-After": "7"}, 7),
        ({"Retry-After": "500"}, 500),
        ({"Retry-After": "Wed, 21 Oct 2026 07:28:40 GMT", "Date": "Wed, 21 Oct 2026 07:28:00 GMT"}, 40),
        ({"Retry-After": "Wed, 21 Oct 2026 07:28:00 GMT", "Date": "Wed, 21 Oct 2026 07:28:40 GMT"}, 0),
        ({"Retry-After": "soon"}, 0),
        ({}, 0),
    ],
)
def test_the_wait_that_a_server_asks_for_is_kept(headers, seconds, clock):
    asked_at = []

    def answer(_) -> Said:
        asked_at.append(clock.now)
        return Said(status=429, headers=headers) if len(asked_at) == 1 else Said({})

    with serving(answer) as server:
        Client(server.url, limits=Limits(timeout=5, retries=0)).ask("/thing")
    # Not asked for, it is the backoff: half a second, spread by a fifth.
    assert asked_at[1] - asked_at[0] == pytest.approx(seconds or 0.5, abs=0.16)


def test_a_wait_that_is_longer_than_the_servers_is_said_at_once(clock):
    said = Said(status=429, headers={"Retry-After": "5000"})
    failure, times = ask(said, limits=Limits(timeout=5, retries=3))
    assert (times, clock.now) == (1, 0) and "it is not to be asked again for 5000 s" in str(failure) and failure.away


class TestAnOutage:
    """How long a server is waited for. The clock is a fake one."""

    LIMITS = Limits(timeout=5, retries=1, wait=600)

    @pytest.mark.parametrize("status", [429, 502, 503, 529])
    def test_a_server_that_is_loading_is_waited_for_by_the_clock_and_told(self, status, clock):
        told = []
        answer = lambda _: Said({"error": "loading"}, status) if clock.now < 599 else Said({"b": 2})  # noqa: E731
        with serving(answer) as server:
            client = Client(server.url, limits=self.LIMITS, waiting=lambda said, left: told.append((said, left)))
            assert client.ask("/thing") == {"b": 2}
        assert 599 <= clock.now <= 600 and len(server.asked) < 40
        assert told[-1] == ("", 0) and f"answered {status}" in told[0][0] and 500 < told[0][1] < 600
        lefts = [left for _, left in told[:-1]]
        assert lefts == sorted(lefts, reverse=True) and 500 < len(lefts) < 620, "about once a second"

    def test_one_that_does_not_come_back_is_given_up_when_the_time_is_over(self, clock):
        failure, _ = ask(Said(status=503), limits=self.LIMITS)
        assert clock.now == pytest.approx(600, abs=2) and failure.away and failure.status == 503

    def test_one_that_never_answered_is_asked_a_few_times_only(self, clock):
        with pytest.raises(ServerFailure, match="refuses the connection"):
            Client(f"http://127.0.0.1:{nobody()}/v1", limits=self.LIMITS).ask("/thing")
        assert clock.now < 2

    def test_one_that_has_answered_is_waited_for_when_it_is_gone(self, clock):
        with serving(lambda _: Said({"b": 2})) as server:
            client = Client(server.url, limits=self.LIMITS)
            client.ask("/thing")
        with pytest.raises(ServerFailure, match="refuses the connection") as gone:
            client.ask("/thing")
        assert clock.now == pytest.approx(600, abs=2) and gone.value.away
        with pytest.raises(ServerFailure):
            client.ask("/thing")
        assert clock.now < 605, "who asks next does not wait for the same outage again"

    def test_other_failures_are_tried_a_few_times_only(self, clock):
        failure, times = ask(Said(status=500), limits=self.LIMITS)
        assert times == 2 and clock.now < 2 and failure.away

    @pytest.mark.parametrize("status", [400, 413, 422])
    def test_a_refused_request_says_nothing_of_the_server(self, status):
        assert not ask(Said(status=status))[0].away


def nobody() -> int:
    """A port where nobody listens."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


@pytest.mark.parametrize("status", [301, 400, 401, 404, 422])
def test_a_refusal_is_not_repeated(status):
    failure, times = ask(Said({"error": "no such thing"}, status=status, headers={"Location": "http://127.0.0.1:1/"}))
    assert (times, failure.status) == (1, status) and "no such thing" in str(failure)


def test_a_server_that_quotes_the_key_does_not_put_it_into_the_message(monkeypatch):
    monkeypatch.setenv("SOME_KEY", "sk-12345")
    failure, _ = ask(Said({"error": "bad key sk-12345"}, status=401), key_variable="SOME_KEY")
    assert "sk-12345" not in str(failure) and "bad key ***" in str(failure)


def test_nobody_there_is_said():
    port = nobody()
    with pytest.raises(ServerFailure, match=rf"127.0.0.1:{port} refuses the connection; is the server running"):
        Client(f"http://127.0.0.1:{port}/v1", limits=QUICK).ask("/thing", {})


def test_a_server_that_hangs_is_left_after_the_timeout():
    failure, times = ask(Said(hang=60), limits=Limits(timeout=0.3, retries=2, backoff=0, wait=0))
    assert times == 1 and "gave no whole answer within 0.3 s" in str(failure) and failure.timed_out


def test_an_answer_that_is_cut_is_asked_for_again():
    assert ask(Said({"b": 2}, cut=3), Said({"b": 2})) == ({"b": 2}, 2)
    failure, times = ask(Said({"b": 2}, cut=3))
    assert times == 3 and "cut its answer short" in str(failure)


def test_a_flood_is_refused():
    failure, times = ask(Said(b"[" + b"0," * 5_000_000), limits=Limits(max_bytes=100_000))
    assert times == 1 and "more than 100,000 bytes" in str(failure)


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"<html>", "not JSON"),
        (b"", "not JSON"),
        (b"[1]", "list where an object"),
        (b"[" * 200_000, "not JSON"),
        (b"\xff{", "not JSON"),
    ],
    ids=["html", "nothing", "list", "deep", "bytes"],
)
def test_what_is_no_object_is_refused(body, says):
    failure, times = ask(Said(body))
    assert times == 1 and says in str(failure)


def test_what_is_no_http_is_said():
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        server.settimeout(5)

        def talk():
            for _ in range(3):
                connection, _ = server.accept()
                connection.recv(65536)
                connection.sendall(b"hello\r\n\r\n")
                connection.close()

        thread = threading.Thread(target=talk, daemon=True)
        thread.start()
        with pytest.raises(ServerFailure, match="does not speak HTTP as expected"):
            Client(f"http://127.0.0.1:{server.getsockname()[1]}", limits=QUICK).ask("/", {})
        thread.join()


@pytest.mark.parametrize(
    "answer", [Said(hang=60), Said(status=503, headers={"Retry-After": "20"})], ids=["waiting", "between tries"]
)
def test_a_check_that_raises_ends_the_request_at_once(answer):
    calls = []

    def check():
        calls.append(1)
        if len(calls) > 3:
            raise Stopped

    with serving(lambda _: answer) as server, pytest.raises(Stopped):
        Client(server.url, limits=Limits(timeout=5), check=check).ask("/thing", {})


@pytest.mark.parametrize("url", ["http://127.0.0.1:8000/v1", "https://example.com", "http://[::1]:80/v1/"])
def test_addresses(url):
    assert address(url) == url.rstrip("/")


@pytest.mark.parametrize(
    "url",
    [
        "",
        "127.0.0.1:8000",
        "ftp://a/b",
        "file:///etc/passwd",
        "http://",
        "http://example.com:99999/",
        "http://example.com/?key=1",
        "http://example.com /",
        "http://[a",
    ],
)
def test_what_is_no_address_is_refused(url):
    with pytest.raises(BadInput, match="server address"):
        address(url)


def test_a_password_in_an_address_is_refused_and_not_repeated():
    with pytest.raises(BadInput) as refused:
        address("http://" + "me:hunter2@example.com/v1")
    assert "hunter2" not in str(refused.value)


@pytest.mark.parametrize("change", [{"timeout": 0}, {"retries": -1}, {"backoff": -1}, {"max_bytes": 0}, {"wait": -1}])
def test_limits_out_of_range_are_refused(change):
    with pytest.raises(BadInput, match="limits of a server"):
        Limits(**change)


class TestWhatTheServerSaid:
    @pytest.mark.parametrize(
        ("answer", "says"),
        [
            (Said({"error": {"message": "upstream is busy", "code": 429}}), "answered 429: .*upstream is busy"),
            (Said({"choices": [{"error": {"message": "idle", "code": "502"}}]}), "answered 502: .*idle"),
        ],
    )
    def test_an_error_inside_an_answer_is_one_and_is_waited_for(self, answer, says):
        assert ask(answer, Said({"b": 2})) == ({"b": 2}, 2)
        failure, times = ask(answer)
        assert times == 3 and re.search(says, str(failure)) and failure.away

    def test_an_error_inside_an_answer_that_names_no_status_is_not_repeated(self):
        failure, times = ask(Said({"error": "Unexpected endpoint. Returning 200 anyway"}))
        assert times == 1 and "Unexpected endpoint" in str(failure) and not failure.away
        assert ask(Said({"error": None, "b": 2})) == ({"error": None, "b": 2}, 1)

    @pytest.mark.parametrize(
        ("status", "path", "says"),
        [
            (401, "/v1", r"; name the variable that holds its key \(key_variable\)$"),
            (307, "/v1", r"; it points to https://example.com/v2: write that into url$"),
            (404, "", r"; with most servers the url ends in /v1$"),
            (404, "/v1", r"answered 404$"),
            (405, "/v1/chat/completions", r"; with most servers the url ends in /v1$"),
        ],
    )
    def test_what_to_do_is_said_with_it(self, status, path, says):
        said = Said(b"", status, {"Location": "https://example.com/v2?key=sk-1"})
        with serving(lambda _: said) as server, pytest.raises(ServerFailure, match=says):
            Client(server.url.removesuffix("/v1") + path, limits=QUICK).ask("/thing")

    def test_a_key_that_is_refused_is_named_by_its_variable(self, monkeypatch):
        monkeypatch.setenv("SOME_KEY", "sk-12345")
        assert str(ask(Said(b"", 401), key_variable="SOME_KEY")[0]).endswith("; the key is in SOME_KEY (key_variable)")

    def test_a_refusal_that_comes_before_a_large_request_is_read_is_heard(self):
        with socket.socket() as server:
            server.bind(("127.0.0.1", 0))
            server.listen()

            def refuse() -> None:
                connection, _ = server.accept()
                connection.recv(1000)
                connection.sendall(b"HTTP/1.1 413 Too Large\r\nContent-Length: 3\r\nConnection: close\r\n\r\nbig")
                connection.shutdown(socket.SHUT_RDWR)
                connection.close()

            thread = threading.Thread(target=refuse, daemon=True)
            thread.start()
            client = Client(f"http://127.0.0.1:{server.getsockname()[1]}", limits=Limits(timeout=5, retries=0, wait=0))
            with pytest.raises(ServerFailure) as failed:
                client.ask("/thing", data=bytes(30_000_000))
            thread.join()
        # Not every system keeps an answer that lies unread when the connection is reset.
        assert failed.value.status == 413 or sys.platform != "linux"

    def test_what_a_gateway_packed_is_unpacked_up_to_the_limit(self):
        packed = {"Content-Encoding": "gzip"}
        assert ask(Said(gzip.compress(b'{"b": 2}'), headers=packed)) == ({"b": 2}, 1)
        bomb = Said(gzip.compress(bytes(10_000_000)), headers=packed)
        assert "more than 100,000 bytes" in str(ask(bomb, limits=Limits(max_bytes=100_000))[0])
        assert "does not speak HTTP" in str(ask(Said(b"no gzip", headers=packed))[0])

    def test_a_client_says_who_it_is(self):
        with serving(lambda _: Said({})) as server:
            Client(server.url, limits=QUICK).ask("/thing")
        assert server.asked[0].headers["User-Agent"] == f"clvr/{__version__}"


class TestSeveralAddresses:
    """One model at several places."""

    def test_the_least_busy_is_asked_first(self):
        held, go_on = threading.Event(), threading.Event()

        def slow(_) -> Said:
            held.set()
            assert go_on.wait(HUNG)
            return Said({"by": "slow"})

        with serving(slow) as one, serving(lambda _: Said({"by": "other"})) as other:
            client = Client(one.url, limits=QUICK, urls=[other.url])
            with ThreadPoolExecutor(1) as pool:
                first = pool.submit(client.ask, "/thing")
                assert held.wait(HUNG)
                assert [client.ask("/thing")["by"] for _ in range(3)] == ["other"] * 3
                go_on.set()
                assert first.result()["by"] == "slow"

    @pytest.mark.parametrize("away", [Said(status=503), Said(b"x", headers={"Content-Length": "9"})])
    def test_one_that_is_away_is_passed_over_without_a_wait(self, away, clock):
        with serving(lambda _: away) as one, serving(lambda _: Said({"b": 2})) as other:
            client = Client(one.url, limits=Limits(timeout=5), urls=[other.url])
            assert [client.ask("/thing")["b"] for _ in range(9)] == [2] * 9
            assert (len(one.asked), len(other.asked), clock.now) == (1, 9, 0)

    def test_all_that_are_away_are_waited_for_together(self, clock):
        back = lambda _: Said(status=503) if clock.now < 100 else Said({"b": 2})  # noqa: E731
        with serving(lambda _: Said(status=503)) as one, serving(back) as other:
            assert Client(one.url, limits=Limits(timeout=5), urls=[other.url]).ask("/thing") == {"b": 2}
        assert 100 <= clock.now < 145 and len(one.asked) + len(other.asked) < 40
