"""The emergency: one command on the Mac brings the Pi's database to safety, three times."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.e2e.network import wire
from tests.e2e.pi import ARCHIVE, DATABASE
from tests.support.command import GYMDBD
from tests.support.databases import broken_promises, query
from tests.support.waiting import until

if TYPE_CHECKING:
    import subprocess

    from tests.e2e.mac import Mac
    from tests.e2e.pi import Pi

_STEPS = ["backup there", "pull", "backup here"]


def _start(mac: Mac, *words: str) -> subprocess.Popen[str]:
    return mac.start(*GYMDBD, "-c", mac.home / "config.yaml", "emergency", *words)


def _states(answer: dict[str, Any]) -> list[tuple[str, str]]:
    return [(one["name"], one["state"]) for one in answer["steps"]]


def _fetch(pi: Pi, copy: dict[str, Any], folder: Path) -> Path:
    """Return a file of this machine that holds a safe copy, wherever it is said to be."""
    source = pi.machine.path(copy["path"]) if copy["host"] else Path(copy["path"])
    return Path(shutil.copy(source, folder / f"{'pi' if copy['host'] else 'mac'}-{source.name}"))


def _arrived(mac: Mac) -> int:
    """Return how many bytes lie beside the place of the replica."""
    return sum(one.stat().st_blocks * 512 for one in mac.replica.parent.iterdir())


def test_three_copies_are_safe_while_the_gym_goes_on_writing(
    pi: Pi, mac: Mac, tmp_path: Path
) -> None:
    """By a key that may log in: each copy is whole, of its machine, and where the answer says.

    The copy over there is made by the Pi's own gymdbd as its own job, so that its people find it
    in their list.
    """
    pi.let_in(mac.public_key)
    mac.configure()
    pi.start_writer()
    answer = mac.answer(_start(mac, "--json"))
    pi.stop_writer()
    assert (answer["state"], _states(answer)) == ("ok", [(name, "ok") for name in _STEPS]), answer
    there, replica, here = answer["safe_copies"]
    assert (there["host"], replica["host"], here["host"]) == ("raspberry-pi", None, None)
    assert there["path"] == f"{ARCHIVE}/{pi.backups()[-1]}"
    assert replica["path"] == str(mac.replica)
    for copy in answer["safe_copies"]:
        fetched = _fetch(pi, copy, tmp_path)
        assert broken_promises(fetched) == []
        assert query(fetched, "SELECT members FROM totals") == [(1,)]
    assert [one["verdict"] for one in pi.gymdbd("list")["backups"]] == ["verified"]


def test_a_key_that_may_only_pull_gets_two_copies_and_the_reason(pi: Pi, mac: Mac) -> None:
    """Nothing on the Pi is changed by it; a person reads where the copies are, last."""
    pi.let_in(pi.restricted(mac.public_key))
    mac.configure()
    with _start(mac) as emergency:
        out, err = emergency.communicate(timeout=60)
    assert emergency.returncode == 0, err
    there, pull, here = err.splitlines()
    assert there.startswith("backup there  skipped: ")
    assert (pull.split()[1], here.split()[2]) == ("ok:", "ok:")
    assert out.splitlines()[-1].startswith(f"safe copies   {mac.replica}, ")
    assert pi.backups() == []


def test_a_cut_in_the_middle_tells_what_is_safe_and_the_next_one_completes_it(
    pi: Pi, mac: Mac
) -> None:
    """The line dies without a word while the database is on its way."""
    fill = "CREATE TABLE photos AS SELECT randomblob(3000000) AS photo"
    pi.machine.run("sqlite3", DATABASE, fill, user="pi")
    pi.let_in(mac.public_key)
    mac.configure(host="raspberry-pi-far", ssh={"stall_timeout": "3s"})
    with wire(pi.office) as line:
        line.change(rate_kbit=4000)
        with _start(mac) as emergency:
            assert emergency.stderr is not None
            assert emergency.stdout is not None
            assert emergency.stderr.readline().startswith("backup there  ok: raspberry-pi-far:")
            # Of three megabytes, which take six seconds.
            until(lambda: _arrived(mac) > 500_000, "half a megabyte")
            line.change(loss=1)
            told = emergency.stderr.read()
            out = emergency.stdout.read()
        assert emergency.returncode == 1
        assert told.startswith("pull          unreachable: "), told
        assert "What to do: " in told
        assert out.splitlines()[-1] == f"safe copies   raspberry-pi-far:{ARCHIVE}/{pi.backups()[0]}"
        assert not mac.replica.exists()
        line.change()
        again = mac.answer(_start(mac, "--json"))
    assert (again["state"], [name for name, _ in _states(again)]) == ("ok", _STEPS), again
    assert broken_promises(mac.replica) == []
    assert query(mac.replica, "SELECT length(photo) FROM photos") == [(3_000_000,)]
