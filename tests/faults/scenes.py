"""The operations that are swept, each with a scene that it begins in and can begin in again."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import shutil
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from gymdbd.archive import sealed
from gymdbd.jobs.restore import record
from tests.faults.promises import World, content
from tests.support.databases import make_database
from tests.support.jobs import write_config
from tests.support.pulling import Peer, crash_after

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.support.sshd import SshServer
    from tests.support.zygote import Finished, Zygote

_ROWS = 120


@dataclass
class Scene:
    """A folder with a live database, an archive of three backups of it, a log and a status.

    `saved` holds all of it as it was; `reset` puts that back. Every file of a reset is a new one.
    """

    place: Path
    zygote: Zygote
    world: World = field(init=False)

    def __post_init__(self) -> None:
        """Know of nothing yet."""
        self.world = World(self.place)

    @property
    def database(self) -> Path:
        """Return the live database."""
        return self.place / "gym.db"

    @property
    def archive(self) -> Path:
        """Return the archive."""
        return self.place / "archive"

    @property
    def replica(self) -> Path:
        """Return where a pull keeps its replica."""
        return self.place / "here" / "replica.db"

    @property
    def spare(self) -> Path:
        """Return where a pull keeps the replica before."""
        return self.replica.with_name(f".{self.replica.name}.spare")

    @property
    def state(self) -> Path:
        """Return where a pull notes what it knows of the replica."""
        return self.replica.with_name(f".{self.replica.name}.pull.json")

    @property
    def remote(self) -> Path:
        """Return the database that is pulled; no reset touches it, so that it is the same file."""
        return self.place.with_name("there.db")

    @property
    def config(self) -> Path:
        """Return the configuration."""
        return self.place / "config.yaml"

    @property
    def saved(self) -> Path:
        """Return where the beginning is kept."""
        return self.place.with_name(self.place.name + ".saved")

    def run(self, *arguments: object, **options: Any) -> Finished:
        """Run the command line with this scene's configuration."""
        return self.zygote.run("-c", self.config, *arguments, "--json", **options)

    def good(self, *arguments: object) -> dict[str, Any]:
        """Run the command line, which must succeed, and return its answer."""
        done = self.run(*arguments)
        assert done.exit_code == 0, (arguments, done)
        return done.answer

    def events(self) -> list[dict[str, Any]]:
        """Return what stands in the log."""
        path = self.place / "log" / "gymdbd.jsonl"
        lines = path.read_text().splitlines() if path.exists() else []
        found = []
        for line in lines:
            # A power cut may have left half a line.
            with contextlib.suppress(ValueError):
                found.append(json.loads(line))
        return found

    def status(self, job: str) -> dict[str, Any]:
        """Return a job's entry in the status file."""
        path = self.place / "status.json"
        told = json.loads(path.read_bytes()) if path.exists() else {"jobs": {}}
        return dict(told["jobs"].get(job, {}))

    def save(self) -> None:
        """Keep all as it is now for `reset`."""
        shutil.rmtree(self.saved, ignore_errors=True)
        shutil.copytree(self.place, self.saved, symlinks=True)

    def reset(self) -> None:
        """Begin again."""
        shutil.rmtree(self.place)
        shutil.copytree(self.saved, self.place, symlinks=True)
        self.recognise(lambda _: True)

    def recognise(self, is_known: Callable[[dict[str, Any]], bool]) -> None:
        """Make these the files that the last pull and restore knew: copies are other files.

        The replica only where `is_known` says of the state, which it is given, that it is.
        """
        last = record.read(self.database)
        if last and last.file:
            known = dataclasses.replace(last, file=str(self.database.stat().st_ino))
            sealed.write(record.record_path(self.database), dataclasses.asdict(known))
        if not self.state.exists() or not self.replica.exists():
            return
        known = json.loads(self.state.read_bytes())
        if is_known(known):
            known["identity"] = _identity(self.replica)
        if known["spare"] and self.spare.exists():
            known["spare"]["identity"] = _identity(self.spare)
        self.state.write_text(json.dumps(known))


