"""The promises that hold whatever happens, checked after every fault; nothing of gymdbd is asked.

A `World` knows what there was before: which backups, and what each database may hold now. What it
finds broken it returns as sentences; no sentence is every promise kept.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import shutil
import sqlite3
import tempfile
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

_BACKUP = re.compile(r".+_backup_\d{8}_\d{6}(-\d+)?\.db", re.DOTALL)
_SIDES = ("-wal", "-journal")
_NOTHING = "nothing"


def content(path: Path) -> str:
    """Return a digest of what an application would read in a database, or what is wrong with it.

    It is read in a copy, with the WAL or the journal that lies beside it: looking changes nothing.
    """
    if not path.is_file():
        return _NOTHING
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "copy.db"
        shutil.copyfile(path, copy)
        for side in _SIDES:
            if (beside := path.with_name(path.name + side)).exists():
                shutil.copyfile(beside, copy.with_name(copy.name + side))
        try:
            with closing(sqlite3.connect(copy)) as connection:
                connection.text_factory = lambda data: data.decode("utf-8", "surrogateescape")
                problems = [str(row[0]) for row in connection.execute("PRAGMA integrity_check")]
                if problems != ["ok"]:
                    return f"damaged: {problems[0]}"
                rows = "\n".join(connection.iterdump())
        except sqlite3.Error as error:
            return f"damaged: {error}"
    return hashlib.sha256(rows.encode("utf-8", "surrogateescape")).hexdigest()[:16]


def digest(path: Path) -> str:
    """Return the SHA-256 of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


@dataclass
class World:
    """What must hold below `folder`.

    `backups` are the digests of the backups that there were, by path; `may_go` those of them that
    the run may prune. `databases` is what each live database or replica may hold, and so may any
    new backup. `untouched` are files that no byte of may change. `damaged` are the digests of a
    damaged database and its WAL, which are to be there, or else in the archive as they were.
    """

    folder: Path
    backups: dict[Path, str] = field(default_factory=dict)
    may_go: set[Path] = field(default_factory=set)
    databases: dict[Path, set[str]] = field(default_factory=dict)
    untouched: dict[Path, str] = field(default_factory=dict)
    damaged: dict[Path, list[str]] = field(default_factory=dict)

    @classmethod
    def of(cls, folder: Path, *databases: Path) -> World:
        """Take down what there is now: nothing may go, and every database holds what it holds."""
        world = cls(folder)
        world.backups = {path: digest(path) for path in _backups(folder)}
        world.databases = {path: {content(path)} for path in databases}
        return world

    def new_backups(self) -> list[Path]:
        """Return the backups that have come since."""
        return [path for path in _backups(self.folder) if path not in self.backups]

    def remember_damaged(self, path: Path) -> None:
        """Expect what is damaged to be found again, wherever."""
        self.damaged.setdefault(path, _as_they_are(path))

    def take_down(self) -> None:
        """Expect the backups that have come since as well."""
        self.backups = {path: digest(path) for path in _backups(self.folder)} | self.backups

    def broken(self) -> list[str]:
        """Return what is broken right after a fault."""
        return [
            *self.broken_while_at_work(),
            *(f"the lock {path} is held" for path in self.folder.rglob("*.lock") if _held(path)),
        ]

    def broken_while_at_work(self) -> list[str]:
        """Return what is broken while another run may be at work, so that locks may be held."""
        return [
            *self._lost(),
            *self._not_whole(),
            *(f"{path} is no whole JSON" for path in self.folder.rglob("*.json") if _torn(path)),
            *self._wrong_databases(),
            *(f"{path} was damaged, and is lost" for path in self.damaged if self._is_lost(path)),
            *(f"{path} was written" for path, was in self.untouched.items() if digest(path) != was),
        ]

    def looks(self) -> dict[str, str]:
        """Return what can be seen: the backups, and what the databases hold."""
        seen = {str(path): digest(path) for path in _backups(self.folder)}
        return seen | {str(path): content(path) for path in self.databases}

    def left_behind(self) -> list[str]:
        """Return what lies about that no run should have left for the next but one."""
        found = []
        for path in self.folder.rglob("*"):
            owner = re.sub(r"(-wal|-shm|-journal|\.json|\.marks\.json)$", "", path.name)
            orphan = _BACKUP.fullmatch(owner) and not path.with_name(owner).exists()
            if ".partial" in path.name or orphan or path.name.endswith(".drill"):
                found.append(f"{path} was left behind")
        return found

    def _lost(self) -> list[str]:
        found = []
        for path, was in self.backups.items():
            if path.exists():
                if digest(path) != was:
                    found.append(f"the backup {path} has changed")
            elif path not in self.may_go:
                found.append(f"the backup {path} is gone")
        return found

    def _is_lost(self, path: Path) -> bool:
        places = [path, *self.folder.rglob("*.damaged/*_damaged_*.db")]
        return self.damaged[path] not in map(_as_they_are, places)

    def _not_whole(self) -> list[str]:
        """Look whether every file with a backup's name is a good one, and told so beside it."""
        found = []
        for path in _backups(self.folder):
            if path not in self.databases:
                try:
                    found += self._faults_of(path)
                except FileNotFoundError:
                    continue  # It was pruned since the folder was listed.
        return found

    def _faults_of(self, path: Path) -> list[str]:
        """Return what is wrong with a backup; FileNotFoundError if it is gone by now."""
        found = []
        known = set().union(*self.databases.values())
        holds, told = content(path), _manifest(path)
        mode = path.stat().st_mode
        if holds.startswith("damaged"):
            found.append(f"{path} has a backup's name and is {holds}")
        elif told.get("sha256") != digest(path):
            found.append(f"{path} is not what its manifest says: {told or 'there is none'}")
        elif path not in self.backups and holds not in known:
            found.append(f"{path} holds what no database ever held")
        if mode & 0o077:
            found.append(f"{path} may be read by others")
        return found

    def _wrong_databases(self) -> list[str]:
        return [
            f"{path} holds {holds}, expected one of {sorted(allowed)}"
            for path, allowed in self.databases.items()
            if (holds := content(path)) not in allowed
        ]


