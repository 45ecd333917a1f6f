"""Nine o'clock: the Mac pulls, over lines that are good, slow, bad, cut, or silently dead."""

from __future__ import annotations

import hashlib
import time
from typing import TYPE_CHECKING, Any

import pytest

from tests.e2e.network import wire
from tests.e2e.pi import DATABASE
from tests.support.databases import broken_promises
from tests.support.waiting import until

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterator
    from pathlib import Path

    from tests.e2e.mac import Mac
    from tests.e2e.network import Wire
    from tests.e2e.pi import Pi

# What nothing packs smaller, so that it is on its way for a while.
_PHOTO = 2_000_000
_STALL_S = 4
# 5 Mbit/s with 40 ms there and back, as a bad day of a shared line.
_SLOW: dict[str, float] = {"delay_ms": 20, "rate_kbit": 5000}
_LOSSY: dict[str, float] = {"delay_ms": 5, "loss": 0.03}
_DEAD: dict[str, float] = {"loss": 1}
_TRICKLE = ("tbf", "rate", "5mbit", "burst", "32kb", "latency", "50ms")


@pytest.fixture
def line(pi: Pi) -> Iterator[Wire]:
    """Give the far line, on which nothing is wrong yet."""
    with wire(pi.office) as far:
        yield far


@pytest.fixture
def ready(pi: Pi, mac: Mac) -> Pi:
    """Give the Pi once it knows the Mac's key, and has a photo."""
    pi.let_in(pi.restricted(mac.public_key))
    _sql(pi, "CREATE TABLE photos (photo)")
    _take_photo(pi)
    return pi


def _sql(pi: Pi, statement: str) -> str:
    return pi.machine.run("sqlite3", DATABASE, statement, user="pi").stdout.strip()


def _take_photo(pi: Pi) -> None:
    _sql(pi, f"INSERT INTO photos VALUES (randomblob({_PHOTO}))")


def _near(mac: Mac) -> None:
    """Let the pull go over the near line."""
    mac.configure(ssh={"stall_timeout": "20s"})


def _far(mac: Mac) -> None:
    """Let the pull go over the far line, and give up at once rather than try again."""
    mac.configure(
        host="raspberry-pi-far",
        ssh={"stall_timeout": f"{_STALL_S}s", "keepalive": "1s"},
        retry={"attempts": 1},
    )


def _is_new(pi: Pi, mac: Mac, answer: dict[str, Any]) -> None:
    """See that the replica is whole and holds everything, and that the answer has the figures."""
    assert answer["state"] == "ok", answer
    assert broken_promises(mac.replica) == []
    counts = "SELECT (SELECT count(*) FROM photos) || ' ' || (SELECT count(*) FROM rentals)"
    assert f"{answer['tables']['photos']} {answer['tables']['rentals']}" == _sql(pi, counts)
    assert answer["bytes_received"] > 0
    assert answer["duration_s"] > 0


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _await_half(mac: Mac) -> None:
    """Wait until half of a photo has been written into the partial, the replica being as it was."""
    names = f".{mac.replica.name}.????????.partial"
    (partial,) = until(lambda: list(mac.replica.parent.glob(names)), "the partial")
    until(lambda: _changed(mac.replica, partial) > _PHOTO / 2, "half of the photo", within_s=60)


def _changed(one: Path, other: Path) -> int:
    """Return how many bytes of the second file are not those of the first."""
    a, b = (path.read_bytes() if path.exists() else b"" for path in (one, other))
    return sum(4096 for at in range(0, len(b), 4096) if a[at : at + 4096] != b[at : at + 4096])


def _watch(mac: Mac, pull: subprocess.Popen[str]) -> set[str]:
    """Read the replica again and again until the pull has ended; return each state seen."""
    seen = set()
    while pull.poll() is None:
        seen.add(_digest(mac.replica))
    return seen


def test_over_the_office_network_a_pull_takes_the_change(ready: Pi, mac: Mac) -> None:
    """All of it the first time, then only what is new, and each time the whole truth."""
    _near(mac)
    first = mac.pull()
    _is_new(ready, mac, first)
    ready.rent()
    second = mac.pull()
    _is_new(ready, mac, second)
    assert second["bytes_received"] < first["bytes_received"] / 5


