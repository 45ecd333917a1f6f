"""The configuration file: finding it, and its content as frozen dataclasses.

The keys of the jobs are in `gymdbd.config.kinds`; `config.example.yaml` documents all of them.
"""

from __future__ import annotations

import contextlib
import os
import sys
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from gymdbd import files, trust
from gymdbd.config import state, values
from gymdbd.config.document import MOST_CHARACTERS, Document, join, key, path, scalar, section
from gymdbd.config.kinds import KINDS, JobConfig
from gymdbd.config.notify import NotifyConfig
from gymdbd.config.parts import MachineConfig, MetricsConfig, ReportConfig
from gymdbd.config.scalars import DURATION, NUMBER, SIZE
from gymdbd.config.unit import PLACES
from gymdbd.errors import ConfigError
from gymdbd.words import did_you_mean

if TYPE_CHECKING:
    import yaml

# What the unit of systemd reads.
OF_THE_MACHINE = Path(PLACES[1])
_OTHERS = 0o077


@dataclass(frozen=True, kw_only=True)
class LogConfig:
    """The log: its level, its format and its file."""

    level: str = key(scalar(values.one_of("debug", "info", "warning", "error"), "str"), "info")
    format: str = key(scalar(values.one_of("auto", "journald", "console", "json"), "str"), "auto")
    file: Path | None = key(path, None)
    max_size: int = key(SIZE, 10 * 1024**2)
    keep_files: int = key(NUMBER, 5)


def _read_jobs(document: Document, node: yaml.Node, keypath: str) -> dict[str, JobConfig]:
    """Read the jobs, each into the class of its kind."""
    jobs = {}
    entries = document.entries(node, keypath)
    if not entries:
        raise ValueError("expected at least one job")
    for name, (name_node, job_node) in entries.items():
        try:
            job = _read_job(document, job_node, values.job_name(name), join(keypath, name))
        except ValueError as error:
            document.fault(name_node, join(keypath, name), str(error))
        else:
            jobs.update({name: job} if job else {})
    return jobs


def _read_job(document: Document, node: yaml.Node, name: str, keypath: str) -> JobConfig | None:
    kinds = ", ".join(KINDS)
    entries = document.entries(node, keypath)
    if "kind" not in entries:
        raise ValueError(f"kind is missing (expected one of {kinds})")
    kind = entries["kind"][1].value
    if not isinstance(kind, str) or kind not in KINDS:
        meant = did_you_mean(str(kind), KINDS)
        raise ValueError(f"unknown kind {kind}{meant} (expected one of {kinds})")
    return document.section(node, KINDS[kind], keypath, name=name)


@dataclass(frozen=True, kw_only=True)
class Config:
    """The whole configuration, read from the file `source` with the text `text`."""

    source: Path
    text: str = field(repr=False)
    status_file: Path = key(path, absent=state.status_file)
    stop_timeout: timedelta = key(DURATION, timedelta(seconds=60))
    log: LogConfig = key(section(LogConfig), LogConfig())
    notify: NotifyConfig | None = key(section(NotifyConfig), None)
    metrics: MetricsConfig | None = key(section(MetricsConfig), None)
    report: ReportConfig | None = key(section(ReportConfig), None)
    machine: MachineConfig = key(section(MachineConfig), MachineConfig())
    jobs: dict[str, JobConfig] = key(_read_jobs)

    def job(self, name: str) -> JobConfig:
        """Return the job called `name`; ConfigError with the closest name if there is none."""
        if name in self.jobs:
            return self.jobs[name]
        raise ConfigError(
            f'{self.source} has no job "{name}"{did_you_mean(name, self.jobs)}',
            hint=f"its jobs are: {', '.join(self.jobs)}",
        )


def found(explicit: Path | None) -> Path | None:
    """Return the configuration file: `explicit`, or the first in the usual places; None if none."""
    if explicit is not None:
        return explicit
    if os.environ.get("GYMDBD_CONFIG"):
        return Path(os.environ["GYMDBD_CONFIG"])
    for place in PLACES:
        # There may be no home folder.
        with contextlib.suppress(RuntimeError):
            candidate = Path(place).expanduser()
            if files.is_file(candidate):
                return candidate
    return None


