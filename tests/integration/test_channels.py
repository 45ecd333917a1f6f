"""Notices through every channel, to real receivers; no message or process shows a secret."""

from __future__ import annotations

import json
import os
import ssl
import subprocess
import sys
from email.header import decode_header, make_header
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from gymdbd.errors import ExtraMissingError, NotToldError, ReceiverAwayError, ReceiverRefusedError
from gymdbd.notices import sending
from gymdbd.notices.channels import program
from gymdbd.notices.channels.letter import Letter
from tests.support import receivers, waiting
from tests.support.command import gymdbd
from tests.support.jobs import write_config
from tests.support.receivers import PASSWORD, USER, Certificates, Web, message, settings

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gymdbd.config.notify import ChannelConfig

# Of the mail server: it does not know that all of it is encrypted, if TLS is implicit.
pytestmark = [
    pytest.mark.filterwarnings("ignore:Requiring AUTH while not requiring TLS"),
    pytest.mark.filterwarnings("ignore:Session.login_data:DeprecationWarning"),
]
# One letter outside the plane that UTF-16 holds in two bytes.
_LONG = "디스크😀" * 3000


@pytest.fixture
def web() -> Iterator[Web]:
    """Run a web server."""
    with receivers.web() as receiver:
        yield receiver


@pytest.fixture
def known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Certificates:
    """Make certificates, whose authority this process trusts."""
    made = receivers.certificates(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(made.authority))
    return made


def _channel(folder: Path, **keys: Any) -> ChannelConfig:
    found = settings(folder, owner=keys).notify
    assert found is not None
    return found.to["owner"]


def _program(folder: Path, body: str, name: str = "tell") -> Path:
    path = folder / name
    path.write_text(f"#!/bin/sh\n{body}\n", encoding="utf-8")
    path.chmod(0o700)
    return path


def _text_of(request: receivers.Request) -> str:
    return str(json.loads(request.body).get("text") or json.loads(request.body).get("content"))


def test_a_plain_text_has_title_priority_and_tags_as_ntfy_takes_them(
    tmp_path: Path, web: Web
) -> None:
    """A title outside ASCII is encoded by RFC 2047, in one line; the query stays as it is."""
    sending.send(_channel(tmp_path, url=web.url("topic?auth=abc")), message())
    (request,) = web.requests
    assert request.path == "/topic?auth=abc"
    assert request.body == message().text
    title = request.headers["Title"]
    assert title.isascii()
    assert str(make_header(decode_header(title))) == message().title
    assert (request.headers["Priority"], request.headers["Tags"]) == ("high", "rotating_light")


def test_an_ascii_title_is_sent_as_it_is(tmp_path: Path, web: Web) -> None:
    """Receivers that do not know RFC 2047 read it as well; a login in the URL becomes a header."""
    url = web.url("topic").replace("//", f"//{USER}:{PASSWORD}@")
    sending.send(_channel(tmp_path, url=url), message(title="pi: nightly failed"))
    assert web.requests[0].headers["Title"] == "pi: nightly failed"
    assert web.requests[0].headers["Authorization"] == "Basic bWU6aHVudGVyMg=="


def test_no_title_can_add_a_header(tmp_path: Path, web: Web) -> None:
    """Its line breaks are spaces by then."""
    sending.send(_channel(tmp_path, url=web.url()), message(title="a\r\nX-Evil: b\u2028c"))
    assert "X-Evil" not in web.requests[0].headers


def test_json_has_all_facts(tmp_path: Path, web: Web) -> None:
    """Programs read the same that `--json` prints."""
    sending.send(_channel(tmp_path, url=web.url(), format="json"), message())
    assert json.loads(web.requests[0].body) == message().to_json()


