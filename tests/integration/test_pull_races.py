"""What is done to a replica here while a pull is under way, and what its clock tells it."""

from __future__ import annotations

import sqlite3
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from gymdbd import lock
from gymdbd.archive import marks
from gymdbd.archive.catalog import Catalog
from gymdbd.archive.inspection import inspect
from gymdbd.errors import ReplicaInUseError
from gymdbd.jobs.pull import pull
from gymdbd.jobs.pull.old_replica import keep_copy, save
from gymdbd.jobs.pull.replica import Replica
from tests.support import ledger
from tests.support.clocks import HandClock
from tests.support.command import EventLog
from tests.support.databases import backups, query, sqlite_elsewhere
from tests.support.jobs import context
from tests.support.pulling import Peer, identity
from tests.support.waiting import Contended

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from gymdbd.jobs.pull.result import PullResult

_DAY = timedelta(days=1)
# What is only written here: no payment over there is so large.
_LOCAL = 10**9
_NEWEST = "SELECT max(id) FROM payments"
_MOST = "SELECT max(amount) FROM payments"


@contextmanager
def _paying(peer: Peer) -> Iterator[sqlite3.Connection]:
    """Give the application over there, whose newest payment is in its WAL."""
    with closing(ledger.connect(peer.database, autocheckpoint=0)) as application:
        ledger.pay(application)
        yield application


def _write_here(peer: Peer) -> None:
    """Change a row of the replica in a page that the other side does not touch, and close it."""
    with closing(sqlite3.connect(peer.replica)) as here, here:
        changed = here.execute("UPDATE payments SET amount = ? WHERE id = 200", (_LOCAL,))
        assert changed.rowcount == 1


@dataclass
class _Meddling(EventLog):
    """A log by which a test is told that the pull knows what to fetch."""

    meddle: Callable[[], None] = lambda: None

    def info(self, event: str, **facts: Any) -> None:
        """Remember an event, and meddle at that one."""
        super().info(event, **facts)
        if event == "pull planned":
            self.meddle()


def _pull_while_arriving(peer: Peer, meddle: Callable[[], None]) -> PullResult:
    """Pull, and meddle as soon as the first page has arrived."""
    steps: list[str] = []

    def progress(step: str, done: int, total: int) -> None:
        del done, total
        if step == "transfer" and not steps:
            steps.append(step)
            meddle()

    try:
        return pull.run(peer.job(), context(progress=progress))
    finally:
        assert steps == ["transfer"]


def test_a_writer_that_opens_the_replica_during_a_pull_is_not_overwritten(peer: Peer) -> None:
    """What it commits afterwards would go into a file that has no name any more."""
    with _paying(peer) as application:
        peer.pull()
        before = identity(peer.replica)
        ledger.pay(application)
        opened: list[Any] = []

        def open_it() -> None:
            opened.append(sqlite_elsewhere(peer.replica, "SELECT count(*) FROM accounts"))
            opened[0].__enter__()

        try:
            with pytest.raises(ReplicaInUseError):
                _pull_while_arriving(peer, open_it)
        finally:
            opened[0].__exit__(None, None, None)
        assert identity(peer.replica) == before
        # All of it has arrived already, so that nothing is fetched; it is not in the replica yet.
        resumed = peer.pull()
        assert (resumed.state, resumed.pages_changed) == ("ok", 0)
        assert query(peer.replica, _NEWEST) == application.execute(_NEWEST).fetchall()
        assert ledger.check_copy(peer.replica).problems == ()


def test_what_is_written_to_the_replica_before_it_is_copied_is_not_published(peer: Peer) -> None:
    """The copy holds it in a page that nobody fetches; the next pull saves it and replaces it."""
    with _paying(peer) as application:
        peer.pull()
        ledger.pay(application)
        log = _Meddling(meddle=lambda: _write_here(peer))
        with pytest.raises(ReplicaInUseError, match="was changed here during the pull"):
            peer.pull(log=log)
        peer.pull()
    _is_saved_and_replaced(peer)


def test_what_is_written_to_the_replica_while_pages_arrive_is_saved(peer: Peer) -> None:
    """As a change of somebody here, and not as the state that the last pull had brought.

    What is compared with it proves nothing, so that everything is checked.
    """
    with _paying(peer) as application:
        peer.pull()
        ledger.pay(application)
        result = _pull_while_arriving(peer, lambda: _write_here(peer))
    assert (result.strategy, result.checked) == ("wal-tail", "quick")
    _is_saved_and_replaced(peer)


