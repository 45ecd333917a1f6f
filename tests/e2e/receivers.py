"""Those who are told: a mail server and a web server on a machine's loopback, for what it sends.

Run in the machine's place in the network, it writes each message that arrives as a line of JSON.
"""

from __future__ import annotations

import contextlib
import email
import email.policy
import json
import subprocess
import sys
import threading
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.e2e.network import WITH_US
from tests.support.command import ROOT, environment
from tests.support.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.e2e.network import Place

MAIL_PORT, WEB_PORT = 2525, 8025
MAIL, WEB = "mail", "web"
USER, PASSWORD = "gym", "a s3cret: word"


@dataclass(frozen=True)
class Receivers:
    """The receivers of one machine."""

    path: Path

    def got(self, way: str, *, about: str = "") -> list[dict[str, Any]]:
        """Return what has arrived on this way and holds these words, oldest first."""
        # The last line may be on its way still.
        lines = self.path.read_text(encoding="utf-8").split("\n")[:-1]
        return [one for one in map(json.loads, lines) if one["way"] == way and about in str(one)]

    def await_count(self, way: str, count: int, *, about: str = "") -> list[dict[str, Any]]:
        """Wait until that many have arrived, within a minute."""

        def are_here() -> bool:
            return len(self.got(way, about=about)) >= count

        until(are_here, f"{count} by {way} about {about!r}: {self.got(way)}", within_s=60)
        return self.got(way, about=about)


@contextlib.contextmanager
def receivers(place: Place, folder: Path) -> Iterator[Receivers]:
    """Let them listen there."""
    path = folder / "received.jsonl"
    path.touch()
    words = [*place.prefix, *WITH_US, sys.executable, "-m", "tests.e2e.receivers", str(path)]
    with subprocess.Popen(
        words, cwd=ROOT, env=environment(), stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            yield Receivers(path)
        finally:
            process.kill()


_writing = threading.Lock()


def _note(**facts: Any) -> None:
    with _writing, Path(sys.argv[1]).open("a", encoding="utf-8") as file:
        file.write(json.dumps(facts) + "\n")


class _Web(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        _note(way=WEB, path=self.path, title=self.headers.get("Title", ""), text=body)
        self.send_response(200)
        self.end_headers()

    do_GET = do_POST  # noqa: N815 - as the base class calls it

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - as the base class has it
        pass


class _Mail:
    async def handle_DATA(self, _server: Any, _session: Any, envelope: Any) -> str:  # noqa: N802
        letter = email.message_from_bytes(envelope.content, policy=email.policy.default)
        body = letter.get_body(("plain",))
        text = body.get_content() if body else ""
        _note(way=MAIL, to=envelope.rcpt_tos, title=str(letter["Subject"]), text=text)
        return "250 OK"


def _listen() -> None:
    # Not needed by the tests that import this, which only await what arrives.
    from aiosmtpd.controller import Controller  # noqa: PLC0415
    from aiosmtpd.smtp import AuthResult, LoginPassword  # noqa: PLC0415

    def is_known(*arguments: Any) -> AuthResult:
        data = arguments[-1]
        good = data == LoginPassword(USER.encode(), PASSWORD.encode())
        return AuthResult(success=good)

    mail = Controller(
        _Mail(),
        hostname="127.0.0.1",
        port=MAIL_PORT,
        authenticator=is_known,
        auth_required=True,
        auth_require_tls=False,
    )
    mail.start()
    web = ThreadingHTTPServer(("127.0.0.1", WEB_PORT), _Web)
    print("ready", flush=True)  # noqa: T201 - the one who starts it waits for it
    web.serve_forever()


if __name__ == "__main__":
    _listen()