@pytest.mark.parametrize(("form", "most"), [("slack", 4000), ("discord", 2000)])
def test_a_chat_calls_nobody_and_gets_what_it_can_take(
    tmp_path: Path, web: Web, form: str, most: int
) -> None:
    """What would call everybody is inert; a longer text is cut between two letters."""
    channel = _channel(tmp_path, url=web.url(), format=form)
    sending.send(channel, message())
    sending.send(channel, message(text=_LONG))
    first, second = web.requests
    assert message().title in _text_of(first)
    if form == "slack":
        assert "<!channel>" not in first.body
    else:
        assert json.loads(first.body)["allowed_mentions"] == {"parse": []}
    cut = _text_of(second)
    assert most - 200 < len(cut.encode("utf-16-le")) / 2 <= most
    assert cut.endswith(("디스크😀…", "디…", "스…", "크…"))


def test_a_text_longer_than_ntfy_shows_is_cut(tmp_path: Path, web: Web) -> None:
    """Beyond 4096 bytes it would become an attachment."""
    sending.send(_channel(tmp_path, url=web.url()), message(text=_LONG))
    assert 3900 < len(web.requests[0].body.encode()) <= 4096
    assert web.requests[0].body.endswith("…")


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (401, ReceiverRefusedError),
        (404, ReceiverRefusedError),
        (302, ReceiverRefusedError),
        (408, ReceiverAwayError),
        (425, ReceiverAwayError),
        (429, ReceiverAwayError),
        (500, ReceiverAwayError),
    ],
)
def test_what_a_receiver_answers_says_whether_to_try_again(
    tmp_path: Path, web: Web, status: int, kind: type[NotToldError]
) -> None:
    """The error has the status, and of the URL the host alone; no redirect is followed."""
    with pytest.raises(kind, match=str(status)) as caught:
        sending.send(_channel(tmp_path, url=web.url(f"{status}/hunter2")), message())
    assert f"http://127.0.0.1:{web.port}/..." in caught.value.message
    assert "hunter2" not in caught.value.message + caught.value.hint
    assert len(web.requests) == 1


def test_https_is_used_only_with_a_certificate_that_is_good(
    tmp_path: Path, known: Certificates
) -> None:
    """Not with one for another host, an expired one, or one that nobody vouches for."""
    told = []
    for server in known[1:]:
        assert isinstance(server, ssl.SSLContext)
        with receivers.web(server) as receiver:
            url = receiver.url().replace("http://127.0.0.1", "https://localhost")
            try:
                sending.send(_channel(tmp_path, url=url), message())
            except ReceiverRefusedError as error:
                told.append(error.message.partition("trusted: ")[2].split(",")[0])
            else:
                told.append(str(len(receiver.requests)))
    assert told == [
        "1",
        "Hostname mismatch",
        "certificate has expired",
        "self-signed certificate",
    ]


@pytest.mark.parametrize("implicit", [False, True])
def test_a_mail_goes_through_a_server_encrypted_and_after_a_login(
    tmp_path: Path, known: Certificates, implicit: bool
) -> None:
    """With a subject in Korean, a date, an id, and the mark that no absence answers it."""
    with receivers.mail(known.localhost, implicit=implicit) as server:
        smtp = {
            "host": "localhost",
            "port": server.port,
            "tls": "implicit" if implicit else "starttls",
            "user": USER,
            "password": PASSWORD,
        }
        keys = {"email": "boss@example.com", "sender": "gym@example.com", "smtp": smtp}
        sending.send(_channel(tmp_path, **keys), message())
    (mail,) = server.messages
    assert server.encrypted == [True]
    assert (mail["Subject"], mail["To"]) == (message().title, "boss@example.com")
    assert mail["From"] == "gymdbd <gym@example.com>"
    assert mail["Date"].datetime.tzinfo is not None
    assert mail["Message-ID"].endswith("@example.com>")
    assert mail["Auto-Submitted"] == "auto-generated"
    assert mail.get_content().replace("\r\n", "\n") == f"{message().text}\n"


