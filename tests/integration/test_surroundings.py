"""What a process may find around it: no standard streams, no current folder, no home, no name."""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.support.command import GYMDBD, environment, gymdbd, require
from tests.support.daemon_process import running_daemon
from tests.support.databases import backups, make_database, query
from tests.support.jobs import write_config
from tests.support.waiting import until
from tests.support.zones import own_etc

if TYPE_CHECKING:
    from pathlib import Path

_ROWS = 5
_NOBODY = 4242
# Who owns a file in this namespace, and in it nobody has a right beyond that.
_UNKNOWN = ["unshare", "--user", f"--map-user={_NOBODY}", f"--map-group={_NOBODY}"]


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """Return a configuration with one job, whose backup is made once."""
    database = make_database(tmp_path / "gym.db", rows=_ROWS)
    (tmp_path / "archive").mkdir(mode=0o700)
    job = {"database": str(database), "archive": str(tmp_path / "archive"), "every": "1h"}
    path = write_config(tmp_path, {"nightly": job})
    assert gymdbd("-c", path, "backup", "nightly").returncode == 0
    return path


def redirected(how: str, *words: object) -> subprocess.CompletedProcess[str]:
    """Run gymdbd with a shell's redirections."""
    script = f'set -o pipefail; "$@" {how}'
    command = [require("bash"), "-c", script, "bash", *GYMDBD, *map(str, words)]
    return subprocess.run(
        command, env=environment(), capture_output=True, text=True, timeout=60, check=False
    )


@pytest.mark.parametrize("how", [">&-", "2>&-", "<&- >&-", "<&- >&- 2>&-"])
def test_work_is_done_with_closed_standard_streams(how: str, config: Path, tmp_path: Path) -> None:
    """And nothing that is printed gets into a file that has a closed stream's number."""
    restored = tmp_path / "restored.db"
    assert redirected(how, "-c", config, "backup", "nightly").returncode == 0
    assert len(backups(tmp_path / "archive")) == 2
    assert redirected(how, "-c", config, "restore", "latest", "--to", restored).returncode == 0
    assert query(restored, "SELECT count(*) FROM t") == [(_ROWS,)]


def test_the_daemon_works_with_closed_standard_streams(config: Path, tmp_path: Path) -> None:
    """Its runs have streams of their own, and their backups are good."""
    config.write_text(config.read_text().replace('"1h"', '"1s"'))
    prefix = ["sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh"]
    with running_daemon(config, prefix=prefix) as daemon:
        until(lambda: len(backups(tmp_path / "archive")) > 1, "a backup")
        until(lambda: daemon.entry("nightly").get("state") == "ok", "its outcome")


def test_output_that_cannot_be_written_does_not_undo_the_work(config: Path, tmp_path: Path) -> None:
    """The backup is made, the exit code is its own, and one line says what got lost."""
    done = redirected(">/dev/full", "-c", config, "backup", "nightly")
    expected = "gymdbd: cannot write to standard output (No space left on device)\n"
    assert (done.returncode, done.stderr) == (0, expected)
    done = redirected("2>/dev/full", "-c", config, "backup", "nightly")
    assert done.returncode == 0
    assert len(backups(tmp_path / "archive")) == 3


@pytest.mark.parametrize("words", [["list"], ["list", "--json"], ["rescue", "latest", "--table=t"]])
def test_a_verb_whose_output_is_all_its_work_fails_if_that_cannot_be_written(
    words: list[str], config: Path
) -> None:
    """A list that was redirected to a full disk is not taken for an empty one."""
    done = redirected(">/dev/full", "-c", config, *words)
    expected = "gymdbd: cannot write to standard output (No space left on device)\n"
    assert (done.returncode, done.stderr) == (1, expected)


@pytest.mark.parametrize(("verb", "code"), [("list", 1), ("status", 0)])
def test_a_reader_that_has_had_enough_is_told_nothing(verb: str, code: int, config: Path) -> None:
    """As of any program in a pipe; what the exit code says for itself it goes on saying."""
    done = redirected("| true", "-c", config, verb)
    assert (done.returncode, done.stderr) == (code, "")


def test_a_current_folder_that_is_gone_matters_only_to_paths_that_begin_in_it(
    config: Path, tmp_path: Path
) -> None:
    """Latest is none of them; one that is gets the true reason."""
    script = 'mkdir "$0" && cd "$0" && rmdir "$0" && exec "$@"'
    prefix = ["sh", "-c", script, str(tmp_path / "gone")]
    for words in (
        ["restore", "latest", "--to", tmp_path / "restored.db"],
        ["diff", "latest"],
        ["keep", "latest"],
        ["verify", "latest"],
        ["backup", "nightly"],
    ):
        done = gymdbd("-c", config, *words, prefix=prefix)
        assert (words, done.returncode, done.stderr) == (words, 0, "")
    done = gymdbd("-c", config, "restore", "latest", "--to", "restored.db", prefix=prefix)
    assert done.stderr.startswith("gymdbd: the current folder no longer exists")
    assert done.returncode == 2


