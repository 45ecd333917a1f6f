"""`gymdbd authorize`: the line that it prints, given to a real sshd."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from gymdbd.source.errors import AnotherDatabaseError
from tests.support import ledger
from tests.support.command import ROOT, environment, gymdbd
from tests.support.databases import make_database
from tests.support.jobs import write_config
from tests.support.pulling import Peer
from tests.support.sshd import SshServer, free_port, make_key

if TYPE_CHECKING:
    from pathlib import Path

_ODD = 'a b \'single\' "double" $HOME `id` back\\slash \\" 회원'


@pytest.fixture
def program(tmp_path: Path) -> Path:
    """Give an executable as pip would make it, in a folder with an odd name."""
    path = tmp_path / f"venv {_ODD}" / "gymdbd"
    path.parent.mkdir()
    path.write_text(
        f"#!/usr/bin/env -S {sys.executable} -B\nimport sys\nsys.path.insert(0, {str(ROOT)!r})\n"
        "from gymdbd.cli import main\nsys.exit(main())\n"
    )
    path.chmod(0o755)
    return path


def authorize(
    program: Path, *arguments: object, key: str | bytes = ""
) -> subprocess.CompletedProcess[bytes]:
    """Run that executable's `authorize` with a key on standard input."""
    return subprocess.run(
        [program, "authorize", *map(str, arguments)],
        input=key.encode() if isinstance(key, str) else key,
        capture_output=True,
        timeout=60,
        check=False,
        env=environment(),
    )


def ask_for(server: SshServer, tool: str, *words: str, text: str = "") -> tuple[int, str]:
    """Run ssh or sftp with the server's key; return the exit code and all it says."""
    options = [
        *("-F", "none", "-i", str(server.user_key), "-o", "BatchMode=yes"),
        *("-o", f"Port={server.port}", "-o", f"UserKnownHostsFile={server.known_hosts}"),
    ]
    done = subprocess.run(
        [tool, *options, *words],
        input=text.encode(),
        capture_output=True,
        timeout=30,
        check=False,
    )
    return done.returncode, (done.stdout + done.stderr).decode(errors="replace")


def test_the_printed_line_lets_the_key_pull_and_do_nothing_else(
    tmp_path: Path,
    ssh_home: Path,
    program: Path,
) -> None:
    """With odd paths too: a pull works; a shell, a command, SFTP and forwarding do not."""
    del ssh_home
    folder = tmp_path / f"there {_ODD}"
    folder.mkdir()
    database = ledger.create(folder / f"{_ODD}.db")
    other = make_database(tmp_path / "other.db")
    server = SshServer(tmp_path / "sshd")
    public = server.user_key.with_name("user_key.pub")
    done = authorize(program, "--database", database, key=public.read_bytes())
    assert (done.returncode, done.stderr) == (0, b"")
    (server.folder / "authorized_keys").write_bytes(done.stdout)
    trace = tmp_path / "was-here"
    with server:
        peer = Peer(server, database, tmp_path / "here" / "replica.db")
        peer.replica.parent.mkdir()
        with pytest.raises(AnotherDatabaseError, match="this job asks for"):
            peer.pull(remote_database=str(other))
        assert peer.pull().strategy == "full"
        assert ledger.check_copy(peer.replica) == ledger.Totals(400, ())
        touch = f"touch '{trace}'; id\n"
        for words in ([], ["sh"], [touch], ["gymdbd", "serve", "--database", str(other)]):
            _, told = ask_for(server, "ssh", "127.0.0.1", *words, text=touch)
            assert "gymdbd" in told
            assert "uid=" not in told
        _, told = ask_for(server, "ssh", "-tt", "127.0.0.1")
        assert "PTY allocation request failed" in told
        code, _ = ask_for(server, "sftp", "-b", "-", "127.0.0.1", text=f"put {other} {trace}\n")
        assert code != 0
        wanted = f"{free_port()}:127.0.0.1:1"
        refusing = ("-o", "ExitOnForwardFailure=yes", "-R", wanted)
        _, told = ask_for(server, "ssh", *refusing, "127.0.0.1")
        assert "remote port forwarding failed" in told
        _, told = ask_for(server, "ssh", "-W", f"127.0.0.1:{server.port}", "127.0.0.1")
        assert "administratively prohibited" in told
    assert not trace.exists()


