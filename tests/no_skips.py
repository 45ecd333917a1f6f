"""A pytest plugin for machines where everything must run: a skipped test has failed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Generator


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, object, object]:
    """Turn the report of a skip into a failure that gives the skip's reason."""
    return _failed((yield))


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, object, object]:
    """Do the same where a whole file skips itself."""
    return _failed((yield))


def _failed(report: object) -> object:
    # An expected failure is reported as skipped too, and is no skip.
    if (
        isinstance(report, (pytest.TestReport, pytest.CollectReport))
        and report.skipped
        and not hasattr(report, "wasxfail")
    ):
        reason = report.longrepr[-1] if isinstance(report.longrepr, tuple) else report.longrepr
        report.outcome = "failed"
        report.longrepr = f"skipped where everything must run: {reason}"
    return report