def told_wrongly(answer: dict[str, Any], exit_code: int) -> list[str]:
    """Return what is wrong with how a run told its end: its JSON and its exit code."""
    if exit_code == 0:
        return [f"it exited with 0 and told {answer}"] if answer.get("error") else []
    found = []
    if exit_code not in (1, 2, 3):
        found.append(f"it exited with {exit_code}")
    if not answer.get("error") or not answer.get("hint"):
        found.append(f"it exited with {exit_code} and told no error with a hint: {answer}")
    if answer.get("code") == "unexpected":
        found.append(f"nobody foresaw it: {answer['error']}")
    return found


def logged_wrongly(exit_code: int, events: list[dict[str, Any]]) -> list[str]:
    """Return what is wrong with the log of a job's run: one error with a hint, or none."""
    errors = [one for one in events if one["level"] == "error"]
    whole = [one for one in errors if one.get("hint") and one.get("error") and one.get("run_id")]
    if len(errors) == len(whole) == (0 if exit_code == 0 else 1):
        return []
    return [f"it exited with {exit_code} and logged {errors}"]


def _as_they_are(path: Path) -> list[str]:
    files = (path, path.with_name(path.name + "-wal"))
    return [digest(file) if file.exists() else _NOTHING for file in files]


def _backups(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*.db") if _BACKUP.fullmatch(path.name))


def _manifest(path: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(path.with_name(path.name + ".json").read_bytes()))
    except (OSError, ValueError):
        return {}


def _torn(path: Path) -> bool:
    """Say whether a manifest, marks, a pull's state or the status file is not whole."""
    try:
        json.loads(path.read_bytes())
    except ValueError:
        return True
    return False


def _held(path: Path) -> bool:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False
