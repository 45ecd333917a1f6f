"""Receivers that hang, trickle, lie or answer without end: a notice ends, and no run waits.

Time and memory are bounded by the process that sends. That they are is seen by its error, which it
would not live to report without the bound.
"""

from __future__ import annotations

import contextlib
import gzip
import json
import socketserver
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Any

import pytest

from gymdbd.notices import limits
from tests.support.receivers import certificates, message, settings

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from gymdbd.config.config import Config

_CHUNK = b"x" * 65536
# The limit of the process, and what else it has in memory.
_MOST_KILOBYTES = 350 * 1024
_OK = b"HTTP/1.1 200 OK\r\n"


@contextlib.contextmanager
def _server(act: Callable[[socket.socket, threading.Event], None]) -> Iterator[int]:
    """Run a server that does `act` with every connection, until the event is set."""
    over = threading.Event()

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            with contextlib.suppress(OSError):
                act(self.request, over)

    class Server(socketserver.ThreadingTCPServer):
        daemon_threads = True
        allow_reuse_address = True

    with Server(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=[0.02])
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            over.set()
            server.shutdown()
            thread.join()


def _send(settings: Config, name: str, timeout_s: float) -> dict[str, Any]:
    """Send through a channel as a look does, with less time; return what the process answers.

    The system ends it if it takes more processor time or writes anything large.
    """
    code = (
        "import sys\n"
        "from gymdbd.notices import limits, sending\n"
        f"limits.limited.__wrapped__.__defaults__ = ({timeout_s},)\n"
        "sending.main()\n"
        "status = open('/proc/self/status').read()\n"
        "sys.exit(status.partition('VmHWM:')[2].split()[0])\n"
    )
    order = {
        "source": str(settings.source),
        "text": settings.text,
        "channel": name,
        "message": message().to_json(),
    }
    done = subprocess.run(
        ["prlimit", "--cpu=20", "--fsize=1048576", sys.executable, "-c", code],
        input=json.dumps(order).encode(),
        check=False,
        capture_output=True,
        timeout=60,
    )
    assert int(done.stderr) < _MOST_KILOBYTES
    return dict(json.loads(done.stdout))


def _hang(connection: socket.socket, over: threading.Event) -> None:
    del connection
    over.wait()


def _trickle(beginning: bytes, drop: bytes) -> Callable[[socket.socket, threading.Event], None]:
    """Return what sends a few bytes now and then, so that no single wait is long."""

    def act(connection: socket.socket, over: threading.Event) -> None:
        connection.sendall(beginning)
        while not over.wait(0.1):
            connection.sendall(drop)

    return act


def _endless(beginning: bytes, chunk: bytes) -> Callable[[socket.socket, threading.Event], None]:
    """Return what sends without end, as fast as it goes."""

    def act(connection: socket.socket, over: threading.Event) -> None:
        connection.sendall(beginning)
        while not over.is_set():
            connection.sendall(chunk)

    return act