@pytest.mark.parametrize(
    ("changes", "email", "kind", "told"),
    [
        ({"password": "wrong"}, "boss", ReceiverRefusedError, "535"),
        ({}, "nobody", ReceiverRefusedError, "550 no such user, and your password is ***"),
        ({}, "busy", ReceiverAwayError, "451 come back later"),
        ({"password": "비밀"}, "boss", ReceiverRefusedError, "not ASCII"),
        ({"tls": "implicit"}, "boss", ReceiverAwayError, "cannot be reached"),
    ],
)
def test_a_mail_server_that_refuses_says_whether_to_try_again(
    tmp_path: Path,
    known: Certificates,
    changes: dict[str, str],
    email: str,
    kind: type[NotToldError],
    told: str,
) -> None:
    """What it answers is shown, but for the password, which it may repeat."""
    with receivers.mail(known.localhost) as server:
        smtp = {"host": "localhost", "port": server.port, "user": USER, "password": PASSWORD}
        keys = {"email": f"{email}@example.com", "smtp": {**smtp, **changes}}
        with pytest.raises(kind) as caught:
            sending.send(_channel(tmp_path, **keys), message())
    assert told in caught.value.message
    assert PASSWORD not in caught.value.message
    assert server.messages == []


def test_a_mail_server_without_encryption_gets_no_password(tmp_path: Path) -> None:
    """Somebody on the way may have taken STARTTLS out of what it offers."""
    with receivers.mail() as server:
        smtp = {"host": "localhost", "port": server.port, "user": USER, "password": PASSWORD}
        keys = {"email": "boss@example.com", "smtp": smtp}
        with pytest.raises(ReceiverRefusedError, match="offers no encryption"):
            sending.send(_channel(tmp_path, **keys), message())
        smtp = {"host": "localhost", "port": server.port, "tls": "none"}
        sending.send(_channel(tmp_path, email="boss@example.com", smtp=smtp), message())
    assert server.encrypted == [False]


def test_a_text_with_odd_characters_is_told_all_the_same(tmp_path: Path, web: Web) -> None:
    """A file name may be no Unicode; and what a terminal or a mail program obeys is shown."""
    odd = message(title="a\udcff\x1b[2J\r\nBcc: x@y", text="b\udcff\0\x1b[2J\r\n\u202ec")
    with receivers.mail() as server:
        smtp = {"host": "localhost", "port": server.port, "tls": "none"}
        sending.send(_channel(tmp_path, email="boss@example.com", smtp=smtp), odd)
    sending.send(_channel(tmp_path, url=web.url("topic")), odd)
    mail = server.messages[0]
    content = mail.get_content().replace("\r\n", "\n")
    texts = [mail["Subject"], content, web.requests[0].body]
    assert [text for text in texts if not text.replace("\n", "").isprintable()] == []
    assert (mail["Bcc"], texts[0]) == (None, r"a\udcff\x1b[2J Bcc: x@y")
    assert web.requests[0].headers["Title"] == texts[0]


def test_a_mail_without_a_server_goes_to_sendmail(tmp_path: Path) -> None:
    """It gets the recipient as an argument after --, and the mail on its input."""
    _program(tmp_path, f'echo "$@" > {tmp_path}/arguments; cat > {tmp_path}/mail', "sendmail")
    code = (
        "from pathlib import Path\n"
        "from gymdbd.config import config\n"
        "from gymdbd.notices import sending\n"
        "from gymdbd.notices.channels import mail\n"
        f"mail._SENDMAIL = (Path({str(tmp_path / 'sendmail')!r}),)\n"
        "from tests.support.receivers import message\n"
        f"settings = config.load(Path({str(tmp_path / 'config.yaml')!r}))\n"
        "sending.send(settings.notify.to['owner'], message())\n"
    )
    _channel(tmp_path, email="boss@example.com", sender="gym@example.com")
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[2])
    arguments = (tmp_path / "arguments").read_text(encoding="utf-8").split()
    assert arguments == ["-oi", "-f", "gym@example.com", "--", "boss@example.com"]
    mail = (tmp_path / "mail").read_bytes()
    assert b"\r\n" not in mail
    assert b"Subject: =?utf-8?" in mail


