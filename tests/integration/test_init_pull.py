"""`gymdbd init --host`: a key that is let in by a line, over a real sshd, and the first pull."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from gymdbd.remote.ssh import keys
from tests.support import ledger
from tests.support.command import ROOT, environment
from tests.support.databases import make_database
from tests.support.jobs import write_config
from tests.support.machine import Machine
from tests.support.person import CTRL_C
from tests.support.sshd import SshServer, make_key

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


# Over there no process of this machine is seen: the databases of other tests are open in some.
_ALONE = [
    *("unshare", "--pid", "--mount", "sh", "-c"),
    "trap 'kill $!' TERM; (mount -t proc proc /proc && exec \"$@\") & wait",
    "sh",
]


@dataclass(frozen=True)
class Scene:
    """The machine that pulls, and the other one: its sshd, its database, and perhaps gymdbd."""

    here: Machine
    server: SshServer
    database: Path
    program: Path

    @property
    def authorized(self) -> Path:
        """Return the file of the keys that are let in over there."""
        return self.server.folder / "authorized_keys"

    @property
    def key(self) -> Path:
        """Return the key that is made here."""
        return self.here.home / ".ssh/gymdbd"

    @property
    def replica(self) -> Path:
        """Return the proposed place of the copy."""
        return self.here.home / "gymdbd/pi/gym.db"

    def allow_login(self) -> None:
        """Give this machine a key of its own that may log in over there."""
        self.authorized.write_text(
            make_key(self.here.home / ".ssh/own").with_suffix(".pub").read_text()
        )

    def know(self, *, host_key: bool = True) -> None:
        """Let `pi` mean the server for this machine's ssh; with its host key known or not."""
        known = self.server.known_hosts if host_key else self.here.home / ".ssh/known_hosts"
        (self.here.home / ".ssh/config").write_text(
            f"Host pi\n  HostName 127.0.0.1\n  Port {self.server.port}\n"
            f"  UserKnownHostsFile {known}\n  IdentityFile {self.here.home}/.ssh/own\n"
        )

    def let_in(self, line: str) -> None:
        """Put a line over there, as its reader is told to."""
        with self.authorized.open("a") as file:
            file.write(line + "\n")


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    """Give two machines; nobody may log in yet, and the host key is known."""
    here = Machine.make(tmp_path / "here")
    (here.home / ".ssh").mkdir(mode=0o700)
    there = tmp_path / "there"
    (there / "app/instance").mkdir(parents=True)
    database = ledger.create(there / "app/instance/gym.db")
    program = there / "bin/gymdbd"
    program.parent.mkdir()
    program.write_text(
        f"#!/usr/bin/env -S {sys.executable} -B\nimport sys\nsys.path.insert(0, {str(ROOT)!r})\n"
        "from gymdbd.cli import main\nsys.exit(main())\n"
    )
    python = program.with_name("python")
    python.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    for path in (program, python):
        path.chmod(0o755)
    paths = f"{program.parent}:/usr/bin:/bin"
    settings = {"HOME": str(there), "PATH": paths}
    server = SshServer(tmp_path / "sshd", environment=settings, prefix=_ALONE)
    server.user_key.unlink()
    (tmp_path / "sshd/authorized_keys").write_text("")
    found = Scene(here, server, database, program)
    found.know()
    with server:
        yield found


def _line(said: str) -> str:
    """Return the line that is printed for authorized_keys."""
    (line,) = [line for line in said.splitlines() if line.startswith("restrict")]
    return line


def _authorize(scene: Scene) -> str:
    """Return what `gymdbd authorize` over there prints for the key."""
    public = scene.key.with_name("gymdbd.pub")
    return subprocess.run(
        [scene.program, "authorize", "--database", scene.database, "--key", public],
        capture_output=True,
        text=True,
        check=True,
        env=environment(),
    ).stdout.rstrip("\n")


def test_a_copy_is_set_up_by_one_command_and_one_line(scene: Scene) -> None:
    """The line is that of authorize, the key can only pull, and nothing is changed afterwards."""
    scene.allow_login()
    done = scene.here.run("init", "--host", "pi", "--wait", "0s")
    assert (done.returncode, scene.here.config.exists()) == (1, False)
    assert scene.key.stat().st_mode & 0o777 == 0o600
    line = _line(done.stdout)
    assert line == _authorize(scene)
    scene.let_in(line)
    done = scene.here.run("init", "--host", "pi")
    assert done.returncode == 0, done.stderr
    assert ledger.check_copy(scene.replica) == ledger.Totals(400, ())
    assert scene.here.run("status").returncode == 0
    before = scene.here.everything()
    done = scene.here.run("init", "--host", "pi")
    assert (done.returncode, done.stdout.count("kept"), scene.here.everything()) == (0, 2, before)
    scene.authorized.write_text(line + "\n")
    assert scene.here.run("pull").returncode == 0


