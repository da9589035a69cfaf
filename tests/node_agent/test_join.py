"""Joining, against real HTTP and HTTPS servers: proof, TLS, hints, and what is written down."""

import base64
import contextlib
import datetime as dt
import ipaddress
import json
import ssl
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from node_agent import identity, join
from protocol.errors import ErrorCode, SkepError
from protocol.tokens import enrol_bytes, signature_holds

HIVE_KEYS = {"k1": base64.b64encode(b"\x07" * 32).decode()}


@dataclass
class FakeHive:
    """Answers enrolments from a list of canned replies; checks the proof of each."""

    url: str
    server: ThreadingHTTPServer
    replies: list[tuple[int, Any]] = field(default_factory=list)
    asked: list[dict[str, Any]] = field(default_factory=list)

    def answer(self, body: dict[str, Any]) -> tuple[int, Any]:
        self.asked.append(body)
        public_key = base64.b64decode(body["public_key"])
        proof = base64.b64decode(body["proof"])
        if not signature_holds(public_key, proof, enrol_bytes(body["join_token"], public_key)):
            return 401, {"error": {"code": "unauthenticated", "message": "no proof"}}
        if self.replies:
            return self.replies.pop(0)
        reply = {"node_id": identity.node_id_of(public_key), "name": body["name"]}
        return 200, {**reply, "hive_id": "hive-1", "keys": HIVE_KEYS}


