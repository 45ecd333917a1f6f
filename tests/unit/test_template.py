"""The configuration that `gymdbd init` writes: it can be read, and so can its examples."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from gymdbd.config import config, template
from gymdbd.config.kinds import BackupConfig, PullConfig

_ODD = Path('/home/it\'s "so" # {x}: 회원/gym\t\n😀.db')
_BACKUP: dict[str, Any] = {
    "kind": "backup",
    "schedule": "0 3 * * *",
    "database": _ODD,
    "archive": Path("/srv/backups"),
    "keep": {"days": 14, "count": 10},
}
_PULL: dict[str, Any] = {
    "kind": "pull",
    "every": "1h",
    "host": "pi",
    "remote_database": str(_ODD),
    "replica": _ODD,
    "keep": {"count": 5},
    "ssh": {"user": "pi", "port": 2222, "identity_file": "~/.ssh/gymdbd", "identities_only": True},
}


def _read(text: str, folder: Path) -> config.Config:
    return config.parse(text, folder / "config.yaml")


def test_a_backup_is_read_as_it_was_meant(tmp_path: Path) -> None:
    """Whatever letters its path has."""
    job = _read(template.backup("nightly-backup", _BACKUP), tmp_path).jobs["nightly-backup"]
    assert isinstance(job, BackupConfig)
    assert (job.database, job.archive) == (_ODD, Path("/srv/backups"))
    assert job.keep is not None
    assert (job.keep.days, job.keep.count) == (14, 10)


def test_a_pull_is_read_as_it_was_meant(tmp_path: Path) -> None:
    """With how to log in."""
    job = _read(template.pull("pull-from-pi", _PULL), tmp_path).jobs["pull-from-pi"]
    assert isinstance(job, PullConfig)
    assert (job.host, job.remote_database, job.replica) == ("pi", str(_ODD), _ODD)
    assert (job.ssh.user, job.ssh.port, job.ssh.identities_only) == ("pi", 2222, True)


@pytest.mark.parametrize("name", ["backup", "pull"])
def test_every_example_in_it_can_be_used(tmp_path: Path, name: str) -> None:
    """By removing the "# " in front of its lines, as it says."""
    job = {**(_BACKUP if name == "backup" else _PULL), "database": "/srv/gym.db"}
    text = getattr(template, name)("job", job)
    used = re.sub(
        r"^( *)# ((?: *(?:kind|schedule|archive|to|owner|url): ?.*)|(?: *[\w-]+:))$",
        r"\1\2",
        text,
        flags=re.MULTILINE,
    )
    found = _read(used, tmp_path)
    assert found.notify is not None
    assert set(found.jobs) == {
        "job",
        *(("weekly-proof", "weekly-drill") if name == "backup" else ()),
    }


def test_every_key_of_the_job_has_a_comment_before_it() -> None:
    """But for the sections, whose keys it explains, and the kind."""
    for text in (template.backup("job", _BACKUP), template.pull("job", _PULL)):
        lines = text.splitlines()
        keys = [at for at, line in enumerate(lines) if re.match(r"    (?!kind)\w+:", line)]
        bare = [
            lines[at]
            for at in keys
            if not lines[at - 1].startswith("    #")
            and not re.match(r"    (remote_database|keep):", lines[at])
        ]
        assert bare == []


def test_a_job_as_one_line_is_read_as_it_was_meant() -> None:
    """It can be added to a configuration that there is already."""
    line = template.line("pull-from-pi", _PULL)
    assert "\n" not in line
    assert yaml.safe_load(f"jobs:\n  {line}\n") == {
        "jobs": {"pull-from-pi": {**_PULL, "replica": str(_ODD)}}
    }