def _identity(path: Path) -> list[int]:
    facts = path.stat()
    return [facts.st_ino, facts.st_size, facts.st_mtime_ns]


def write_rows(path: Path, rows: int) -> None:
    """Commit rows from a process that ends without closing: they stay in the WAL."""
    texts = [f"INSERT INTO t (text) VALUES ('{f'later {number}' * 9}')" for number in range(rows)]
    crash_after(path, "PRAGMA wal_autocheckpoint=0", *texts)


@dataclass(frozen=True)
class Operation:
    """Something that gymdbd does, and that is to survive every fault.

    `arguments` are those of the command line; `prepare` makes of the common scene what it begins
    with, `allow` tells the world what it may change, as things are now. `job` is its job in the
    status file, "" where it is none of the configuration.
    """

    name: str
    arguments: Callable[[Scene], list[object]]
    prepare: Callable[[Scene], None] = lambda scene: None  # noqa: ARG005
    allow: Callable[[Scene], None] = lambda scene: None  # noqa: ARG005
    job: str = ""

    def __str__(self) -> str:
        """Return its name, which is the test's."""
        return self.name


def build(place: Path, zygote: Zygote, server: SshServer) -> Scene:
    """Make the scene that all operations begin in."""
    for folder in (place, place / "archive", place / "here", place / "log"):
        folder.mkdir(mode=0o700)
    scene = Scene(place, zygote)
    make_database(scene.database, rows=_ROWS)
    make_database(scene.remote, rows=_ROWS)
    nightly = {
        "every": "1d",
        "database": str(scene.database),
        "archive": str(scene.archive),
        "keep": {"count": 2},
        "busy_timeout": "1s",
        "retry": {"attempts": 1},
    }
    peer = Peer(server, scene.remote, scene.replica)
    # Long, so that a busy machine does not decide a test.
    ssh = {"stall_timeout": "60s", "connect_timeout": "60s"}
    pulls = {
        "pull": peer.entry(ssh=ssh, replica_wait="1s", keep={"count": 2}),
        "bare": peer.entry(ssh=ssh, replica_wait="1s", backup_before=False),
        "copy": peer.entry(ssh=ssh, replica_wait="1s", keep={"count": 2}, method="scp"),
    }
    log = {"format": "json", "file": str(place / "log" / "gymdbd.jsonl")}
    write_config(place, {"nightly": nightly, **pulls}, log=log)
    for _ in range(3):
        scene.good("backup", "--database", scene.database, "--archive", scene.archive)
        write_rows(scene.database, 1)
    write_rows(scene.database, 5)
    return scene


def begin(operation: Operation, scene: Scene) -> None:
    """Make the operation's own beginning, and keep it."""
    operation.prepare(scene)
    scene.save()


def again(operation: Operation, scene: Scene) -> None:
    """Put the operation's beginning back; the world is what there is then."""
    scene.reset()
    scene.world = World.of(scene.place, scene.database, scene.replica)
    operation.allow(scene)


def by_age(scene: Scene) -> list[Path]:
    """Return the backups of the live database, oldest first: of one second, by their number."""
    return sorted(
        scene.archive.glob("*_backup_*.db"),
        key=lambda path: (
            path.stem[: len("gym_backup_20261123_030000")],
            len(path.stem),
            path.stem,
        ),
    )


def _may_prune(scene: Scene) -> None:
    """Let all but the newest of those that are there go: another one follows, or it is kept."""
    scene.world.may_go |= set(by_age(scene)[:-1])


def _may_restore(scene: Scene) -> None:
    scene.world.databases[scene.database].add(content(_third(scene)))


def _restore_to_undo(scene: Scene) -> None:
    """Restore, and let the application write on."""
    scene.good("restore", _third(scene))
    write_rows(scene.database, 2)


def _undo(scene: Scene) -> list[object]:
    del scene
    return ["undo", "nightly"]


