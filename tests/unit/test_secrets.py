"""Secrets: where they are read, why they cannot be, and that no message shows one."""

from __future__ import annotations

import dataclasses
import os
import tempfile
import traceback
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from gymdbd.config import config
from gymdbd.config.secrets import Secret
from gymdbd.errors import (
    ConfigError,
    SecretCommandError,
    SecretError,
    SecretExposedError,
    SecretMissingError,
)
from tests.support import waiting

if TYPE_CHECKING:
    from collections.abc import Callable

_WORD = "hunter2-한글"
_OTHER = 12002


def _file(folder: Path, content: str = f"{_WORD}\n", mode: int = 0o600) -> Path:
    path = folder / "secret"
    path.write_text(content, encoding="utf-8")
    path.chmod(mode)
    return path


def _program(folder: Path, body: str) -> tuple[str, ...]:
    path = folder / "program"
    path.write_text(f"#!/bin/sh\n{body}\n", encoding="utf-8")
    path.chmod(0o700)
    return (str(path),)


def test_a_secret_is_read_from_each_of_its_places(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A line break at the end, and a mark of the byte order, are not a part of it."""
    monkeypatch.setenv("GYM_SECRET", _WORD)
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    _file(tmp_path, f"\ufeff{_WORD}\r\n", mode=0o440)
    places = [
        Secret(literal=_WORD),
        Secret(env="GYM_SECRET"),
        Secret(credential="secret"),
        Secret(file=tmp_path / "secret"),
        Secret(command=_program(tmp_path, f"echo '{_WORD}'; echo noise >&2")),
    ]
    assert [secret.read() for secret in places] == [_WORD] * len(places)


@pytest.mark.parametrize("mode", [0o600, 0o400, 0o700])
def test_a_file_for_its_owner_alone_is_read(tmp_path: Path, mode: int) -> None:
    """Root's, too, if another user reads it by other means."""
    assert Secret(file=_file(tmp_path, mode=mode)).read() == _WORD


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o644])
def test_a_file_that_others_may_read_is_refused(tmp_path: Path, mode: int) -> None:
    """The group counts as others; the message names the file and the remedy."""
    path = _file(tmp_path, mode=mode)
    with pytest.raises(SecretExposedError, match=f"the file {path} is not used") as caught:
        Secret(file=path).read()
    assert "chmod" in caught.value.hint


