"""The unit file as systemd itself judges it, and the installer as far as a dry run goes."""

from __future__ import annotations

import configparser
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from gymdbd.config import config, values
from gymdbd.config.config import Config
from gymdbd.config.kinds import BackupConfig
from gymdbd.daemon import loop
from tests.support.databases import make_database

_ROOT = Path(__file__).parents[2]
_FOLDER = _ROOT / "deploy" / "systemd"
_UNIT = _FOLDER / "gymdbd.service"
_INSTALL = _ROOT / "deploy" / "install.sh"
_DROP_INS = sorted((_FOLDER / "gymdbd.service.d").glob("*.conf.example"))

pytestmark = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed"
)


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """Return the unit with every drop-in applied, as the example files say to install them."""
    unit = tmp_path / "gymdbd.service"
    shutil.copy(_UNIT, unit)
    folder = tmp_path / "gymdbd.service.d"
    folder.mkdir()
    for drop_in in _DROP_INS:
        shutil.copy(drop_in, folder / drop_in.name.removesuffix(".example"))
    return unit


def _analyze(*words: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["systemd-analyze", "--no-pager", *words],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def _setting(name: str) -> str:
    # A key that occurs twice, such as SystemCallFilter=, is none of those asked for here.
    parser = configparser.ConfigParser(strict=False, interpolation=None)
    parser.read(_UNIT)
    return parser["Service"][name]


def test_the_unit_exposes_little() -> None:
    """By the score of systemd the unit, as shipped, has an exposure of 2.0 or less."""
    answer = _analyze("security", "--offline=true", _UNIT)
    level = re.search(r"Overall exposure level for gymdbd\.service: ([\d.]+)", answer.stdout)
    assert level is not None, answer.stdout + answer.stderr
    assert float(level[1]) <= 2.0


def test_systemd_finds_no_fault_in_the_unit(installed: Path) -> None:
    """Nothing is wrong with unit and drop-ins but that gymdbd is not installed in /opt here."""
    answer = _analyze("verify", "--man=no", installed)
    complaints = [line for line in answer.stderr.splitlines() if installed.name in line]
    missing = "Command /opt/gymdbd/bin/gymdbd is not executable: No such file or directory"
    assert [line for line in complaints if missing not in line] == []


def test_every_drop_in_is_tried() -> None:
    """The examples that the deploy README names are there."""
    names = {"paths.conf.example", "network.conf.example"}
    assert {path.name for path in _DROP_INS} == names


def test_the_watchdog_waits_for_longer_than_the_scheduler_may_be_silent() -> None:
    """No daemon is ended whose own limit of silence has not passed yet."""
    limit_s = values.duration(_setting("WatchdogSec")).total_seconds()
    assert limit_s > loop._SILENT_S + limit_s / 3  # noqa: SLF001 - the unit is made to fit it


def test_a_stop_waits_for_longer_than_stop_timeout() -> None:
    """The daemon ends its runs itself, by the default stop_timeout, before systemd would."""
    assert values.duration(_setting("TimeoutStopSec")) > Config.stop_timeout


def test_the_configuration_that_the_installer_writes_is_a_good_one(tmp_path: Path) -> None:
    """Quotes, percent signs and blanks in the database's path are as they were."""
    database = make_database(tmp_path / 'it\'s 100% "gym".db')
    archive = tmp_path / "archive"
    archive.mkdir()
    done = subprocess.run(
        [_INSTALL, "--dry-run", "--database", database, "--archive", archive],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    text = done.stdout.partition("config.yaml:\n")[2].partition("would run:")[0]
    text = text.replace("/var/lib/gymdbd", str(tmp_path))
    (job,) = config.parse(text, tmp_path / "config.yaml").jobs.values()
    assert isinstance(job, BackupConfig)
    assert (job.database, job.archive) == (database, archive)
    assert f'ReadWritePaths="-{tmp_path}"' in done.stdout


def test_an_unknown_argument_installs_nothing() -> None:
    """A misspelt flag is refused, with the exit code of wrong usage."""
    done = subprocess.run(
        [_INSTALL, "--dryrun"], capture_output=True, text=True, check=False, timeout=60
    )
    assert (done.returncode, "--dryrun" in done.stderr) == (2, True)