@pytest.mark.parametrize("trouble", [_SLOW, _LOSSY], ids=["slow and far", "lossy"])
def test_over_a_bad_line_a_pull_takes_longer_and_is_as_right(
    ready: Pi, mac: Mac, line: Wire, trouble: dict[str, float]
) -> None:
    """5 Mbit/s with 40 ms, or three packets of a hundred lost: the old replica until the new."""
    _far(mac)
    _is_new(ready, mac, mac.pull())
    old = _digest(mac.replica)
    _take_photo(ready)
    line.change(**trouble)
    pull = mac.start_pull()
    seen = _watch(mac, pull)
    answer = mac.answer(pull)
    _is_new(ready, mac, answer)
    assert seen - {old, _digest(mac.replica)} == set()
    assert answer["bytes_received"] > _PHOTO
    if rate_kbit := trouble.get("rate_kbit"):
        # The line was indeed as slow as that.
        assert answer["duration_s"] > answer["bytes_received"] / (rate_kbit * 125) * 0.9


def test_a_line_that_is_cut_and_healed_at_once_is_only_waited_for(ready: Pi, mac: Mac) -> None:
    """The plug of the near line is out for a second: TCP sends again, nobody notices."""
    _near(mac)
    for place in (ready.office.pi, ready.office.mac):
        place.run("tc", "qdisc", "add", "dev", "near", "root", *_TRICKLE)
    try:
        pull = mac.start_pull()
        _await_half(mac)
        ready.office.cut()
        cut = time.monotonic()
        until(lambda: time.monotonic() > cut + 1, "a second without a line")
        assert pull.poll() is None
        ready.office.heal()
        _is_new(ready, mac, mac.answer(pull))
    finally:
        for place in (ready.office.pi, ready.office.mac):
            place.run("tc", "qdisc", "del", "dev", "near", "root")


def test_a_peer_that_vanishes_in_mid_transfer_is_given_up_and_the_next_pull_resumes(
    ready: Pi, mac: Mac, line: Wire
) -> None:
    """No FIN comes; within `stall_timeout` it is noticed; what had arrived is not fetched again.

    The old replica stays until the new one is whole.
    """
    _far(mac)
    _is_new(ready, mac, mac.pull())
    old = _digest(mac.replica)
    _take_photo(ready)

    line.change(**_SLOW)
    pull = mac.start_pull()
    _await_half(mac)
    line.change(**_DEAD)
    gone = time.monotonic()
    answer = mac.answer(pull)
    noticed_s = time.monotonic() - gone
    assert (answer["state"], answer["code"]) == ("unreachable", "stalled"), answer
    assert noticed_s < 2 * _STALL_S + 3
    assert _digest(mac.replica) == old

    line.change()
    resumed = mac.pull()
    _is_new(ready, mac, resumed)
    assert resumed["bytes_received"] < _PHOTO * 0.75
    # Once the Pi hears that the Mac has gone, no reader is left to keep its WAL from being reset.
    until(lambda: not _is_serving(ready), "the end of serving")


def test_the_pi_gives_up_a_mac_that_vanishes_though_it_never_hears_of_it(
    ready: Pi, mac: Mac, line: Wire
) -> None:
    """The connection stays half open; what serves it ends all the same, and frees the WAL."""
    line_of_key = ready.restricted(mac.public_key)
    ready.let_in(line_of_key.replace("gymdbd serve", "gymdbd serve --stall-timeout 3s"))
    _far(mac)
    line.change(**_SLOW)
    pull = mac.start_pull()
    _await_half(mac)
    ready.rent()
    assert _wal_is_held(ready)
    line.change(**_DEAD)
    assert mac.answer(pull)["code"] == "stalled"
    until(lambda: not _is_serving(ready), "the end of serving")
    assert not _wal_is_held(ready)


def _is_serving(pi: Pi) -> bool:
    return pi.machine.run("pgrep", "-f", "[g]ymdbd serve", check=False).stdout != ""


def _wal_is_held(pi: Pi) -> bool:
    """Say whether a reader keeps the WAL from being emptied."""
    return _sql(pi, "PRAGMA wal_checkpoint(TRUNCATE)").startswith("1|")
