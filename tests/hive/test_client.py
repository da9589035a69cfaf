"""The command line's client: what it makes of replies that are no plain success."""

import http.server
import threading
from collections.abc import Iterator

import pytest

from hive import client
from hive.client import HiveClient
from protocol.errors import SkepError


class _Answers(http.server.BaseHTTPRequestHandler):
    """Answers GET with as many bytes of JSON as the path's last part says, POST as a proxy does.

    `away` is answered as a proxy does too, and `silent` only when the caller has gone.
    """

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        if self.path.endswith("away"):
            self.send_error(502)
            return
        if self._fell_silent():
            return
        size = int(self.path.rpartition("/")[2])
        self.send_response(200)
        self.send_header("Content-Length", str(size))
        self.end_headers()
        self.wfile.write(b'"' + b"x" * (size - 2) + b'"')

    def do_PUT(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"] or 0))
        key = self.headers["Idempotency-Key"].encode("latin-1")
        self.send_response(200)
        self.send_header("Content-Length", str(len(key) + 2))
        self.end_headers()
        self.wfile.write(b'"' + key + b'"')

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"] or 0))
        if not self._fell_silent():
            self.send_error(502)

    def _fell_silent(self) -> bool:
        silent = self.path.endswith("silent")
        if silent:
            self.rfile.read(1)
            self.close_connection = True
        return silent

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def url() -> Iterator[str]:
    """What answers at an address of its own."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Answers) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def test_a_proxy_whose_hive_is_away_is_told_as_that(url: str):
    """It passes by itself; of what was to be changed, nobody knows whether it was."""
    with HiveClient(url, "token") as hive:
        with pytest.raises(SkepError) as away:
            hive.get("away")
        assert (away.value.code, away.value.meaning.retryable) == ("hive_offline", True)
        with pytest.raises(SkepError) as unknown:
            hive.post("change", {}, key="k-1")
        assert unknown.value.code == "unknown"
        assert "k-1" in unknown.value.hint


def test_a_change_that_nobody_answered_is_not_told_as_undone(url: str):
    """The answer is swallowed on its way: whoever asks again by reflex would have it twice."""
    with HiveClient(url, "token") as hive:
        with pytest.raises(SkepError) as unknown:
            hive.post("silent", {}, timeout_s=0.2)
        assert unknown.value.code == "unknown"
        assert "look" in unknown.value.hint
        with pytest.raises(SkepError) as away:
            hive.get("silent", timeout_s=0.2)
        assert away.value.code == "hive_offline"


def test_a_reply_that_is_too_large_is_told_as_that(url: str, monkeypatch: pytest.MonkeyPatch):
    """It is a hive's, and not read to its end; the next request has a connection of its own."""
    monkeypatch.setattr(client, "_REPLY_BYTES_MAX", 1000)
    with HiveClient(url, "token") as hive:
        assert len(hive.get("1000")) == 998
        with pytest.raises(SkepError) as refused:
            hive.get("1001")
        assert refused.value.code == "too_large"
        assert refused.value.hint
        assert hive.get("10") == "x" * 8


@pytest.mark.parametrize(
    "address", ["", "http://", "http://[::1", "http://h:x", "http://h:99999", "ftp://h", "h:1"]
)
def test_what_is_no_address_of_a_hive(address: str):
    """It is said, whatever is wrong with it."""
    with pytest.raises(SkepError) as wrong:
        HiveClient(address, "token")
    assert (wrong.value.code, wrong.value.details) == ("invalid", {"field": "url"})


def test_a_name_that_no_host_can_have():
    """It is not there, as any that is not found."""
    with HiveClient(f"http://{'a' * 300}", "token") as hive, pytest.raises(SkepError) as away:
        hive.get("status")
    assert away.value.code == "hive_offline"


def test_keys_are_sent_in_any_script(url: str):
    """As UTF-8, which is how a hive reads them."""
    key = "\u00e9-\U0001f600"
    with HiveClient(url, "token") as hive:
        assert hive.request("PUT", "echo", body={}, key=key) == key


@pytest.mark.parametrize("bad", ["a\nb", "a\r", "\0"])
def test_what_no_header_can_hold_is_refused_by_its_name(url: str, bad: str):
    """A key, a head, a token: the token itself is told to nobody."""
    with HiveClient(url, f"secret{bad}") as hive:
        for ask in (lambda: hive.get("9"), lambda: next(hive.events("nodes"))):
            with pytest.raises(SkepError) as wrong:
                ask()
            assert wrong.value.details == {"field": "token"}
            assert "secret" not in str(wrong.value)
    with HiveClient(url, "token") as hive:
        with pytest.raises(SkepError) as wrong:
            hive.post("change", {}, key=bad)
        assert wrong.value.details == {"field": "Idempotency-Key"}
        with pytest.raises(SkepError) as wrong:
            hive.request("POST", "change", body={}, headers={"Expected-Head": bad})
        assert wrong.value.details == {"field": "Expected-Head"}