def find(explicit: Path | None, *, instead: str = "") -> Path:
    """Return the configuration file as `found` does; ConfigError if there is none.

    `instead` is a command line that needs no configuration.
    """
    if there := found(explicit):
        return there
    instead = f"; or use no configuration: {instead}" if instead else ""
    if files.is_file(Path("config.yaml")):
        instead = "; for the one in the current folder, -c ./config.yaml" + instead
    own = _of_sudo()
    yours = f"{own} is yours: type this without sudo, or with -c {own}; or " if own else ""
    closed = [place for place in PLACES if _is_closed(place)]
    unseen = f"; this user may not look for {', '.join(closed)}" if closed else ""
    raise ConfigError(
        f"there is no configuration: looked for $GYMDBD_CONFIG, {', '.join(PLACES)}{unseen}",
        hint=f"{yours}gymdbd init writes one; or name yours with -c FILE{instead}",
    )


def _of_sudo() -> Path | None:
    """Return the configuration of the user who typed sudo; None if there is none."""
    user = os.environ.get("SUDO_USER") if os.geteuid() == 0 else None
    # There may be no such user.
    with contextlib.suppress(RuntimeError):
        own = Path(PLACES[0].replace("~", f"~{user}", 1)).expanduser() if user else None
        return own if own and files.is_file(own) else None
    return None


def place_for_new() -> Path:
    """Return where a new configuration is found: this user's place, or for root the machine's."""
    is_root = os.geteuid() == 0
    if is_root and sys.platform == "darwin":
        raise ConfigError(
            "on a Mac gymdbd runs as a user, with the configuration of that user",
            hint="type this without sudo, or name a file with -c FILE",
        )
    if is_root:
        return OF_THE_MACHINE
    try:
        return Path(PLACES[0]).expanduser()
    except RuntimeError as error:
        raise ConfigError(
            "this user has no home folder for a configuration", hint="name a file with -c FILE"
        ) from error


def create(source: Path, text: str) -> None:
    """Write a new configuration, whole or not at all; ConfigError if there is anything already.

    The machine's is for everybody to read, because the service does not run as root.
    """
    mode, folder_mode = files.FILE_MODE, files.FOLDER_MODE
    if source == OF_THE_MACHINE:
        mode, folder_mode = files.PUBLIC_MODE, 0o755
    is_new = not files.is_there(source.parent)
    files.make_folder(source.parent)
    with files.writing(source):
        if is_new:
            source.parent.chmod(folder_mode)
    if not files.write_new(source, text.encode(), mode=mode):
        raise ConfigError(
            f"there is a {source} already, which stays as it is", hint="look at it, or remove it"
        )


def _is_closed(place: str) -> bool:
    """Return whether a place of the configuration is in a folder that this user may not enter."""
    try:
        Path(place).expanduser().stat()
    except PermissionError:
        return True
    except (OSError, RuntimeError):
        return False
    return False


def load(source: Path) -> Config:
    """Read and check the configuration at `source`; ConfigError lists all errors.

    One that others than this user and root could have written is refused.
    """
    try:
        with source.open(encoding="utf-8") as file:
            doubt = trust.doubt_of(file.fileno(), source)
            is_exposed = bool(os.fstat(file.fileno()).st_mode & _OTHERS)
            text = "" if doubt else file.read(MOST_CHARACTERS + 1)
    except OSError as error:
        hint = "check the path given with -c or in $GYMDBD_CONFIG"
        if isinstance(error, PermissionError):
            hint = f"let this user (uid {os.geteuid()}) read it, or use sudo -u NAME"
        raise ConfigError(
            f"cannot read the configuration {source} ({error.strerror})", hint=hint
        ) from error
    except UnicodeDecodeError as error:
        raise ConfigError(
            f"{source} is not UTF-8 text (byte {error.start})", hint="save it as UTF-8"
        ) from error
    if doubt:
        raise ConfigError(
            f"the configuration {source} is not used, because others could have written it: "
            f"{doubt.reason}",
            hint=f"{doubt.remedy}; or keep it where only you or root may write (/etc/gymdbd)",
        )
    return parse(text, source, is_exposed=is_exposed)


def parse(text: str, source: Path, *, is_exposed: bool = False) -> Config:
    """Parse and check the configuration in `text`; `source` is the path of its file.

    If it `is_exposed` to other users, no secret may stand in it. A text that `load` has accepted is
    accepted again, so that no run fails because the mode of the file was changed meanwhile.
    """
    document = Document(text, source, is_exposed=is_exposed)
    return document.read(Config, source=source, text=text)