@pytest.mark.parametrize("reader", [0, _OTHER, _OTHER + 1])
def test_a_file_is_read_by_root_and_its_owner_and_is_refused_to_others(reader: int) -> None:
    """Root reads it as the owner does, so that a run by hand has the daemon's secrets."""
    with tempfile.TemporaryDirectory(prefix="gymdbd-secret-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        path = _file(folder)
        os.chown(path, _OTHER, _OTHER)
        os.seteuid(reader)
        try:
            found = Secret(file=path).read()
        except SecretMissingError as error:
            found = error.message
        finally:
            os.seteuid(0)
    refused = f"the file {path} cannot be read (Permission denied)"
    assert found == (refused if reader == _OTHER + 1 else _WORD)


def test_a_file_in_a_folder_of_another_user_is_refused(tmp_path: Path) -> None:
    """They could have put the URL of their own receiver there."""
    (tmp_path / "theirs").mkdir()
    path = _file(tmp_path / "theirs")
    os.chown(tmp_path / "theirs", _OTHER, _OTHER)
    with pytest.raises(SecretExposedError, match=f"belongs to uid {_OTHER}"):
        Secret(file=path).read()


def _pipe(folder: Path) -> Secret:
    os.mkfifo(folder / "pipe")
    return Secret(file=folder / "pipe")


_MISSING: dict[str, tuple[Callable[[Path], Secret], str, str]] = {
    "no file": (lambda at: Secret(file=at / "none"), "cannot be read", "0600"),
    "a folder": (lambda at: Secret(file=at), "cannot be read", "0600"),
    "a pipe": (_pipe, "not a file", "0600"),
    "empty": (lambda at: Secret(file=_file(at, " \n")), "holds no secret", "one line"),
    "endless": (lambda at: Secret(file=_file(at, "x" * 70_000)), "holds no secret", "one line"),
    "unset": (lambda _: Secret(env="GYM_UNSET"), r"\$GYM_UNSET holds no", "one line"),
    "no systemd": (
        lambda _: Secret(credential="smtp"),
        "did not start",
        "/etc/gymdbd/credentials/smtp",
    ),
    "silent": (lambda at: Secret(command=_program(at, ":")), "holds no secret", "one line"),
}


@pytest.mark.parametrize("kind", _MISSING)
def test_a_secret_that_is_not_there_is_an_error_with_its_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """Each place has its own way to be empty; none of them waits."""
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    make, message, hint = _MISSING[kind]
    with pytest.raises(SecretMissingError, match=message) as caught:
        make(tmp_path).read()
    assert hint in caught.value.hint


def test_a_credential_that_the_unit_lacks_names_the_file_to_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is systemd that passes it."""
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    with pytest.raises(SecretMissingError, match="passes no credential smtp") as caught:
        Secret(credential="smtp").read()
    assert "write it into /etc/gymdbd/credentials/smtp" in caught.value.hint


@pytest.mark.parametrize(
    ("body", "message"),
    [("echo hunter2; exit 3", "returned 3"), ("yes hunter2", "took longer than 1 s")],
)
def test_a_command_that_fails_or_hangs_gives_no_secret(
    tmp_path: Path, body: str, message: str
) -> None:
    """Its time and what it prints are bounded; the error shows neither output nor arguments."""
    command = (*_program(tmp_path, body), "--token=hunter2")
    with pytest.raises(SecretCommandError, match=message) as caught:
        Secret(command=command).read(timeout_s=1.0)
    assert "hunter2" not in caught.value.message + caught.value.hint


def test_a_command_that_is_missing_or_of_others_is_not_run(tmp_path: Path) -> None:
    """It would print what others want, or act as this user."""
    with pytest.raises(SecretCommandError, match="cannot be run"):
        Secret(command=(str(tmp_path / "none"),)).read()
    command = _program(tmp_path, "echo x")
    os.chown(command[0], _OTHER, _OTHER)
    with pytest.raises(SecretExposedError, match="others could have written it"):
        Secret(command=command).read()


def test_what_a_command_is_given_to_run_must_be_ours_and_what_it_is_given_to_read_need_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A script of a shell is run as a program is, also one that is found by its name."""
    (path,) = _program(tmp_path, "echo x")
    os.chown(path, _OTHER, _OTHER)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    for command in (("sh", path), ("env", "sh", "-eu", path), ("program",), ("nice", "program")):
        with pytest.raises(SecretExposedError, match=f"belongs to uid {_OTHER}"):
            Secret(command=command).read()
    assert Secret(command=("cat", path)).read() == "#!/bin/sh\necho x"


def test_what_a_command_starts_is_ended_with_it(tmp_path: Path) -> None:
    """Also if it keeps the output open, for which the reader would otherwise wait."""
    body = f"sleep 1000 & echo $! > {tmp_path}/pid; echo word"
    assert Secret(command=_program(tmp_path, body)).read() == "word"
    state = Path(f"/proc/{(tmp_path / 'pid').read_text().strip()}/stat")
    waiting.until(lambda: not state.exists() or " Z " in state.read_text(), "its end")


_CONFIG = """\
status_file: {folder}/status.json
notify:
  to:
    owner: {{url: "https://ntfy.sh/{word}"}}
    office:
      email: boss@example.com
      smtp: {{host: mail.example.com, user: me, password: "{word}"}}
jobs:
  nightly:
    kind: verify
    every: 1h
    archive: {folder}
    ping: "https://hc-ping.com/{word}"
"""


def _write(folder: Path, mode: int) -> Path:
    path = folder / "config.yaml"
    path.write_text(_CONFIG.format(folder=folder, word="hunter2"), encoding="utf-8")
    path.chmod(mode)
    return path


def test_a_secret_may_stand_in_a_configuration_that_only_its_owner_reads(tmp_path: Path) -> None:
    """Its text is accepted again by a child, even if the mode was changed meanwhile."""
    loaded = config.load(_write(tmp_path, 0o600))
    again = config.parse(loaded.text, loaded.source)
    assert loaded.notify is not None
    url, ping = loaded.notify.to["owner"].url, again.jobs["nightly"].ping
    assert url is not None
    assert ping is not None
    assert (url.read(), ping.read()) == ("https://ntfy.sh/hunter2", "https://hc-ping.com/hunter2")


def test_a_secret_in_a_configuration_that_others_may_read_is_an_error_of_its_line(
    tmp_path: Path,
) -> None:
    """Each is named; none is shown."""
    path = _write(tmp_path, 0o640)
    with pytest.raises(ConfigError) as caught:
        config.load(path)
    keys = [fault.removeprefix(f"{path}:").partition(": a")[0] for fault in caught.value.faults]
    expected = ["4: notify.to.owner.url", "7: notify.to.office.smtp.password"]
    assert keys == [*expected, "13: jobs.nightly.ping"]
    assert "hunter2" not in str(caught.value.faults)
    assert f"chmod 600 {path}" in caught.value.faults[0]


def test_no_repr_of_a_configuration_shows_a_secret(tmp_path: Path) -> None:
    """Not the secret's, not that of a section that holds it, and not that of the whole."""
    loaded = config.load(_write(tmp_path, 0o600))
    assert "hunter2" not in repr(loaded)
    assert "hunter2" not in f"{loaded.notify}{loaded.jobs}"
    assert repr(Secret(literal="hunter2")) == str(Secret(literal="hunter2")) == "<secret: ***>"
    shown = repr(Secret(command=("/usr/bin/pass", "hunter2")))
    assert shown == "<secret: what pass prints>"


@pytest.mark.parametrize(
    "line",
    [
        'a: "hunter2"x',
        "a: [hunter2",
        "a: *hunter2",
        "notify: {to: {a: {url: {fil: hunter2}}}}",
        "notify: {to: {a: {url: https://hunter2:hunter2}}}",
        "notify: {to: {a: {url: http://example.com/hunter2}}}",
        "notify: {to: {a: {url: hunter2}}}",
        "notify: {to: {a: {email: hunter2}}}",
        "notify: {to: {a: {email: a@b, smtp: {host: a, user: b, password: [hunter2]}}}}",
        "jobs: {a: {kind: verify, every: 1h, archive: /x, ping: tgram://hunter2}}",
    ],
)
def test_no_error_of_a_configuration_shows_a_secret(line: str) -> None:
    """Not even if it stands in the wrong place, or its quotes are wrong; nor does --debug."""
    with pytest.raises(ConfigError) as caught:
        config.parse(f"status_file: /x\n{line}\n", Path("/somewhere/config.yaml"))
    told = f"{caught.value} {caught.value.hint} {caught.value.faults}"
    assert "hunter2" not in told
    assert "hunter2" not in "".join(traceback.format_exception(caught.value))


def test_every_kind_of_secret_error_is_one() -> None:
    """A caller that needs a secret catches one class."""
    kinds = {SecretMissingError, SecretExposedError, SecretCommandError}
    assert set(SecretError.__subclasses__()) == kinds
    assert {kind.code for kind in kinds} == {"secret-missing", "secret-exposed", "secret-command"}


def test_a_secret_is_exactly_one_of_its_places() -> None:
    """None, or two, is an error of the configuration."""
    for places in ({}, {"env": "A", "credential": "b"}):
        assert Secret(**places).faults() == ["expected one of file, credential, command and env"]  # type: ignore[arg-type]
    assert dataclasses.replace(Secret(env="A")).faults() == []