def test_an_unknown_host_key_is_never_accepted(scene: Scene) -> None:
    """How to compare it and make it known is told, and nothing is made."""
    scene.know(host_key=False)
    before = scene.here.everything()
    code, answer = scene.here.run_json("init", "--host", "pi", "--remote-database", scene.database)
    assert (code, answer["code"], scene.here.everything()) == (1, "host-key-unknown", before)
    for told in ("ssh-keygen -lf", "ssh-keyscan", str(scene.here.home / ".ssh/known_hosts")):
        assert told in answer["hint"]


def test_a_person_is_waited_for_and_presses_enter(scene: Scene) -> None:
    """The line is put there by the command that is printed."""
    scene.allow_login()
    with scene.here.typing("init", "--host", "pi") as person:
        person.expect("Enter: 1; q: none of them) ")
        person.type(f"{_number(person.said, str(scene.database))}\n")
        person.expect("press Enter when the line is there")
        script = person.said.partition("\nprintf ")[2].partition("\n\n")[0]
        scene.authorized.write_text(scene.authorized.read_text() + _line(person.said) + "\n")
        assert "cat >> ~/.ssh/authorized_keys" in script
        person.type("\n")
        assert person.end() == 0
    assert ledger.check_copy(scene.replica) == ledger.Totals(400, ())


def _number(said: str, path: str) -> str:
    """Return the number of a database in what was asked."""
    (line,) = [line for line in said.splitlines() if line.endswith(path)]
    return line.split()[0]


def test_it_can_be_stopped_while_it_waits_and_goes_on_later(scene: Scene) -> None:
    """By Ctrl-C; the key stays, and its line is the same."""
    words = ("init", "--host", "pi", "--remote-database", str(scene.database))
    with scene.here.typing(*words) as person:
        person.expect("Ctrl-C stops")
        person.type(CTRL_C)
        assert person.end() == 130
    assert not scene.here.config.exists()
    line = _line(person.said)
    scene.let_in(_authorize(scene))
    done = scene.here.run(*words)
    assert done.returncode == 0, done.stderr
    assert line.split()[-2:] == _authorize(scene).split()[-2:]


def test_without_a_login_the_command_for_the_other_machine_is_told(scene: Scene) -> None:
    """It prints the line there; the path of the database has to be named."""
    done = scene.here.run("init", "--host", "pi")
    assert (done.returncode, "--remote-database" in done.stderr) == (2, True)
    words = ("init", "--host", "pi", "--remote-database", scene.database)
    done = scene.here.run(*words, "--wait", "0s")
    (told,) = [line for line in done.stdout.splitlines() if line.startswith("echo 'ssh-ed25519 ")]
    told = told.replace("gymdbd authorize", f"'{scene.program}' authorize")
    told = told.replace("~/.ssh/authorized_keys", str(scene.authorized))
    subprocess.run(["sh", "-c", told], check=True, env=environment())
    assert scene.here.run(*words).returncode == 0


def test_a_program_gets_the_line_as_json_and_is_not_kept_waiting(scene: Scene) -> None:
    """One object, with what to do."""
    words = ("init", "--host", "pi", "--remote-database", scene.database)
    code, answer = scene.here.run_json(*words)
    assert (code, answer["state"], answer["code"]) == (1, "failed", "authentication")
    assert "authorized_keys" in answer["hint"]
    scene.let_in(
        answer["line"].replace(
            "/opt/gymdbd/bin/python -I /opt/gymdbd/bin/gymdbd", str(scene.program)
        )
    )
    code, answer = scene.here.run_json(*words)
    assert (code, answer["state"], answer["written"]) == (0, "ok", True)
    assert answer["pull"]["replica"] == str(scene.replica)


def test_a_dry_run_makes_no_key_and_no_folder(scene: Scene) -> None:
    """It logs in and looks, which changes nothing on either side."""
    scene.allow_login()
    before = scene.here.everything()
    done = scene.here.run("init", "--host", "pi", "--dry-run")
    assert (done.returncode, scene.here.everything()) == (0, before)
    assert "pull-from-pi:" in done.stdout


