"""The pages name what there is, and their links lead somewhere."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from gymdbd import commands
from gymdbd.config import config, kinds, notify, parts, secrets
from tests.support import guides

_INDEX = "deploy/docs/README.md"
_SECTIONS: tuple[Any, ...] = (
    config.Config,
    config.LogConfig,
    notify.NotifyConfig,
    notify.ChannelConfig,
    notify.SmtpConfig,
    secrets.Secret,
    parts.Keep,
    parts.Gates,
    parts.Newest,
    parts.Retry,
    kinds.BackupConfig,
    kinds.PullConfig,
    kinds.DrillConfig,
    parts.Probe,
    kinds.VerifyConfig,
    parts.RepairConfig,
    parts.SshConfig,
    parts.ReportConfig,
    parts.MetricsConfig,
    parts.MachineConfig,
)
_KEYS = sorted(
    {one.name for kind in _SECTIONS for one in dataclasses.fields(kind) if "read" in one.metadata}
)


@pytest.mark.parametrize("verb", commands.VERBS)
def test_every_verb_stands_in_the_pages(verb: str) -> None:
    """A verb is shown as it is typed."""
    assert re.search(rf"gymdbd (-c \S+ )?{verb}\b|`{verb}\b", guides.all_pages())


@pytest.mark.parametrize("key", _KEYS)
def test_every_key_stands_in_the_page_of_the_configuration(key: str) -> None:
    """A key of the configuration is named as code: in backticks, or with its colon."""
    page = guides.read("deploy/docs/configuration.md")
    assert re.search(rf"`{key}\b|\b{key}:|\.{key}`", page)


@pytest.mark.parametrize("code", [0, 1, 2, 3])
def test_every_exit_code_stands_in_the_page_of_status(code: int) -> None:
    """The exit codes have a table, or a line, of their own each."""
    page = guides.read("deploy/docs/status.md")
    assert re.search(rf"^\|? *`?{code}`? *(\||[a-z])", page, re.MULTILINE)


@pytest.mark.parametrize("page", [*guides.PAGES, "deploy/docs/CHANGELOG.md", "tests/README.md"])
def test_every_link_leads_somewhere(page: str) -> None:
    """To a file that is there and, if it names one, a heading of it."""
    dead = []
    for link in guides.links(page):
        name, _, anchor = link.partition("#")
        path = (guides.ROOT / page).parent / name if name else guides.ROOT / page
        if not path.exists() or (anchor and anchor not in guides.anchors(path)):
            dead.append(link)
    assert dead == []


def test_every_page_is_in_the_list_of_pages() -> None:
    """The README leads to the list, and the list to each page."""
    assert _INDEX in guides.links("README.md")
    folder = (guides.ROOT / _INDEX).parent
    listed = {(folder / link).resolve() for link in guides.links(_INDEX)}
    assert [page for page in guides.PAGES if guides.ROOT / page not in listed] == [_INDEX]


@pytest.mark.parametrize("page", sorted({*guides.PAGES} - {"deploy/GUIDE.ko.md"}))
def test_a_page_is_no_longer_than_people_read(page: str) -> None:
    """What does not fit belongs on a page of its own."""
    assert guides.read(page).count("\n") <= 250


_BASE = """
status_file: /var/lib/gymdbd/status.json
jobs:
  nightly-backup: {kind: backup, schedule: "0 3 * * *", database: /app.db, archive: /archive}
"""
_PIECES = [
    pytest.param(piece, id=f"{page}-{number}")
    for page in guides.PAGES
    for number, piece in enumerate(guides.configurations(page))
]


@pytest.mark.parametrize("piece", _PIECES)
def test_every_piece_of_configuration_is_accepted(piece: dict[str, Any]) -> None:
    """It is a whole one, or sections, or jobs, or a job's keys; the rest is as in a small one."""
    whole: dict[str, Any] = yaml.safe_load(_BASE)
    top_level = {field.name for field in dataclasses.fields(config.Config)}
    if piece.keys() & top_level:
        whole.update(piece)
    elif all(isinstance(job, dict) and "kind" in job for job in piece.values()):
        whole["jobs"].update(piece)
    else:
        whole["jobs"]["nightly-backup"].update(piece)
    assert config.parse(yaml.safe_dump(whole), Path("/config.yaml")).jobs
