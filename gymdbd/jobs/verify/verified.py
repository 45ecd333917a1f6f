"""What a verification found of one backup, and where a repair works."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from gymdbd.jobs.verify.result import Verdict

if TYPE_CHECKING:
    from gymdbd.archive.backup import Backup
    from gymdbd.archive.inspection import Findings

ARCHIVE_WAIT_S = 600.0
# The folder in an archive in which a repair puts together what it fetches.
WORKSHOP = ".repair"


@dataclass
class Verified:
    """What came of one backup; `repaired` says from where a good copy was fetched."""

    backup: Backup
    findings: Findings
    verdict: str
    remarks: list[str] = field(default_factory=list)
    repaired: str | None = None

    def describe(self) -> Verdict:
        """Return its entry in the result."""
        return Verdict(
            path=str(self.backup.path),
            verdict=self.verdict,
            problems=self.findings.problems,
            remarks=self.findings.remarks + self.remarks,
            repaired=self.repaired,
        )
