"""Notices and pings by HTTPS: a POST to a URL, whose answer is bounded and never obeyed.

Redirects are not followed: the receiver of a secret URL is the one that the configuration names.
Certificates are always checked.
"""

from __future__ import annotations

import base64
import contextlib
import http.client
import json
import ssl
from email.header import Header
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote

import gymdbd
from gymdbd.config import urls
from gymdbd.errors import ReceiverAwayError, ReceiverRefusedError
from gymdbd.notices.channels.letter import cut

if TYPE_CHECKING:
    from urllib.parse import SplitResult

    from gymdbd.notices.channels.letter import Letter

_WAIT_S = 10.0
_MOST_ANSWER = 512
# What may change by itself: too early, too often, or trouble of the receiver's own.
_PASSING = (408, 425, 429)
_TROUBLE = 500
_GOOD, _REDIRECTS = range(200, 300), range(300, 400)
# ntfy makes an attachment of a longer text. The limits of Slack and Discord count characters, and
# Discord's as UTF-16 does.
_MOST_NTFY, _MOST_SLACK, _MOST_DISCORD = 4000, 2 * 3900, 2 * 2000
_TAGS = {
    "ok": "white_check_mark",
    "late": "hourglass",
    "failing": "rotating_light",
    "unknown": "grey_question",
}


def send(url: str, form: str, letter: Letter) -> None:
    """POST a letter in the form that its service reads; NotToldError if it is not taken."""
    if form == "text":
        headers = {
            "Content-Type": "text/plain; charset=utf-8",
            "Title": _header(letter.title),
            "Priority": letter.priority,
            "Tags": _TAGS.get(letter.health, "information_source"),
        }
        post(url, cut(letter.text, _MOST_NTFY).encode(), headers)
        return
    content = {"json": _json, "slack": _slack, "discord": _discord}[form](letter)
    body = json.dumps(content, ensure_ascii=False, default=str).encode("utf-8", "replace")
    post(url, body, {"Content-Type": "application/json; charset=utf-8"})


def _json(letter: Letter) -> dict[str, object]:
    return letter.content


def _slack(letter: Letter) -> dict[str, object]:
    text = cut(f"*{letter.title}*\n{letter.text}", _MOST_SLACK, "utf-16-le")
    # Three characters are markup there: <!channel> would call everybody.
    return {"text": text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")}


def _discord(letter: Letter) -> dict[str, object]:
    text = cut(f"**{letter.title}**\n{letter.text}", _MOST_DISCORD, "utf-16-le")
    return {"content": text, "allowed_mentions": {"parse": []}}


def _header(text: str) -> str:
    """Return a text as a header may have it: by RFC 2047 unless it is ASCII, which ntfy decodes."""
    if text.isascii() and text.isprintable():
        return text
    return Header(text, "utf-8", maxlinelen=10_000).encode(linesep="")


def post(url: str, body: bytes, headers: dict[str, str]) -> bytes:
    """POST a body to a URL and return the beginning of the answer.

    Raises ReceiverRefusedError, or ReceiverAwayError if trying again can help; neither shows more
    of the URL than its host.
    """
    try:
        parts = urls.split(url)
    except ValueError as error:
        raise ReceiverRefusedError(
            f"the URL of the receiver cannot be used: {error}", hint="correct the URL"
        ) from error
    shown = urls.shown(url)
    connection = _connection(parts)
    try:
        connection.request("POST", _target(parts), body, {**_headers(parts), **headers})
        with connection.getresponse() as answer:
            _require_taken(answer.status, shown)
            return _beginning(answer)
    except ssl.SSLCertVerificationError as error:
        raise ReceiverRefusedError(
            f"{shown} is not trusted: {error.verify_message or 'its certificate is invalid'}",
            hint="check the host name and the clock; for a certificate authority of your own, set "
            "SSL_CERT_FILE in the environment of the service",
        ) from error
    except (OSError, http.client.HTTPException, UnicodeError) as error:
        raise ReceiverAwayError(
            f"{shown} cannot be reached ({_reason(error)})",
            hint="check the network of this machine, and the URL",
        ) from error
    finally:
        connection.close()


def _beginning(answer: http.client.HTTPResponse) -> bytes:
    """Return what comes first of an answer; if that fails, the message was taken all the same."""
    with contextlib.suppress(OSError, http.client.HTTPException):
        return answer.read1(_MOST_ANSWER)
    return b""


def _reason(error: Exception) -> str:
    """Return why a connection failed, in words of this machine and never of the receiver."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return "no answer in time" if isinstance(error, TimeoutError) else "no valid answer"


def _connection(parts: SplitResult) -> http.client.HTTPConnection:
    host = parts.hostname or ""
    if parts.scheme == "http":
        return http.client.HTTPConnection(host, parts.port, timeout=_WAIT_S)
    context = ssl.create_default_context()
    return http.client.HTTPSConnection(host, parts.port, timeout=_WAIT_S, context=context)


def _target(parts: SplitResult) -> str:
    """Return the path and query of a URL, with what is not ASCII in percent signs."""
    path = quote(parts.path or "/", safe="/%:@!$&'()*+,;=~")
    query = quote(parts.query, safe="/%:@!$&'()*+,;=~?")
    return f"{path}?{query}" if query else path


def _headers(parts: SplitResult) -> dict[str, str]:
    found = {"User-Agent": f"gymdbd/{gymdbd.__version__}", "Connection": "close"}
    if parts.username is not None:
        login = f"{unquote(parts.username)}:{unquote(parts.password or '')}".encode()
        found["Authorization"] = f"Basic {base64.b64encode(login).decode()}"
    return found


def _require_taken(status: int, shown: str) -> None:
    if status in _GOOD:
        return
    phrase = http.client.responses.get(status, "")
    if status in _PASSING or status >= _TROUBLE:
        raise ReceiverAwayError(
            f"{shown} answered {status} {phrase}".rstrip(),
            hint="the receiver has trouble of its own, or gets too many messages; look there if "
            "this goes on",
        )
    if status in _REDIRECTS:
        raise ReceiverRefusedError(
            f"{shown} redirects to another URL ({status}), which is not followed",
            hint="write the URL that it redirects to, with https://",
        )
    raise ReceiverRefusedError(
        f"{shown} refused the message ({status} {phrase})".replace(" )", ")"),
        hint="check the URL, and the token or password in it: it may have been revoked",
    )