_SLOW = {
    "hang": _hang,
    "trickled header": _trickle(_OK, b"X-A: b\r\n"),
    "trickled status": _trickle(b"HTTP/1.1 200 ", b"x"),
    "trickled interim": _trickle(b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
}


@pytest.mark.parametrize(
    ("kind", "scheme"), [*((kind, "http") for kind in _SLOW), ("trickled header", "json")]
)
def test_a_web_server_that_takes_for_ever_is_given_up(
    tmp_path: Path, kind: str, scheme: str
) -> None:
    """Though each of its bytes comes in time, the whole has a limit; also within apprise."""
    with _server(_SLOW[kind]) as port:
        found = settings(tmp_path, owner={"url": f"{scheme}://127.0.0.1:{port}/hunter2"})
        answer = _send(found, "owner", 2)
    assert (answer["code"], answer["error"]) == (
        "receiver-away",
        "the message was not taken within 2 s",
    )


_ENDLESS = {
    "body": (_endless(_OK + b"\r\n", _CHUNK), None),
    "chunks": (_endless(_OK + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n" * 999), None),
    "chunk size": (_endless(_OK + b"Transfer-Encoding: chunked\r\n\r\n", b"f" * 9999), None),
    "headers": (_endless(_OK, b"X-A: b\r\n" * 1000), "receiver-away"),
    "header": (_endless(_OK + b"X-A: ", _CHUNK), "receiver-away"),
    "nonsense": (_endless(b"", _CHUNK), "receiver-away"),
    "redirects": (
        _endless(b"HTTP/1.1 307 Again\r\nLocation: /\r\n\r\n", b"x"),
        "receiver-refused",
    ),
}


@pytest.mark.parametrize("kind", _ENDLESS)
def test_a_web_server_that_answers_without_end_is_read_no_further(
    tmp_path: Path, kind: str
) -> None:
    """An endless body after 200 is a message that was taken; the rest is no answer."""
    act, code = _ENDLESS[kind]
    with _server(act) as port:
        found = settings(tmp_path, owner={"url": f"http://127.0.0.1:{port}/hunter2"})
        answer = _send(found, "owner", 10)
    assert str(answer.get("code")).startswith(str(code))
    assert "hunter2" not in str(answer)
    assert "not taken within" not in str(answer)


@pytest.mark.parametrize(
    "body",
    [
        b"Content-Length: 99\r\n\r\n",
        b"Transfer-Encoding: chunked\r\n\r\nno\r\n",
        b"Transfer-Encoding: chunked\r\n\r\n9\r\nab",
    ],
    ids=["cut off", "no chunk", "half a chunk"],
)
def test_a_message_that_was_taken_is_not_sent_again_for_the_rest_of_the_answer(
    tmp_path: Path, body: bytes
) -> None:
    """The person would get it three times."""

    def act(connection: socket.socket, over: threading.Event) -> None:
        del over
        connection.recv(65536)
        connection.sendall(_OK + body)

    with _server(act) as port:
        found = settings(tmp_path, owner={"url": f"http://127.0.0.1:{port}/hunter2"})
        assert _send(found, "owner", 10) == {}


def test_a_trickled_answer_to_a_message_that_was_taken_is_not_awaited(tmp_path: Path) -> None:
    """Nobody reads more than its beginning."""
    act = _trickle(_OK + b"Content-Length: 400\r\n\r\n", b"x")
    with _server(act) as port:
        found = settings(tmp_path, owner={"url": f"http://127.0.0.1:{port}/hunter2"})
        assert _send(found, "owner", 5) == {}


def test_a_compressed_answer_is_not_unpacked_into_memory(tmp_path: Path) -> None:
    """A plugin of apprise unpacks what its receiver sends: the process has a limit on memory."""
    bomb = gzip.compress(bytes(2**20)) * 1000
    head = _OK + f"Content-Encoding: gzip\r\nContent-Length: {len(bomb)}\r\n\r\n".encode()

    def act(connection: socket.socket, over: threading.Event) -> None:
        connection.recv(65536)
        connection.sendall(head + bomb)
        over.wait(5)

    with _server(act) as port:
        urls = {name: f"{name}://127.0.0.1:{port}/hunter2" for name in ("http", "json")}
        found = settings(tmp_path, **{name: {"url": url} for name, url in urls.items()})
        assert _send(found, "http", 10) == {}
        answer = _send(found, "json", 10)
    assert answer["error"] == "the receiver answers without end"


def _greet(lines: bytes) -> Callable[[socket.socket, threading.Event], None]:
    """Return a mail server that says these lines without being asked, and then waits."""

    def act(connection: socket.socket, over: threading.Event) -> None:
        connection.sendall(lines)
        over.wait()

    return act


_EHLO = b"220 hello\r\n250-here\r\n250 STARTTLS\r\n"
_MAIL: dict[str, tuple[Callable[[socket.socket, threading.Event], None], str]] = {
    "hang": (_hang, "not taken within 3 s"),
    "trickle": (_trickle(b"220-", b"x"), "not taken within 3 s"),
    "lines without end": (_endless(b"", b"220-" + b"x" * 8000 + b"\r\n"), ""),
    "a line without end": (_endless(b"220 ", _CHUNK), "500 Line too long"),
    "no server of mail": (_greet(b"HTTP/1.1 400 no\r\n\r\n"), "does not speak as a mail server"),
    "hang before TLS": (_greet(_EHLO + b"220 go\r\n"), "not taken within 3 s"),
    "STARTTLS refused": (_greet(_EHLO + b"454 later\r\n"), "454 later"),
    "STARTTLS taken out": (_greet(b"220 hello\r\n250 here\r\n"), "offers no encryption"),
    "a lie about TLS": (_greet(_EHLO + b"220 go\r\n220 hello\r\n"), "not taken within 3 s"),
}


@pytest.mark.parametrize("kind", _MAIL)
def test_a_mail_server_that_hangs_or_lies_gets_no_password(tmp_path: Path, kind: str) -> None:
    """Without TLS there is no login, whatever it says; and it cannot keep the process."""
    act, told = _MAIL[kind]
    heard: list[bytes] = []

    def listen(connection: socket.socket, over: threading.Event) -> None:
        threading.Thread(target=_hear, args=[connection, heard], daemon=True).start()
        act(connection, over)

    with _server(listen) as port:
        smtp = {"host": "localhost", "port": port, "user": "me", "password": "hunter2"}
        found = settings(tmp_path, owner={"email": "boss@example.com", "smtp": smtp})
        answer = _send(found, "owner", 3)
    assert answer["code"] in ("receiver-away", "receiver-refused")
    assert told in answer["error"]
    assert b"AUTH" not in b"".join(heard).upper()
    assert "hunter2" not in str(answer)


@pytest.mark.parametrize("method", ["PLAIN", "LOGIN", "CRAM-MD5"])
def test_a_login_that_a_mail_server_quotes_is_in_no_error(tmp_path: Path, method: str) -> None:
    """It is the password in base64, or what the password can be guessed from."""
    quoted: list[bytes] = []

    def act(connection: socket.socket, over: threading.Event) -> None:
        del over
        answers = [b"220 hello", f"250-here\r\n250 AUTH {method}".encode()]
        answers += [b"334 UGFzcw=="] if method != "PLAIN" else []
        with connection.makefile("rb") as lines:
            line = b""
            for answer in answers:
                connection.sendall(answer + b"\r\n")
                line = lines.readline().strip()
            quoted.append(line.split()[-1])
            connection.sendall(b"535 no: " + line + b" of hunter2\r\n")
            lines.readline()

    with _server(act) as port:
        smtp = {"host": "127.0.0.1", "port": port, "tls": "none", "user": "me"}
        keys = {"email": "boss@example.com", "smtp": {**smtp, "password": "hunter2"}}
        answer = _send(settings(tmp_path, owner=keys), "owner", 10)
    assert "(535 no: " in answer["error"]
    assert "hunter2" not in answer["error"]
    assert quoted[0].decode().rstrip("=") not in answer["error"]


@pytest.mark.parametrize("farewell", [b"", b"500 no\r\n"], ids=["none", "a refusal"])
def test_a_mail_that_was_taken_is_not_sent_again_for_the_farewell(
    tmp_path: Path, farewell: bytes
) -> None:
    """The person would get it three times."""

    def act(connection: socket.socket, over: threading.Event) -> None:
        with connection.makefile("rb") as lines:
            # The greeting, and the answers to ehlo, mail, rcpt and data.
            for answer in (b"220 hello", b"250 here", b"250 ok", b"250 ok", b"354 go"):
                connection.sendall(answer + b"\r\n")
                lines.readline()
            while lines.readline() not in (b".\r\n", b""):
                pass
            connection.sendall(b"250 taken\r\n")
            lines.readline()
            connection.sendall(farewell)
            over.wait()

    with _server(act) as port:
        smtp = {"host": "127.0.0.1", "port": port, "tls": "none"}
        found = settings(tmp_path, owner={"email": "boss@example.com", "smtp": smtp})
        assert _send(found, "owner", 5) == {}


def _hear(connection: socket.socket, heard: list[bytes]) -> None:
    with contextlib.suppress(OSError):
        while data := connection.recv(65536):
            heard.append(data)


def test_a_server_with_another_certificate_gets_no_byte_of_the_message(tmp_path: Path) -> None:
    """The path of the URL is a secret, and is sent only after the certificate was checked."""
    made = certificates(tmp_path)
    heard: list[bytes] = []

    def act(connection: socket.socket, over: threading.Event) -> None:
        del over
        with (
            contextlib.suppress(OSError),
            made.stranger.wrap_socket(connection, server_side=True) as encrypted,
        ):
            heard.append(encrypted.recv(65536))

    with _server(act) as port:
        found = settings(tmp_path, owner={"url": f"https://localhost:{port}/hunter2"})
        answer = _send(found, "owner", 10)
    assert answer["code"] == "receiver-refused"
    assert "is not trusted" in answer["error"]
    assert b"".join(heard) == b""


def test_the_limits_of_a_notice_are_those_that_are_promised() -> None:
    """A notice has 15 s, and a quarter of the memory of the smallest machine at most."""
    assert limits.TIMEOUT_S == 15.0
    assert limits._MOST_MEMORY <= 256 * 1024 * 1024  # noqa: SLF001 - what the tests above rely on
