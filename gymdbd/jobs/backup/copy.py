"""The copy that a backup makes, and the manifest that describes it."""

from __future__ import annotations

import dataclasses
import sqlite3
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import gymdbd
from gymdbd import files
from gymdbd.archive import manifest as manifests
from gymdbd.archive.manifest import Manifest
from gymdbd.jobs.elsewhere import Elsewhere
from gymdbd.source.counting import uncounted
from gymdbd.source.schema import read_facts
from gymdbd.sqlite import opening

if TYPE_CHECKING:
    from pathlib import Path

    from gymdbd.archive.proof import Proof
    from gymdbd.config.kinds import BackupConfig
    from gymdbd.remote.client import Session
    from gymdbd.source.schema import Facts
    from gymdbd.sqlite.checkpoint import Checkpoint


@dataclass(frozen=True)
class Copy:
    """A snapshot that is a partial in the archive, not yet proven."""

    final: Path
    partial: Path
    created_at: str
    facts: Facts
    rows: dict[str, int]
    ownership: dict[str, Any]


def expected(copy: Copy) -> dict[str, Any]:
    """Return what must be found in the copy; its journal mode differs on purpose."""
    facts = {name: value for name, value in vars(copy.facts).items() if name != "journal_mode"}
    return {**facts, "rows": copy.rows, "uncounted": uncounted(copy.facts, copy.rows)}


def fetch(session: Session, final: Path, partial: Path, created_at: str) -> Copy:
    """Bring the snapshot of a session, of another user's process, into the partial."""
    seen = session.fingerprint
    with files.writing(partial):
        rows = session.count_rows()
        Elsewhere.fetch(session, partial)
    with opening.reading(partial) as copy:
        facts = read_facts(copy)
    facts = dataclasses.replace(
        facts,
        page_size=seen.page_size,
        page_count=seen.page_count,
        journal_mode=seen.journal_mode,
    )
    return Copy(final, partial, created_at, facts, rows, session.ownership or {})


def describe(
    job: BackupConfig,
    copy: Copy,
    proven: Proof,
    done: Checkpoint,
    duration_s: float,
) -> Manifest:
    """Return the manifest of a copy that was proven good."""
    facts = copy.facts
    return Manifest(
        source=job.origin.places[0].path,
        host=job.origin.places[0].host,
        created_at=copy.created_at,
        method=job.method or ("raw" if job.raw else "online-backup"),
        sqlite_version=sqlite3.sqlite_version,
        page_size=facts.page_size,
        page_count=facts.page_count,
        encoding=facts.encoding,
        journal_mode=facts.journal_mode,
        user_version=facts.user_version,
        application_id=facts.application_id,
        size=proven.sums.size,
        md5=proven.sums.md5,
        sha256=proven.sums.sha256,
        integrity=manifests.SOUND,
        **copy.ownership,
        tables=copy.rows,
        uncounted=uncounted(facts, copy.rows),
        remarks=proven.soundness.broken,
        unchecked=list(proven.soundness.unchecked),
        duration_s=duration_s,
        gymdbd_version=gymdbd.__version__,
        checkpoint=asdict(done),
        overwritten_by=job.overwritten_by,
    )