def test_a_program_gets_korean_whatever_the_locale(tmp_path: Path) -> None:
    """In one without Korean, Python cannot put it into an environment by itself."""
    tell = _program(tmp_path, f"env > {tmp_path}/facts; cat > /dev/null")
    path = write_config(
        tmp_path,
        {"nightly": {"every": "1h", "database": "gym.db", "archive": "."}},
        notify={"language": "ko", "to": {"own": {"command": [str(tell)]}}},
    )
    bare: dict[str, Any] = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    assert gymdbd("-c", path, "notify", "--test", **bare).returncode == 0
    assert "시험 메시지\n" in (tmp_path / "facts").read_text(encoding="utf-8")


def test_a_program_of_the_user_gets_the_facts_and_json(tmp_path: Path) -> None:
    """In its environment, and on its input; what it prints is nobody's business."""
    tell = _program(tmp_path, f"env > {tmp_path}/facts; cat > {tmp_path}/json; echo noise")
    sending.send(_channel(tmp_path, command=[str(tell), "--now"]), message())
    facts = (tmp_path / "facts").read_text(encoding="utf-8")
    for line in ("HEALTH=failing", "MACHINE=pi", "JOB=nightly", "PRIORITY=high"):
        assert f"GYMDBD_{line}\n" in facts
    assert f"GYMDBD_TITLE={message().title}\n" in facts
    assert f"GYMDBD_TEXT={message().text}\n" in facts
    assert json.loads((tmp_path / "json").read_text()) == message().to_json()


def test_a_program_that_fails_is_named_without_its_arguments(tmp_path: Path) -> None:
    """They may be secrets, and so may what it prints; 75 asks for another try."""
    for code, kind in ((3, ReceiverRefusedError), (75, ReceiverAwayError)):
        tell = _program(tmp_path, f"echo hunter2 >&2; exit {code}")
        with pytest.raises(kind, match=f"the command tell returned {code}") as caught:
            sending.send(_channel(tmp_path, command=[str(tell), "hunter2"]), message())
        assert "hunter2" not in caught.value.message + caught.value.hint


def test_a_program_that_others_could_have_written_is_not_run(tmp_path: Path) -> None:
    """It would act as this user."""
    tell = _program(tmp_path, f"touch {tmp_path}/run")
    tell.chmod(0o777)
    with pytest.raises(ReceiverRefusedError, match="others could have written it"):
        sending.send(_channel(tmp_path, command=[str(tell)]), message())
    assert not (tmp_path / "run").exists()