def _may_undo(scene: Scene) -> None:
    """Let it be what the restore of the beginning has overwritten, which follows the third."""
    scene.world.databases[scene.database].add(content(by_age(scene)[3]))


def _may_restore_elsewhere(scene: Scene) -> None:
    new = scene.place / "here" / "new.db"
    scene.world.databases[new] = {content(new), content(_third(scene))}


def _damage(scene: Scene) -> None:
    """Overwrite the pages of the live database; its WAL stays as it is."""
    with scene.database.open("r+b") as file:
        file.seek(100)
        file.write(b"\xff" * (scene.database.stat().st_size - 100))


def _may_replace_damaged(scene: Scene) -> None:
    """Let it be without its WAL for a moment, once what is damaged is in the archive."""
    _may_restore(scene)
    alone = scene.place.with_name("alone.db")
    shutil.copyfile(scene.database, alone)
    scene.world.databases[scene.database].add(content(alone))
    scene.world.remember_damaged(scene.database)


def may_pull(scene: Scene) -> None:
    """Let the replica become what the other side holds, and let saved ones be pruned."""
    scene.world.databases[scene.replica].add(content(scene.remote))
    saved = sorted((scene.place / "here" / "backups").glob("*_backup_*.db"))
    scene.world.may_go |= set(saved)


def prepare_pull(job: str) -> Callable[[Scene], None]:
    """Return what pulls once and saves once, and then lets the other side change."""

    def prepare(scene: Scene) -> None:
        for _ in range(2):
            scene.good("pull", job)
            write_rows(scene.remote, 5)

    return prepare


def _third(scene: Scene) -> Path:
    """Return the newest of the three backups of the beginning; where it was pruned the newest."""
    return by_age(scene)[:3][-1]


def _backup(scene: Scene) -> list[object]:
    del scene
    return ["backup", "nightly"]


LOCAL = (
    Operation("backup", _backup, allow=_may_prune, job="nightly"),
    Operation(
        "backup-raw",
        lambda scene: [*_backup(scene), "--raw"],
        allow=_may_prune,
        job="nightly",
    ),
    Operation(
        "backup-first",
        lambda scene: ["backup", "--database", scene.database, "--archive", scene.place / "new"],
    ),
    Operation(
        "prune",
        lambda scene: ["prune", "--archive", scene.archive, "--keep-count", 1],
        allow=_may_prune,
    ),
    Operation("restore", lambda scene: ["restore", _third(scene)], allow=_may_restore),
    Operation(
        "restore-replace",
        lambda scene: ["restore", _third(scene), "--replace"],
        allow=_may_restore,
    ),
    Operation(
        "restore-to",
        lambda scene: ["restore", _third(scene), "--to", scene.place / "here" / "new.db"],
        allow=_may_restore_elsewhere,
    ),
    Operation("undo", _undo, prepare=_restore_to_undo, allow=_may_undo),
    Operation("drill", lambda scene: ["drill", "--archive", scene.archive]),
    Operation("verify", lambda scene: ["verify", "--all", "--archive", scene.archive]),
    Operation("keep", lambda scene: ["keep", _third(scene), "--archive", scene.archive]),
)

# What it overwrites is no backup, and lies in the archive as it is.
DAMAGED = Operation(
    "restore-damaged",
    lambda scene: ["restore", _third(scene), "--replace"],
    prepare=_damage,
    allow=_may_replace_damaged,
)


def _pull(name: str, job: str, prepare: Callable[[Scene], None] | None = None) -> Operation:
    return Operation(
        name,
        lambda scene: ["pull", job],  # noqa: ARG005
        prepare=prepare or prepare_pull(job),
        allow=may_pull,
        job=job,
    )


REMOTE = (
    _pull("pull-first", "pull", lambda scene: None),  # noqa: ARG005
    _pull("pull", "pull"),
    # Where blocks cannot be shared, it begins with the file that the pull before it replaced.
    _pull("pull-bare", "bare"),
    _pull("pull-copy", "copy"),
)