def test_several_databases_over_there_are_listed_and_none_is_taken(scene: Scene) -> None:
    """Without a terminal; no key is made."""
    scene.allow_login()
    other = make_database(scene.database.with_name("other.db"))
    before = scene.here.everything()
    done = scene.here.run("init", "--host", "pi", "--wait", "0s")
    assert (done.returncode, scene.here.everything()) == (2, before)
    assert str(other) in done.stderr
    assert str(scene.database) in done.stderr


def test_a_machine_without_gymdbd_lets_the_key_in_all_the_same(scene: Scene) -> None:
    """With a remark on what such a key may do."""
    scene.allow_login()
    scene.program.unlink()
    done = scene.here.run("init", "--host", "pi", "--wait", "0s")
    assert "the key may run any command there" in done.stdout
    assert _line(done.stdout).startswith("restrict ssh-ed25519 ")
    scene.let_in(_line(done.stdout))
    assert scene.here.run("init", "--host", "pi").returncode == 0


def test_what_lies_at_the_place_of_the_copy_is_never_replaced(scene: Scene) -> None:
    """It may be the database of the application here."""
    make_database(scene.here.database)
    before = scene.here.everything()
    words = ("--remote-database", scene.database, "--replica", scene.here.database)
    done = scene.here.run("init", "--host", "pi", *words)
    assert (done.returncode, scene.here.everything()) == (2, before)
    assert "--replica PATH" in done.stderr


def test_a_configuration_that_is_there_gets_no_pull(scene: Scene) -> None:
    """The line to add is printed; once it is added, the pull is made."""
    scene.allow_login()
    scene.here.config.parent.mkdir(parents=True)
    make_database(scene.here.database)
    scene.here.archive.mkdir(parents=True)
    places = {"database": str(scene.here.database), "archive": str(scene.here.archive)}
    write_config(scene.here.config.parent, {"nightly": {"every": "1d", **places}})
    before = scene.here.config.read_bytes()
    scene.let_in(_line(scene.here.run("init", "--host", "pi", "--wait", "0s").stdout))
    done = scene.here.run("init", "--host", "pi")
    assert (done.returncode, scene.here.config.read_bytes()) == (2, before)
    (line,) = [line for line in done.stderr.splitlines() if '"pull-from-pi": {' in line]
    text = before.decode().replace('"jobs": {', f'"jobs": {{ {line.strip()},', 1)
    scene.here.config.write_text(text)
    scene.replica.parent.mkdir(parents=True, mode=0o700)
    assert scene.here.run("init", "--host", "pi").returncode == 0
    assert ledger.check_copy(scene.replica) == ledger.Totals(400, ())


def test_of_keys_that_are_made_at_once_one_stays(tmp_path: Path) -> None:
    """None replaces another: the line of the first one may have been printed by then."""
    path = tmp_path / "ssh" / "gymdbd"
    with ThreadPoolExecutor() as pool:
        made = list(pool.map(lambda comment: keys.ensure(path, comment), "abcd"))
    assert [is_made for _, is_made in made].count(True) == 1
    assert {key.blob for key, _ in made} == {path.with_suffix(".pub").read_text().split()[1]}
    assert sorted(file.name for file in path.parent.iterdir()) == ["gymdbd", "gymdbd.pub"]


def test_a_comment_of_a_key_is_no_command(scene: Scene) -> None:
    """Whoever pastes what is printed runs nothing else."""
    marker = scene.here.home / "marker"
    make_key(scene.key, comment=f"it's; touch '{marker}'; '")
    words = ("init", "--host", "pi", "--remote-database", scene.database)
    done = scene.here.run(*words, "--wait", "0s")
    (told,) = [line for line in done.stdout.splitlines() if line.startswith("echo ")]
    told = told.replace("gymdbd authorize", f"'{scene.program}' authorize")
    told = told.replace("~/.ssh/authorized_keys", str(scene.authorized))
    subprocess.run(["sh", "-c", told], check=True, env=environment())
    assert (marker.exists(), scene.here.run(*words).returncode) == (False, 0)


def test_a_key_with_a_passphrase_is_refused_and_left_alone(scene: Scene) -> None:
    """Nobody is there at night to type it."""
    make_key(scene.key, passphrase="secret-word")  # noqa: S106 - of a key for this test
    before = scene.here.everything()
    words = ("init", "--host", "pi", "--remote-database", scene.database)
    code, answer = scene.here.run_json(*words)
    assert (code, answer["code"], scene.here.everything()) == (1, "ssh-config", before)
    assert "passphrase" in answer["error"]