@contextlib.contextmanager
def fake_hive(context: ssl.SSLContext | None = None) -> Iterator[FakeHive]:
    """Serve a FakeHive on loopback, with TLS where a context is given."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            content = self.rfile.read(int(self.headers["Content-Length"]))
            status, reply = hive.answer(json.loads(content))
            text = reply if isinstance(reply, bytes) else json.dumps(reply).encode()
            self.send_response(status)
            if 300 <= status < 400:
                self.send_header("Location", "http://127.0.0.1:1/elsewhere")
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        def log_message(self, *_: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        def handle_error(self, *_: object) -> None:
            """A client that refuses our certificate is what these tests are about."""

    server = Server(("127.0.0.1", 0), Handler)
    scheme = "http"
    if context is not None:
        scheme = "https"
        server.socket = context.wrap_socket(
            server.socket, server_side=True, do_handshake_on_connect=False
        )
    hive = FakeHive(f"{scheme}://127.0.0.1:{server.server_address[1]}", server)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield hive
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@dataclass
class Authority:
    """A private certificate authority in a folder."""

    folder: Path

    def __post_init__(self) -> None:
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Test authority")])
        self.certificate = self.issue(self.name, self.key, alternatives=None)
        self.file = self.folder / "ca.pem"
        self.file.write_bytes(self.certificate.public_bytes(serialization.Encoding.PEM))

    def issue(
        self,
        subject: x509.Name,
        key: ec.EllipticCurvePrivateKey,
        *,
        alternatives: list[x509.GeneralName] | None,
        days: tuple[int, int] = (-1, 30),
    ) -> x509.Certificate:
        now = dt.datetime.now(dt.UTC)
        key_id = x509.SubjectKeyIdentifier.from_public_key(self.key.public_key())
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self.name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now + dt.timedelta(days=days[0]))
            .not_valid_after(now + dt.timedelta(days=days[1]))
        )
        if alternatives is None:
            usage = dict.fromkeys(
                [
                    "digital_signature",
                    "content_commitment",
                    "key_encipherment",
                    "data_encipherment",
                    "key_agreement",
                    "encipher_only",
                    "decipher_only",
                ],
                False,
            )
            builder = (
                builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
                .add_extension(key_id, critical=False)
                .add_extension(
                    x509.KeyUsage(key_cert_sign=True, crl_sign=True, **usage), critical=True
                )
            )
        else:
            builder = builder.add_extension(
                x509.SubjectAlternativeName(alternatives), critical=False
            ).add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(key_id),
                critical=False,
            )
        return builder.sign(self.key, hashes.SHA256())

    def server(self, alternatives: list[x509.GeneralName], **more: Any) -> ssl.SSLContext:
        """A server's context with a certificate for these names."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "hive")])
        certificate = self.issue(subject, key, alternatives=alternatives, **more)
        file = self.folder / f"{certificate.serial_number}.pem"
        file.write_bytes(
            certificate.public_bytes(serialization.Encoding.PEM)
            + key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(file)
        return context


LOOPBACK = [x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]


def join_at(folder: Path, url: str, **more: Any) -> identity.NodeRecord:
    """Join with what every test shares."""
    return join.join_hive(
        folder,
        identity.open_identity(folder),
        url=url,
        join_token=more.pop("join_token", "token-1"),
        name=more.pop("name", "bee"),
        **more,
    )


def test_join_proves_the_key_and_writes_it_down(tmp_path: Path) -> None:
    """A join proves possession of the key, and node.json then names the hive and its keys."""
    with fake_hive() as hive:
        record = join_at(tmp_path, hive.url + "/", slots=4)
    assert [asked["name"] for asked in hive.asked] == ["bee"]
    assert record == identity.read_record(tmp_path)
    assert record.hive == identity.Enrolment(
        url=hive.url, hive_id="hive-1", keys={"k1": b"\x07" * 32}
    )
    assert (record.name, record.slots) == ("bee", 4)
    text = (tmp_path / "node.json").read_text()
    assert "token-1" not in text
    assert "PRIVATE" not in text


def test_leave_keeps_id_and_key_and_join_again_keeps_the_id(tmp_path: Path) -> None:
    """Leaving drops the enrolment only; the node that joins again is the same node."""
    with fake_hive() as hive:
        joined = join_at(tmp_path, hive.url)
        left = join.leave_hive(tmp_path)
        assert left.hive is None
        assert left.name == "bee"
        with pytest.raises(join.JoinError):
            join.leave_hive(tmp_path)
        assert join_at(tmp_path, hive.url).node_id == joined.node_id


def test_another_hive_is_refused_before_the_token_is_spent(tmp_path: Path) -> None:
    """A node that has joined one hive does not show its token to another."""
    with fake_hive() as first, fake_hive() as second:
        join_at(tmp_path, first.url)
        with pytest.raises(join.JoinError) as caught:
            join_at(tmp_path, second.url)
        assert "leave" in caught.value.hint
        assert second.asked == []
        join_at(tmp_path, first.url)


def test_a_hive_that_is_starting_is_tried_again(tmp_path: Path) -> None:
    """A 503 is tried again with the same token; the join then holds."""
    with fake_hive() as hive:
        hive.replies = [(503, b""), (502, b"<html>")]
        join_at(tmp_path, hive.url)
        assert len(hive.asked) == 3
        assert len({asked["join_token"] for asked in hive.asked}) == 1


def test_the_hives_own_words_come_through(tmp_path: Path) -> None:
    """A used token is not tried again, and the hive's message and hint are shown."""
    error = {"code": "conflict", "message": "the join token was used", "hint": "Make another."}
    with fake_hive() as hive:
        hive.replies = [(409, {"error": error})]
        with pytest.raises(SkepError, match="was used") as caught:
            join_at(tmp_path, hive.url)
        assert len(hive.asked) == 1
    assert (caught.value.code, caught.value.hint) == (ErrorCode.CONFLICT, "Make another.")
    record = identity.read_record(tmp_path)
    assert record is not None
    assert record.hive is None


@pytest.mark.parametrize(
    ("reply", "words"),
    [
        ((200, b"<html>hello"), "not a hive"),
        ((404, b"nothing"), "not a hive"),
        ((302, b""), "redir"),
    ],
)
def test_what_is_no_hive_is_said(tmp_path: Path, reply: tuple[int, bytes], words: str) -> None:
    """A web server that is no hive, and one that redirects, are named; redirects not followed."""
    with fake_hive() as hive:
        hive.replies = [reply]
        with pytest.raises(join.JoinError, match=words):
            join_at(tmp_path, hive.url)
        assert len(hive.asked) == 1


def test_nobody_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A refused connection is tried a bounded number of times and then said."""
    monkeypatch.setattr(join, "_TRIES_MAX", 2)
    with fake_hive() as hive:
        url = hive.url
    with pytest.raises(join.HiveAwayError, match="no answer"):
        join_at(tmp_path, url)


def test_a_name_that_no_host_can_have(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is not known, as any that is not found."""
    monkeypatch.setattr(join, "_TRIES_MAX", 1)
    with pytest.raises(join.HiveAwayError, match="not known"):
        join_at(tmp_path, f"https://{'a' * 300}")


@pytest.mark.parametrize(
    "url",
    [
        "hive.example",
        "ftp://hive.example",
        "https://",
        "https://a:b@hive.example",
        "https://hive.example:port",
        "https://hive.example/?token=1",
        "http://hive.example",
        "http://10.0.0.1:8700",
        "http://127.0.0.1.example.com",
    ],
)
def test_addresses_that_are_refused(url: str) -> None:
    """What is no address, holds credentials, or is plain http to another machine is refused."""
    with pytest.raises(join.JoinError) as caught:
        join.parse_address(url, plain_http=False)
    assert caught.value.hint


def test_addresses_that_are_taken() -> None:
    """Loopback may be plain http; another machine only where the operator says so."""
    assert join.parse_address("http://[::1]:8700/", plain_http=False).url == "http://[::1]:8700"
    assert join.parse_address("http://localhost:1", plain_http=False).loopback
    assert join.parse_address("http://10.0.0.1", plain_http=True).url == "http://10.0.0.1"
    assert join.parse_address("https://h.example/skep/", plain_http=False).path == "/skep"


def test_tls_with_a_private_authority(tmp_path: Path) -> None:
    """With --ca the private authority is trusted, its copy kept, and used for later links."""
    authority = Authority(tmp_path)
    folder = tmp_path / "node"
    with fake_hive(authority.server(LOOPBACK)) as hive:
        record = join_at(folder, hive.url, ca=authority.file)
    assert record.hive is not None
    assert record.hive.own_ca
    authority.file.unlink()
    context = join.tls_context(record.hive, folder)
    assert context is not None
    assert len(context.get_ca_certs()) == 1
    assert context.verify_mode == ssl.CERT_REQUIRED
    assert context.check_hostname
    for spoilt in (b"", b"none", b"\xff\xfe", None):
        if spoilt is None:
            (folder / identity.CA_FILE).unlink()
        else:
            (folder / identity.CA_FILE).write_bytes(spoilt)
        with pytest.raises(join.JoinError) as refused:
            join.tls_context(record.hive, folder)
        assert "--ca" in refused.value.hint


@pytest.mark.parametrize(
    ("case", "words", "hint"),
    [
        ("unknown authority", "authority not known", "--ca"),
        ("another authority", "authority not known", "--ca"),
        ("other host", "not for 127.0.0.1", "name"),
        ("expired", "expired", "renew"),
        ("not yet", "not valid yet", "clock"),
    ],
)
def test_certificates_that_do_not_hold(tmp_path: Path, case: str, words: str, hint: str) -> None:
    """Each way a certificate can fail is refused, named, and shows no token to the server."""
    (tmp_path / "other").mkdir()
    authority, other = Authority(tmp_path), Authority(tmp_path / "other")
    names: list[x509.GeneralName] = list(LOOPBACK)
    if case == "other host":
        names = [x509.DNSName("hive.example")]
    days = {"expired": (-9, -2), "not yet": (2, 9)}.get(case, (-1, 30))
    ca = {"unknown authority": None, "another authority": other.file}.get(case, authority.file)
    with fake_hive(authority.server(names, days=days)) as hive:
        with pytest.raises(join.JoinError, match=words) as caught:
            join_at(tmp_path / "node", hive.url, ca=ca)
        assert hive.asked == []
    assert hint in caught.value.hint
    assert caught.value.code is ErrorCode.AUTHENTICATION_FAILED


def test_https_to_a_plain_port_and_a_ca_that_is_none(tmp_path: Path) -> None:
    """TLS to a port that speaks plain HTTP, and a CA file that holds no certificate, are named."""
    nonsense = tmp_path / "ca.pem"
    nonsense.write_text("hello")
    with fake_hive() as hive:
        url = hive.url.replace("http:", "https:")
        with pytest.raises(join.JoinError, match="does not speak TLS"):
            join_at(tmp_path / "node", url)
        with pytest.raises(join.JoinError, match="no certificate"):
            join_at(tmp_path / "node", url, ca=nonsense)
        with pytest.raises(join.JoinError, match="cannot read"):
            join_at(tmp_path / "node", url, ca=tmp_path / "none.pem")