def _is_saved_and_replaced(peer: Peer) -> None:
    """See what was written here in a backup that verifies, and not in the replica."""
    assert ledger.check_copy(peer.replica).problems == ()
    found = Catalog(peer.archive, UTC).backups()
    assert [inspect(one).problems for one in found] == [[]] * len(found)
    assert query(found[0].path, _MOST) == [(_LOCAL,)]
    assert query(peer.replica, _MOST)[0][0] < _LOCAL


def test_what_was_written_while_the_old_replica_was_saved_is_not_lost(peer: Peer) -> None:
    """The second name that it was saved by has the change too: the next pull removes it."""
    with _paying(peer) as application:
        peer.pull()
        ledger.pay(application)
        written: list[int] = []

        def check() -> None:
            if backups(peer.archive) and not written:
                written.append(1)
                _write_here(peer)

        with pytest.raises(ReplicaInUseError, match="was changed here during the pull"):
            peer.pull(check=check)
        peer.pull()
    _is_saved_and_replaced(peer)


def _checked(peer: Peer, clock: HandClock, application: sqlite3.Connection) -> str:
    """Pull a change at the time of a clock; return what was checked."""
    ledger.pay(application)
    job = peer.job(full_verify_every=_DAY)
    return str(pull.run(job, context(clock=clock)).checked)


def test_a_full_check_comes_in_time_on_a_database_that_changes_all_the_time(peer: Peer) -> None:
    """A pull that took the shortcut does not put it off."""
    clock = HandClock()
    with _paying(peer) as application:
        checked = [_checked(peer, clock, application)]
        for _ in range(5):
            clock.set(clock.now() + 0.4 * _DAY)
            checked.append(_checked(peer, clock, application))
    assert checked == ["full", "quick", "quick", "full", "quick", "quick"]


def test_a_full_check_comes_at_once_after_a_clock_that_was_years_ahead(peer: Peer) -> None:
    """What is noted for a time to come would be waited for until then."""
    clock = HandClock()
    with _paying(peer) as application:
        clock.set(clock.now() + 4000 * _DAY)
        checked = [_checked(peer, clock, application), _checked(peer, clock, application)]
        clock.set(clock.now() - 4000 * _DAY)
        checked += [_checked(peer, clock, application), _checked(peer, clock, application)]
    assert checked == ["full", "quick", "full", "quick"]


# The copy of an emergency.


def test_a_copy_that_is_kept_is_pinned_also_if_it_was_there_already(peer: Peer) -> None:
    """The next pulls prune by their rule, and it is what somebody relies on."""
    peer.pull()
    job, replica = peer.job(), Replica(peer.replica)
    path, made = keep_copy(job, replica, context())
    assert (made, marks.read(path).kept_at is not None) == (True, True)
    marks.change(path, kept_at=None, note="")
    assert keep_copy(job, replica, context()) == (path, False)
    assert marks.read(path).kept_at is not None
    marks.change(path, kept_at="2026-11-23T03:00:00+00:00", note="mine")
    assert keep_copy(job, replica, context()) == (path, False)
    kept = marks.read(path)
    assert (kept.kept_at, kept.note) == ("2026-11-23T03:00:00+00:00", "mine")


def test_a_copy_that_somebody_rejected_is_no_copy_of_a_good_replica(peer: Peer) -> None:
    """No restore would choose it."""
    peer.pull()
    job, replica = peer.job(), Replica(peer.replica)
    first, _ = keep_copy(job, replica, context())
    marks.change(first, rejected_at="2026-11-23T03:00:00+00:00")
    second, made = keep_copy(job, replica, context())
    assert (made, second != first) == (True, True)


def test_a_replica_that_is_written_to_while_it_is_copied_is_not_kept(peer: Peer) -> None:
    """What was read of it is neither what the pull brought nor what is there now."""
    peer.pull()
    written: list[int] = []

    def check() -> None:
        if not written:
            written.append(1)
            _write_here(peer)

    with pytest.raises(ReplicaInUseError, match="was changed here"):
        keep_copy(peer.job(), Replica(peer.replica), context(check=check))
    assert backups(peer.archive) == []


@pytest.mark.parametrize("how", ["kept", "saved"])
def test_a_replica_is_put_into_an_archive_that_is_free(peer: Peer, how: str) -> None:
    """Whoever prunes there, or makes a backup, is waited for."""
    job, replica = peer.job(), Replica(peer.replica)
    peer.pull()
    peer.archive.mkdir(exist_ok=True)
    with Contended(lock.archive_lock(peer.archive), lambda: backups(peer.archive)) as held:
        busy = context(check=held.check)
        if how == "kept":
            keep_copy(job, replica, busy)
        else:
            save(job, replica, replica.state(), busy)
    assert held.seen == [[]] * 5
    assert len(backups(peer.archive)) == 1
