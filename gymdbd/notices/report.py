"""The page to look at: written when something has become better or worse, and every hour.

It says until when it is valid, since nobody rewrites it if the daemon or the machine is dead.
"""

from __future__ import annotations

import contextlib
import os
import re
import stat
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, NamedTuple

from gymdbd import bounded, clock, disk, files
from gymdbd.errors import NotOursError
from gymdbd.notices.page import document, gather

if TYPE_CHECKING:
    from pathlib import Path

    from gymdbd.config.config import Config
    from gymdbd.notices.page.facts import Page
    from gymdbd.runs.overview import Overview

_EVERY = timedelta(hours=1)
# The look that writes it may come late, on a machine that is busy or was asleep.
_VALID = timedelta(hours=2)
# What `document` puts at the beginning of each page.
_MARK = re.compile(rb'<meta name="gymdbd-page" content="([0-9a-f]{64}) ([^"]+)">')
_BEGINNING = 1024
_REMEDY = "remove it, or name another file for the page"
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
    path = files.resolved(settings.report.file)
    page = gather.page(settings, seen, settings.report.language, until=seen.at + _VALID)
    before = _before(path)
    # A page of the future was written before the clock was set.
    if (
        before is not None
        and before.fingerprint == page.fingerprint()
        and before.at <= seen.at < before.at + _EVERY
    ):
        return before.at + _EVERY
    _publish(path, page, before)
    return seen.at + _EVERY


def write_once(settings: Config, seen: Overview, path: Path, language: str) -> datetime:
    """Write a page that nobody rewrites until the next run; return until when it is valid."""
    schedules = [job.schedule or job.every for job in settings.jobs.values()]
    runs = [when.next_after(seen.at, seen.zone) for when in schedules if when is not None]
    until = min(runs, default=seen.at) + _VALID
    path = files.resolved(path)
    _publish(path, gather.page(settings, seen, language, until=until), _before(path))
    return until


def _before(path: Path) -> _Before | None:
    """Return what is known of the page that is there, None if there is none.

    Raises NotOursError if there is something else: a typing error must not cost a database.
    """
    try:
        with os.fdopen(bounded.opened(path), "rb") as file:
            facts, beginning = os.fstat(file.fileno()), file.read(_BEGINNING)
    except FileNotFoundError:
        return None
    except disk.NotOrdinaryError as error:
        raise _not_ours(path) from error
    except OSError as error:
        raise disk.read_error(error, f"the page {path}", denied=_REMEDY) from error
    match, mode = _MARK.search(beginning), stat.S_IMODE(facts.st_mode) & 0o666
    if match is None and beginning:
        raise _not_ours(path)
    with contextlib.suppress(ValueError):
        if match is not None:
            at = clock.from_text(match[2].decode())
            return _Before(match[1].decode(), at, mode)
    return _Before("", _LONG_AGO, mode)


def _not_ours(path: Path) -> NotOursError:
    return NotOursError(
        f"{path} is there and is no page of gymdbd, so it is not overwritten",
        hint=_REMEDY,
    )


def _publish(path: Path, page: Page, before: _Before | None) -> None:
    """Write the page for its owner alone, or for those who could read the one before."""
    mode = before.mode if before else files.FILE_MODE
    files.require_folder(path.parent)
    text = document.render(page)
    files.write_atomically(path, text.encode("utf-8", "backslashreplace"), mode=mode)