@pytest.fixture
def locked(tmp_path: Path) -> Path:
    """Return a folder that the user of `_UNKNOWN` may not enter."""
    folder = tmp_path / "locked"
    folder.mkdir(mode=0o700)
    os.chown(folder, 12345, 12345)
    return folder


def test_a_folder_or_home_that_may_not_be_entered_hides_no_configuration(
    config: Path, tmp_path: Path, locked: Path
) -> None:
    """As under sudo -u pi from /root: the one in /etc is found."""
    etc, prefix = own_etc(tmp_path)
    (etc / "gymdbd").mkdir()
    (etc / "gymdbd" / "config.yaml").write_text(config.read_text())
    inside = ["sh", "-c", 'cd "$0" && exec "$@"', str(locked)]
    done = gymdbd("status", prefix=[*prefix, *inside, *_UNKNOWN], HOME=str(locked))
    assert (done.returncode, done.stderr) == (0, "")


def test_sudo_is_told_of_the_configuration_of_who_typed_it(config: Path, tmp_path: Path) -> None:
    """Root looks in its own home, but `gymdbd init` without sudo wrote it in theirs."""
    etc, prefix = own_etc(tmp_path)
    with (etc / "passwd").open("a") as users:
        users.write(f"kim:x:{_NOBODY}:{_NOBODY}::{tmp_path}:/bin/sh\n")
    own = tmp_path / ".config" / "gymdbd" / "config.yaml"
    own.parent.mkdir(parents=True)
    own.write_text(config.read_text())
    home = str(tmp_path / "root")
    done = gymdbd("status", prefix=prefix, HOME=home, GYMDBD_CONFIG="", SUDO_USER="kim")
    assert f"What to do: {own} is yours: type this without sudo, or with -c {own}" in done.stderr
    for user in ("nobody", "no-such-user", ""):
        done = gymdbd("status", prefix=prefix, HOME=home, GYMDBD_CONFIG="", SUDO_USER=user)
        assert "without sudo" not in done.stderr


def test_where_nobody_may_look_for_a_configuration_is_said(locked: Path) -> None:
    """There might be one in that home."""
    done = gymdbd("status", prefix=_UNKNOWN, HOME=str(locked), GYMDBD_CONFIG="")
    told = "; this user may not look for ~/.config/gymdbd/config.yaml"
    assert done.stderr.splitlines()[0].endswith(told)


def test_a_user_without_a_name_and_a_home_backs_up_and_restores(
    config: Path, tmp_path: Path
) -> None:
    """A container may run under any number."""
    prefix = ["env", "-u", "HOME", "-u", "USER", "-u", "LOGNAME", *_UNKNOWN]
    for words in (["backup", "nightly"], ["restore", "latest", "--to", tmp_path / "x.db"]):
        done = gymdbd("-c", config, *words, prefix=prefix)
        assert (done.returncode, done.stderr) == (0, "")


def test_a_pull_by_a_user_without_a_name_says_that_it_needs_one(tmp_path: Path) -> None:
    """With USER set, or user: in the configuration, it gets as far as the other machine."""
    prefix = ["env", "-u", "HOME", "-u", "USER", "-u", "LOGNAME", *_UNKNOWN]
    words = ["--host", "127.0.0.1", "--remote-database", "/x", "--replica", tmp_path / "r.db"]
    done = gymdbd("pull", *words, prefix=prefix)
    expected = f"gymdbd: this user has the number {_NOBODY} and no name to log in by"
    assert done.stderr.splitlines()[0] == expected

    done = gymdbd("pull", *words, prefix=[*prefix, "env", "USER=pi"])
    assert done.stderr.startswith("gymdbd: 127.0.0.1 (127.0.0.1 port 22) ")


def test_a_home_in_the_configuration_that_is_not_known_is_a_fault_with_its_line(
    config: Path,
) -> None:
    """Not a traceback, and not a folder called ~."""
    config.write_text(config.read_text().replace(str(config.parent / "archive"), "~/archive"))
    prefix = ["env", "-u", "HOME", *_UNKNOWN]
    done = gymdbd("-c", config, "list", prefix=prefix)
    assert done.returncode == 2
    assert "the home folder in ~/archive is unknown: use an absolute path" in done.stderr
