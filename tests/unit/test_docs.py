"""The README names what there is: verbs, keys of the configuration, exit codes."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any

import pytest

from gymdbd import commands
from gymdbd.config import config, kinds, notify, parts, secrets

_README = Path(__file__).parents[2] / "README.md"
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


def _readme() -> str:
    return _README.read_text(encoding="utf-8")


@pytest.mark.parametrize("verb", commands.VERBS)
def test_every_verb_stands_in_the_readme(verb: str) -> None:
    """A verb is shown as it is typed."""
    assert re.search(rf"gymdbd (-c \S+ )?{verb}\b|`{verb}\b", _readme())


@pytest.mark.parametrize("key", _KEYS)
def test_every_key_stands_in_the_readme(key: str) -> None:
    """A key of the configuration is named as code: in backticks, or with its colon."""
    assert re.search(rf"`{key}\b|\b{key}:|\.{key}`", _readme())


@pytest.mark.parametrize("code", [0, 1, 2, 3])
def test_every_exit_code_stands_in_the_readme(code: int) -> None:
    """The exit codes have a table, or a line, of their own each."""
    assert re.search(rf"^\|? *`?{code}`? *(\||[a-z])", _readme(), re.MULTILINE)
