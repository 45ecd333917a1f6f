"""The result of verifying one backup, and the folder in which a repair works."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from gymdbd.jobs.verify.result import Verdict

if TYPE_CHECKING:
    from gymdbd.archive.backup import Backup
    from gymdbd.archive.inspection import Findings

ARCHIVE_WAIT_S = 600.0
# The folder in an archive into which a repair fetches files.
WORKSHOP = ".repair"


@dataclass
class Verified:
    """The result for one backup; `repaired` is where a good copy was fetched from."""

    backup: Backup
    findings: Findings
    verdict: str
    remarks: list[str] = field(default_factory=list)
    repaired: str | None = None

    def describe(self) -> Verdict:
        """Return the entry for `gymdbd verify --json`."""
        return Verdict(
            path=str(self.backup.path),
            verdict=self.verdict,
            problems=self.findings.problems,
            remarks=self.findings.remarks + self.remarks,
            repaired=self.repaired,
        )
