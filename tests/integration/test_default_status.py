"""A configuration without a status file: service, person and root find the same one."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support import everyone
from tests.support.command import ORDINARY_USER, gymdbd, require
from tests.support.daemon_process import running_daemon
from tests.support.databases import make_database
from tests.support.jobs import write_config
from tests.support.zones import own_etc

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterator

_PI = 12001
_PLAIN = {"STATE_DIRECTORY": "", "XDG_STATE_HOME": "", "GYMDBD_CONFIG": ""}


def run(
    *words: object, prefix: list[str] | None = None, **variables: str
) -> subprocess.CompletedProcess[str]:
    """Run gymdbd as if nothing around it named a place, except these variables."""
    return gymdbd(*words, cwd=None, prefix=prefix, **{**_PLAIN, **variables})


def _configured(folder: Path, config: Path) -> Path:
    """Write a configuration of one backup job in `folder`, without a status file."""
    make_database(folder / "gym.db", rows=3)
    (folder / "archive").mkdir(mode=0o700)
    places = {"database": str(folder / "gym.db"), "archive": str(folder / "archive")}
    written = json.loads(write_config(folder, {"nightly": {"every": "1d", **places}}).read_text())
    del written["status_file"]
    config.parent.mkdir(parents=True, exist_ok=True)
    config.write_text(json.dumps(written))
    return config


def _give(folder: Path) -> None:
    for path in [folder, *folder.rglob("*")]:
        os.chown(path, _PI, _PI)


def test_the_users_place_is_made_by_the_first_run_alone(tmp_path: Path) -> None:
    """Before it, `status` and `check` say how things are, and make nothing."""
    _configured(tmp_path, tmp_path / ".config" / "gymdbd" / "config.yaml")
    place = tmp_path / ".local" / "state" / "gymdbd"
    home = str(tmp_path)
    before = run("status", HOME=home)
    checked = run("check", HOME=home)
    assert (before.returncode, "cannot record" in before.stdout) == (3, False), before.stdout
    assert f"warning  status: {place}/status.json; the daemon is not running" in checked.stdout
    assert not place.parent.exists()
    assert run("backup", HOME=home).returncode == 0
    after = run("status", "--json", HOME=home)
    assert (after.returncode, json.loads(after.stdout)["jobs"]["nightly"]["state"]) == (0, "ok")
    assert place.stat().st_mode & 0o777 == 0o700
    assert {path.name for path in place.iterdir()} >= {"status.json", "ledger.jsonl"}


def test_a_place_that_may_not_be_made_is_told_with_what_to_do(tmp_path: Path) -> None:
    """By `check` as well, before a run needs it; no folder is made, and the backup is."""
    home = tmp_path / "home"
    home.mkdir(mode=0o500)
    config = _configured(tmp_path, tmp_path / "config.yaml")
    for verb, code in (("check", 1), ("backup", 0)):
        done = run("-c", config, verb, prefix=ORDINARY_USER, HOME=str(home))
        told = done.stdout + done.stderr
        assert (verb, done.returncode, f"{home}/.local" in told) == (verb, code, True)
        assert "name a place with status_file: PATH in the configuration" in told
    assert list(home.iterdir()) == []


def test_jobs_of_the_same_name_in_two_configurations_are_kept_apart(tmp_path: Path) -> None:
    """The one's success does not hide the other's failure, nor does its daemon run the other's."""
    usual = _configured(tmp_path, tmp_path / ".config" / "gymdbd" / "config.yaml")
    other = tmp_path / "other.yaml"
    other.write_text(usual.read_text().replace("/gym.db", "/gone.db"))
    home = str(tmp_path)
    with running_daemon(
        usual, prefix=["env", *(f"{a}={b}" for a, b in _PLAIN.items()), f"HOME={home}"]
    ):
        assert run("-c", other, "backup", HOME=home).returncode == 1
        assert run("backup", HOME=home).returncode == 0
        found = [run(*words, "status", "--json", HOME=home).stdout for words in ((), ("-c", other))]
    states = [json.loads(text)["jobs"]["nightly"]["state"] for text in found]
    assert states == ["ok", "failed"]
    assert [json.loads(text)["daemon_running"] for text in found] == [True, False]