def test_macos_gets_the_texts_as_arguments_of_a_script(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that no quotes of theirs can end a string of it."""
    _program(tmp_path, f'for word; do echo "$word"; done > {tmp_path}/words', "osascript")
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    evil = '" & (do shell script "touch evil") & "'
    letter = Letter.of(message(title=evil, text="본문").to_json())
    program.notify_on_mac(letter, platform="darwin")
    words = (tmp_path / "words").read_text(encoding="utf-8").splitlines()
    assert words[-2:] == [evil, "본문"]
    assert evil not in "".join(words[:-2])
    with pytest.raises(ExtraMissingError, match="for macOS only"):
        program.notify_on_mac(letter, platform="linux")


def test_any_other_scheme_is_one_of_apprise(tmp_path: Path, web: Web) -> None:
    """Of its plugins only one is loaded; an answer of 404 is a refusal."""
    url = web.url("topic").replace("http://", "json://")
    found = settings(tmp_path, owner={"url": url}, wrong={"url": url.replace("topic", "404/topic")})
    assert sending.tell(found, "owner", message()) is None
    assert json.loads(web.requests[0].body)["title"] == message().title
    error = sending.tell(found, "wrong", message())
    assert isinstance(error, ReceiverRefusedError)
    assert "json://... refused the message (404)" in str(error)
    assert len(web.requests) == 2


def test_apprise_is_small_and_loads_one_plugin() -> None:
    """A Raspberry Pi has 512 MiB, and the application runs on it as well."""
    code = (
        "import sys\n"
        "from pathlib import Path\n"
        "from gymdbd.notices.channels import services\n"
        "found = services._receiver('tgram://123456789:abcdefg_hijklmnop/12345/', '')\n"
        "print(*(name for name in sys.modules if name.startswith('apprise.plugins.')))\n"
        "print(Path('/proc/self/status').read_text().partition('VmHWM:')[2].split()[0])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    plugins, kilobytes = done.stdout.splitlines()
    assert plugins.split() == ["apprise.plugins.base", "apprise.plugins.telegram"]
    assert int(kilobytes) < 48 * 1024


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("hunter2", "the secret is no URL"),
        ("nosuch://hunter2", "apprise knows no service nosuch://"),
        (
            "mqtt://localhost/hunter2",
            "the service mqtt:// of apprise needs another package, which is",
        ),
        ("tgram://hunter2", "apprise cannot read the URL tgram://..."),
    ],
)
def test_a_url_that_apprise_cannot_use_is_refused_without_showing_it(
    tmp_path: Path, url: str, told: str
) -> None:
    """Even what looks like the host is a token there, and somebody may have put down no more."""
    file = tmp_path / "url"
    file.touch(mode=0o600)
    file.write_text(f"{url}\n")
    with pytest.raises((ReceiverRefusedError, ExtraMissingError)) as caught:
        sending.send(_channel(tmp_path, url={"file": str(file)}), message())
    assert caught.value.message.startswith(told)
    assert "hunter2" not in caught.value.message + caught.value.hint


def test_without_apprise_the_error_says_what_to_install(tmp_path: Path) -> None:
    """The extra is not a dependency."""
    code = (
        "import sys\n"
        "sys.modules['apprise'] = None\n"
        "from gymdbd.notices.channels import services\n"
        "from gymdbd.notices.channels.letter import Letter\n"
        "services.send('tgram://hunter2', Letter.of({}))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], check=False, capture_output=True, text=True, cwd=tmp_path
    )
    assert "ExtraMissingError" in done.stderr.splitlines()[-1]
    assert "hunter2" not in done.stderr.splitlines()[-1]


def test_only_what_may_pass_is_tried_again(tmp_path: Path, web: Web) -> None:
    """A receiver that is away gets three tries; one that refuses, or takes it, gets one."""
    paths = {"good": None, "403": ReceiverRefusedError, "503": ReceiverAwayError}
    found = settings(tmp_path, **{f"to-{path}": {"url": web.url(path)} for path in paths})
    for path, kind in paths.items():
        error = sending.tell(found, f"to-{path}", message(), delay_s=0.1)
        assert kind is None if error is None else type(error) is kind
    assert web.paths == ["/good", "/403", *["/503"] * sending.ATTEMPTS]


def test_a_secret_that_cannot_be_read_is_told_by_its_name(tmp_path: Path) -> None:
    """The error passes from the child with its code and its remedy."""
    found = settings(tmp_path, owner={"url": {"file": str(tmp_path / "none")}})
    error = sending.tell(found, "owner", message())
    assert error is not None
    assert (error.code, "0600" in error.hint) == ("secret-missing", True)


def test_no_secret_is_in_the_list_of_processes(tmp_path: Path) -> None:
    """What others may read of a process are its arguments."""
    seen = tmp_path / "seen"
    body = f"cat /proc/*/cmdline | tr '\\0' ' ' > {seen}; cat > /dev/null"
    tell = _program(tmp_path, body)
    channels: dict[str, Any] = {
        "tell": {"command": [str(tell)]},
        "owner": {"url": "http://127.0.0.1:9/hunter2"},
    }
    assert sending.tell(settings(tmp_path, **channels), "tell", message()) is None
    waiting.until(seen.exists, "the program has run")
    arguments = seen.read_text(errors="replace")
    assert "gymdbd.notices.sending" in arguments
    assert "hunter2" not in arguments
