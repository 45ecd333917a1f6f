"""The page to look at: written when something has become better or worse, and every hour.

It says until when it is valid, since nobody rewrites it if the daemon or the machine is dead.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import stat
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, NamedTuple

import gymdbd
from gymdbd import acting, bounded, clock, disk, files
from gymdbd.errors import NotOursError
from gymdbd.notices.page import document, gather
from gymdbd.runs.entry import instant

if TYPE_CHECKING:
    from pathlib import Path

    from gymdbd.config.config import Config
    from gymdbd.jobs.finding import Finding
    from gymdbd.notices.page.facts import Page
    from gymdbd.runs.health import Judged
    from gymdbd.runs.overview import Overview

_EVERY = timedelta(hours=1)
# The look that writes it may come late, on a machine that is busy or was asleep.
_VALID = timedelta(hours=2)
# What `document` puts at the beginning of each page.
_MARK = re.compile(rb'<meta name="gymdbd-page" content="([0-9a-f]{64}) ([^"]+)">')
_BEGINNING = 1024
_REMEDY = "name another file for the page"
_LONG_AGO = datetime.fromtimestamp(0, UTC)


class _Before(NamedTuple):
    """The page that is there: what it shows, when it was written, and its mode."""

    fingerprint: str
    at: datetime
    mode: int


def write(settings: Config, seen: Overview) -> datetime | None:
    """Write the page of `report:` if it is time; return when it must be written again.

    None if the configuration asks for no page. Raises GymdbdError if it cannot be written.
    """
    if settings.report is None:
        return None
    path, language = settings.report.file, settings.report.language
    before = _before(path)
    # A page of the future was written before the clock was set.
    if (
        before is not None
        and before.fingerprint == fingerprint(seen, language)
        and before.at <= seen.at < before.at + _EVERY
    ):
        return before.at + _EVERY
    _publish(path, _page(settings, seen, language, seen.at + _VALID), before)
    return seen.at + _EVERY


def write_once(settings: Config, seen: Overview, path: Path, language: str) -> datetime:
    """Write a page that nobody rewrites until the next run; return until when it is valid."""
    schedules = [job.schedule or job.every for job in settings.jobs.values()]
    runs = [when.next_after(seen.at, seen.zone) for when in schedules if when is not None]
    until = min(runs, default=seen.at) + _VALID
    _publish(path, _page(settings, seen, language, until), _before(path))
    return until


def fingerprint(seen: Overview, language: str) -> str:
    """Return a text that differs if the page is to be written again at once.

    That is so if anything has become better or worse. Good runs count once an hour, so that a job
    of every minute does not wear out a card; and what is only said differently, as a number of free
    bytes, waits until the page is written anyway. No archive is read for it, and not the ledger.
    """
    judged = {**seen.jobs, **seen.peers}
    jobs = [(name, _told(one.found), _last_good(one)) for name, one in judged.items()]
    parts = [(name, _told(found)) for name, found in (seen.machine | seen.remarks).items()]
    daemon = (seen.daemon.alive, seen.daemon.mute)
    matters = (gymdbd.__version__, language, seen.host, daemon, jobs, parts)
    return hashlib.sha256(repr(matters).encode("utf-8", "backslashreplace")).hexdigest()


def _told(found: Finding) -> tuple[object, ...]:
    return found.health, found.code or found.reason, found.hint


def _last_good(judged: Judged) -> tuple[object, ...]:
    """Return the hour of the last success, and what waits for an answer."""
    entry = judged.entry
    success = instant(entry.last_success)
    hour = success.replace(minute=0, second=0, microsecond=0) if success else None
    return hour, entry.result and entry.result.waiting, judged.interrupted is not None


def _page(settings: Config, seen: Overview, language: str, until: datetime) -> Page:
    mark = fingerprint(seen, language)
    return replace(gather.page(settings, seen, language, until=until), fingerprint=mark)


def _before(path: Path) -> _Before | None:
    """Return what is known of the page that is there, None if there is none.

    Raises NotOursError if there is something else: a typing error must not cost a database.
    """
    found = acting.done_by_decider(path, lambda: _facts(_resolved(path)))
    if found is None:
        return None
    with contextlib.suppress(ValueError):
        return _Before(found["fingerprint"], clock.from_text(found["at"]), found["mode"])
    return _Before("", _LONG_AGO, found["mode"])


def _resolved(path: Path) -> Path:
    """Follow a link in the place of the page, but not one that another user has put there."""
    if path.is_symlink() and path.lstat().st_uid not in (0, os.geteuid()):
        raise _not_ours(path)
    return files.resolved(path)


def _facts(path: Path) -> dict[str, Any] | None:
    try:
        with os.fdopen(bounded.opened(path), "rb") as file:
            mode, beginning = os.fstat(file.fileno()).st_mode, file.read(_BEGINNING)
    except FileNotFoundError:
        return None
    except disk.NotOrdinaryError as error:
        raise _not_ours(path) from error
    except OSError as error:
        raise disk.read_error(error, f"the page {path}", denied=_REMEDY) from error
    match = _MARK.search(beginning)
    if match is None and beginning:
        raise _not_ours(path)
    mark, at = match.groups() if match else (b"", b"")
    return {
        "fingerprint": mark.decode(),
        "at": at.decode("utf-8", "replace"),
        "mode": stat.S_IMODE(mode) & 0o666,
    }


def _not_ours(path: Path) -> NotOursError:
    return NotOursError(
        f"{path} is there and is no page of gymdbd, so it is not overwritten",
        hint=_REMEDY,
    )


def _publish(path: Path, page: Page, before: _Before | None) -> None:
    """Write the page for its owner alone, or for those who could read the one before."""
    mode = before.mode if before else files.FILE_MODE
    data = document.render(page).encode("utf-8", "backslashreplace")

    def write() -> None:
        file = _resolved(path)
        files.require_folder(file.parent)
        files.write_atomically(file, data, mode=mode)

    acting.done_by_decider(path, write)
