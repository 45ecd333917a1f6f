"""Receivers of notices and pings: a web server and a mail server, and certificates for them."""

from __future__ import annotations

import contextlib
import datetime as dt
import ipaddress
import json
import os
import socket
import ssl
import threading
from dataclasses import dataclass, field
from email import message_from_bytes, policy
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from gymdbd.config import config
from gymdbd.jobs.finding import Health
from gymdbd.notices.message import HIGH, Message

if TYPE_CHECKING:
    from collections.abc import Iterator
    from email.message import EmailMessage
    from pathlib import Path

    from gymdbd.config.config import Config

USER, PASSWORD = "me", "hunter2"


class Request(NamedTuple):
    """A request that came."""

    path: str
    headers: dict[str, str]
    body: str


@dataclass
class Web:
    """A web server that answers what its paths ask for: `/404` with 404, others with 200."""

    port: int
    requests: list[Request] = field(default_factory=list)

    def url(self, path: str = "") -> str:
        """Return a URL of this machine."""
        return f"http://127.0.0.1:{self.port}/{path}"

    @property
    def paths(self) -> list[str]:
        """Return the paths of all requests, as they came."""
        return [request.path for request in self.requests]


@contextlib.contextmanager
def web(tls: ssl.SSLContext | None = None, answer: bytes = b"OK") -> Iterator[Web]:
    """Run a web server on a free port; `answer` is the body of its answers."""
    receiver = Web(0)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            size = int(self.headers["Content-Length"])
            body = self.rfile.read(size).decode()
            receiver.requests.append(Request(self.path, dict(self.headers), body))
            first = self.path.strip("/").partition("/")[0].partition("?")[0]
            self.send_response(int(first) if first.isdigit() else 200)
            if first.startswith("3"):
                self.send_header("Location", f"{receiver.url()}elsewhere")
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_: Any) -> None:
            """Print nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.handle_error = lambda *_: None  # type: ignore[method-assign] # a client that goes away
    if tls:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    receiver.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, args=[0.02])
    thread.start()
    try:
        yield receiver
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@dataclass
class Mail:
    """A mail server, and what came: the messages, and whether each was encrypted."""

    port: int
    messages: list[EmailMessage] = field(default_factory=list)
    encrypted: list[bool] = field(default_factory=list)

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:  # noqa: N802 - aiosmtpd's name
        """Take a message; refuse those to `nobody@`, and put off those to `busy@`."""
        del session
        if envelope.rcpt_tos[0].startswith("nobody@"):
            return f"550 no such user, and your password is {PASSWORD}"
        if envelope.rcpt_tos[0].startswith("busy@"):
            return "451 come back later"
        self.messages.append(message_from_bytes(envelope.content, policy=policy.default))
        self.encrypted.append(server.transport.get_extra_info("ssl_object") is not None)
        return "250 OK"


@contextlib.contextmanager
def mail(tls: ssl.SSLContext | None = None, *, implicit: bool = False) -> Iterator[Mail]:
    """Run a mail server on a free port: with TLS it wants a login, without it does not."""
    from aiosmtpd.controller import Controller  # noqa: PLC0415 - 0.2 s
    from aiosmtpd.smtp import AuthResult  # noqa: PLC0415

    def is_known(server: Any, session: Any, envelope: Any, mechanism: Any, data: Any) -> AuthResult:
        del server, session, envelope, mechanism
        is_right = (data.login, data.password) == (USER.encode(), PASSWORD.encode())
        return AuthResult(success=is_right, handled=False)

    receiver = Mail(free_port())
    options: dict[str, Any] = {}
    if tls:
        options = {"authenticator": is_known, "auth_required": True}
        options |= {"ssl_context": tls} if implicit else {"tls_context": tls, "require_starttls": 1}
        options["auth_require_tls"] = not implicit
    controller = Controller(receiver, hostname="127.0.0.1", port=receiver.port, **options)
    controller.start()
    try:
        yield receiver
    finally:
        controller.stop()


def free_port() -> int:
    """Return a port that nothing listens on."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


class Certificates(NamedTuple):
    """An authority in a file, for SSL_CERT_FILE, and the servers that it vouches for."""

    authority: Path
    localhost: ssl.SSLContext
    elsewhere: ssl.SSLContext
    expired: ssl.SSLContext
    stranger: ssl.SSLContext


def certificates(folder: Path) -> Certificates:
    """Make an authority and certificates: good, for another host, expired, and of nobody."""
    key, authority = _issue("an authority", None)
    file = folder / "authority.pem"
    file.write_bytes(authority.public_bytes(serialization.Encoding.PEM))
    issuer = (key, authority)
    return Certificates(
        file,
        _context(folder / "good.pem", *_issue("localhost", issuer)),
        _context(folder / "other.pem", *_issue("elsewhere.example", issuer, address=False)),
        _context(folder / "old.pem", *_issue("localhost", issuer, days=-2)),
        _context(folder / "self.pem", *_issue("localhost", None)),
    )


_Issued = tuple[ec.EllipticCurvePrivateKey, x509.Certificate]


def _issue(name: str, issuer: _Issued | None, *, days: int = 2, address: bool = True) -> _Issued:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    now = dt.datetime.now(dt.UTC)  # noqa: TID251 - a certificate is of real time
    names: list[x509.GeneralName] = [x509.DNSName("localhost" if address else name)]
    if address:
        names.append(x509.IPAddress(ipaddress.ip_address("127.0.0.1")))
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer[1].subject if issuer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=5))
        .not_valid_after(now + dt.timedelta(days=days))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=issuer is None, path_length=None), critical=True)
    )
    return key, builder.sign(issuer[0] if issuer else key, hashes.SHA256())


def _context(
    file: Path, key: ec.EllipticCurvePrivateKey, found: x509.Certificate
) -> ssl.SSLContext:
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    file.write_bytes(private + found.public_bytes(serialization.Encoding.PEM))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file)
    return context


def message(**changes: Any) -> Message:
    """Return a message in Korean, with what could be taken for markup or for headers."""
    facts: dict[str, Any] = {
        "title": "라즈베리파이: nightly 백업 실패",
        "text": "디스크가 가득 찼습니다.\n<!channel> @everyone & 할 일: df -h",
        "priority": HIGH,
        "health": Health.FAILING,
        "machine": "pi",
        "job": "nightly",
        "events": (),
    }
    return Message(**{**facts, **changes})


def settings(folder: Path, **channels: dict[str, Any]) -> Config:
    """Return a configuration with these channels, from a file that only its owner reads."""
    archive = folder / "archive"
    archive.mkdir(mode=0o700, exist_ok=True)
    content = {
        "status_file": str(folder / "status.json"),
        "notify": {"to": channels},
        "jobs": {"nightly": {"kind": "verify", "every": "1h", "archive": str(archive)}},
    }
    path = folder / "config.yaml"
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        json.dump(content, file)
    return config.load(path)