def test_the_database_that_is_backed_up_is_the_default(tmp_path: Path, program: Path) -> None:
    """Line, command, database and fingerprint are told as JSON; the program is the one that ran."""
    database = make_database(tmp_path / "gym.db")
    (tmp_path / "archive").mkdir()
    job = {"every": "1d", "database": str(database), "archive": str(tmp_path / "archive")}
    config = write_config(tmp_path, {"nightly": job, "hourly": job})
    public = make_key(tmp_path / "key").with_name("key.pub")
    done = subprocess.run(
        [program, "-c", config, "authorize", "--key", public, "--json"],
        capture_output=True,
        check=False,
        env=environment(),
    )
    answer = json.loads(done.stdout)
    assert (done.returncode, answer["state"]) == (0, "ok")
    assert answer["database"] == str(database)
    assert answer["fingerprint"].startswith("SHA256:")
    assert answer["line"].endswith(public.read_text().strip())
    assert answer["command"].endswith(f"gymdbd' serve --database {database}")


def test_of_several_databases_one_must_be_named(tmp_path: Path) -> None:
    """The error lists them; nothing is guessed."""
    (tmp_path / "archive").mkdir()
    archive = str(tmp_path / "archive")
    databases = [str(make_database(tmp_path / name)) for name in ("a.db", "b.db")]
    jobs = [{"every": "1d", "database": one, "archive": archive} for one in databases]
    config = write_config(tmp_path, {"one": jobs[0], "two": jobs[1]})
    done = gymdbd("-c", config, "authorize")
    assert (done.returncode, done.stdout) == (2, "")
    assert f"add --database PATH; in the configuration: {', '.join(databases)}" in done.stderr


def test_a_link_to_the_program_is_followed_and_a_relative_database_made_absolute(
    tmp_path: Path, program: Path
) -> None:
    """/usr/local/bin/gymdbd may go; the line names the file that it leads to."""
    link = tmp_path / "gymdbd"
    link.symlink_to(program)
    make_database(tmp_path / "gym.db")
    public = make_key(tmp_path / "key").with_name("key.pub")
    done = subprocess.run(
        [link, "authorize", "--database", "gym.db", "--key", public, "--json"],
        cwd=tmp_path,
        capture_output=True,
        check=True,
        env=environment(),
    )
    answer = json.loads(done.stdout)
    assert answer["database"] == str(tmp_path / "gym.db")
    assert answer["command"].startswith(f"{sys.executable} -I ")
    assert "'" + str(program.parent).partition("'")[0] in answer["command"]


@pytest.mark.parametrize(
    ("key", "message"),
    [("", "there is no public key"), ("-----BEGIN OPENSSH PRIVATE KEY-----\nc2VjcmV0", "private")],
)
def test_without_a_public_key_it_says_what_to_type(
    tmp_path: Path, program: Path, key: str, message: str
) -> None:
    """Exit code 2, nothing on standard output, and nothing of a private key anywhere."""
    database = make_database(tmp_path / "gym.db")
    done = authorize(program, "--database", database, key=key)
    assert (done.returncode, done.stdout) == (2, b"")
    assert message in done.stderr.decode()
    assert b"What to do: give" in done.stderr
    assert b"c2VjcmV0" not in done.stderr


def test_a_database_that_is_not_there_or_may_not_be_read_is_an_error(
    tmp_path: Path, program: Path
) -> None:
    """A line for a mistyped path would fail only at night."""
    public = make_key(tmp_path / "key").with_name("key.pub").read_bytes()
    done = authorize(program, "--database", tmp_path / "gim.db", key=public)
    assert (done.returncode, done.stdout) == (1, b"")
    assert b"there is no database" in done.stderr


def test_an_executable_that_is_none_is_an_error(tmp_path: Path) -> None:
    """The line must name a program that exists."""
    database = make_database(tmp_path / "gym.db")
    done = gymdbd("authorize", "--database", database, "--gymdbd", tmp_path / "gymdbd")
    assert (done.returncode, done.stdout) == (2, "")
    assert "is not an executable program" in done.stderr