@pytest.fixture
def place() -> Iterator[Path]:
    """Give a folder that every user may enter."""
    everyone.install()
    folder = Path(tempfile.mkdtemp(prefix="gymdbd-state-"))
    folder.chmod(0o755)
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


def _machine(place: Path) -> tuple[Path, list[str]]:
    """Return the files of a machine, and the prefix of a command that sees them so.

    There is a user pi, with a home folder, and the folder that systemd makes for the unit.
    """
    etc, prefix = own_etc(place)
    with (etc / "passwd").open("a") as accounts:
        accounts.write(f"pi:x:{_PI}:{_PI}::{place}/pi:/bin/sh\n")
    (place / "pi").mkdir()
    lib = place / "lib" / "gymdbd"
    lib.mkdir(parents=True)
    _give(lib)
    _give(place / "pi")
    over = 'mount --bind "$0" /var/lib && exec "$@"'
    return etc, [*prefix, "sh", "-c", over, str(lib.parent)]


def _as_pi(place: Path, *variables: str) -> list[str]:
    found = [*everyone.ENVIRONMENT, f"HOME={place}/pi", *variables]
    return [*found, require("setpriv"), f"--reuid={_PI}", f"--regid={_PI}", "--clear-groups"]


def test_what_the_unit_writes_is_found_by_its_user_and_by_root(place: Path) -> None:
    """For the machine's configuration, without systemd's variable, whatever XDG says."""
    etc, prefix = _machine(place)
    config = _configured(place / "pi", etc / "gymdbd" / "config.yaml")
    _give(place / "pi" / "archive")
    os.chown(place / "pi" / "gym.db", _PI, _PI)
    # The daemon of the tests takes the path that the file has here.
    unit = _as_pi(place, "STATE_DIRECTORY=/var/lib/gymdbd")
    there = f'exec {shlex.join(unit)} "$1" "$2" "$3" -c /etc/gymdbd/config.yaml run'
    with running_daemon(config, prefix=[*prefix, "sh", "-c", there, "sh"]) as daemon:
        made = run("backup", prefix=[*prefix, *unit])
        assert made.returncode == 0, made.stderr
        assert daemon.events("status file not where other commands look") == []
        for who in ([*prefix, *_as_pi(place)], prefix):
            found = run("status", "--json", prefix=who, XDG_STATE_HOME="/nowhere")
            told = json.loads(found.stdout)
            assert (told["daemon_running"], told["jobs"]["nightly"]["state"]) == (True, "ok")
    assert (place / "lib" / "gymdbd" / "status.json").exists()


def test_root_writes_the_status_of_another_users_configuration_as_that_user(place: Path) -> None:
    """In that user's place, where the user finds it, and not in root's."""
    _, prefix = _machine(place)
    home = place / "pi"
    config = _configured(home, home / ".config" / "gymdbd" / "config.yaml")
    _give(home)
    roots = str(place / "roots")
    done = run("-c", config, "backup", prefix=prefix, HOME=str(place), XDG_STATE_HOME=roots)
    assert done.returncode == 0, done.stderr
    file = home / ".local" / "state" / "gymdbd" / "status.json"
    assert (file.stat().st_uid, file.parent.stat().st_mode & 0o777) == (_PI, 0o700)
    assert not (place / "roots").exists()
    found = run("status", "--json", prefix=[*prefix, *_as_pi(place)])
    assert json.loads(found.stdout)["jobs"]["nightly"]["state"] == "ok"


def test_a_user_without_a_home_is_told_what_to_write(place: Path) -> None:
    """Before anything runs; and a service whose place only its unit knows says so."""
    _, prefix = _machine(place)
    config = _configured(place / "pi", place / "pi" / "config.yaml")
    _give(place / "pi")
    homeless = [*prefix, *_as_pi(place, "HOME=/nonexistent")]
    done = run("-c", config, "status", prefix=homeless)
    assert done.returncode == 3
    assert "status_file: is needed, because this user has no home folder" in done.stderr
    unit = [*prefix, *_as_pi(place, "STATE_DIRECTORY=/var/lib/gymdbd")]
    with running_daemon(config, prefix=unit) as daemon:
        told = daemon.wait_for_event("status file not where other commands look")
    assert str(told["elsewhere"]).startswith(f"{place}/pi/.local/state/gymdbd/config-")
