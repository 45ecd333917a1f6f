"""What a disk holds after a power cut: a run's writes are recorded and replayed into a model.

The model knows of every file what was written and what was flushed, and of every folder which
names were made and which were flushed. It is stricter than any journaling file system: nothing
is on the disk before its own fsync, and a name is not before that of its folder. What had not
been flushed may have got there all the same, in part: `Survivors` says which part.
"""

from __future__ import annotations

import dataclasses
import os
import re
import shutil
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tests.faults import tracing

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.faults.scenes import Operation, Scene

_CALLS = (
    *("openat", "close", "lseek", "read", "write", "pwrite64", "ftruncate", "fallocate"),
    *("fsync", "fdatasync", "rename", "unlink", "unlinkat", "link", "linkat", "mkdir", "rmdir"),
    *("copy_file_range", "ioctl"),
)
_CALL = re.compile(
    r"(?P<pid>\d+) +(?P<call>\w+)\((?P<arguments>.*?)"
    r"(?:\) += +(?P<answer>-?\d+).*|(?P<open> <unfinished \.\.\.>))$"
)
_RESUMED = re.compile(
    r"(?P<pid>\d+) +<\.\.\. (?P<call>\w+) resumed>"
    r"(?P<arguments>.*)\) += +(?P<answer>-?\d+).*$"
)
_FICLONE = ("FICLONE", "BTRFS_IOC_CLONE")

Write = tuple[int, bytes | None]  # Where and what; None cuts the file there.


@dataclass(frozen=True)
class Event:
    """One system call that succeeded: its name, its arguments and what it returned."""

    call: str
    arguments: list[str]
    answer: int

    def text(self, number: int) -> str:
        """Return an argument that is a path."""
        return os.fsdecode(self.data(number))

    def data(self, number: int) -> bytes:
        """Return an argument that is bytes."""
        return bytes.fromhex(self.arguments[number].strip('"').replace("\\x", ""))

    def number(self, number: int) -> int:
        """Return an argument that is a number."""
        return int(self.arguments[number], 0)


@dataclass(eq=False)
class File:
    """A file: what it holds flushed, and what was done to it since."""

    flushed: bytes = b""
    pending: list[Write] = field(default_factory=list)

    def holds(self, keep: Callable[[Write], bool] = lambda _: True) -> bytes:
        """Return what it holds where those of the pending writes have survived."""
        data = bytearray(self.flushed)
        for offset, written in filter(keep, self.pending):
            if written is None:
                del data[offset:]
                continue
            data.extend(bytes(max(0, offset - len(data))))
            data[offset : offset + len(written)] = written
        return bytes(data)

    def flush(self) -> None:
        """Put all of it on the disk."""
        self.flushed, self.pending = self.holds(), []


@dataclass(eq=False)
class Folder:
    """A folder: the names in it, and how they came about since they were flushed."""

    names: dict[str, File | Folder] = field(default_factory=dict)
    states: list[dict[str, File | Folder]] = field(default_factory=list)

    def changed(self) -> None:
        """Remember the names as they are now."""
        self.states.append(dict(self.names))

    def flush(self) -> None:
        """Put all names on the disk."""
        self.states = [dict(self.names)]


@dataclass(frozen=True)
class Survivors:
    """What of the unflushed is on the disk after a cut; `name` says it in words."""

    name: str
    write: Callable[[Write], bool]
    state: Callable[[int], int]


def survivors(chance: random.Random) -> list[Survivors]:
    """Return the ways in which a cut can end: nothing, names without content, and any part."""
    return [
        Survivors("nothing unflushed is left", lambda _: False, lambda _: 0),
        Survivors("names without their content", lambda _: False, lambda count: count - 1),
        Survivors("content without the names", lambda _: True, lambda _: 0),
        Survivors("any part", lambda _: chance.random() < 0.5, chance.randrange),
    ]


class Disk:
    """The model, below `place`; `apply` takes a recorded call."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.root = self._load(place)
        self._open: dict[int, list[File | Folder | int]] = {}

    def _load(self, place: Path) -> Folder:
        names: dict[str, File | Folder] = {}
        for path in place.iterdir():
            names[path.name] = self._load(path) if path.is_dir() else File(path.read_bytes())
        return Folder(names, [dict(names)])

    def _find(self, path: str) -> tuple[Folder, str] | None:
        """Return the folder that a path lies in and its name there; None outside of the place."""
        base = f"{self.place}/"
        if not path.startswith(base):
            return None
        folder = self.root
        *above, name = path[len(base) :].split("/")
        for one in above:
            found = folder.names.get(one)
            if not isinstance(found, Folder):
                return None
            folder = found
        return folder, name

    def apply(self, event: Event) -> bool:
        """Do to the model what the call did to the disk; say whether that changed anything."""
        handler = getattr(self, f"_{event.call}", None)
        return bool(handler and handler(event))

    def _openat(self, event: Event) -> bool:
        path, flags = event.text(1), event.arguments[2]
        self._open.pop(event.answer, None)
        found = self._find(path)
        if path == str(self.place):
            self._open[event.answer] = [self.root, 0]
        if found is None:
            return False
        folder, name = found
        new = name not in folder.names
        if new:
            folder.names[name] = File()
            folder.changed()
        node = folder.names[name]
        if isinstance(node, File) and "O_TRUNC" in flags and not new:
            node.pending.append((0, None))
            new = True
        self._open[event.answer] = [node, 0]
        return new

    def _file(self, descriptor: int) -> File | None:
        node = self._open.get(descriptor, [None])[0]
        return node if isinstance(node, File) else None

    def _close(self, event: Event) -> bool:
        self._open.pop(event.number(0), None)
        return False

    def _lseek(self, event: Event) -> bool:
        if event.number(0) in self._open:
            self._open[event.number(0)][1] = event.answer
        return False

    def _read(self, event: Event) -> bool:
        if event.number(0) in self._open:
            self._advance(event.number(0), event.answer)
        return False

    def _advance(self, descriptor: int, count: int) -> int:
        entry = self._open[descriptor]
        before = entry[1]
        assert isinstance(before, int)
        entry[1] = before + count
        return before

    def _write(self, event: Event) -> bool:
        file = self._file(event.number(0))
        if file is None:
            return False
        data = event.data(1)[: event.answer]
        file.pending.append((self._advance(event.number(0), event.answer), data))
        return True

    def _pwrite64(self, event: Event) -> bool:
        file = self._file(event.number(0))
        if file is not None:
            file.pending.append((event.number(3), event.data(1)[: event.answer]))
        return file is not None

    def _ftruncate(self, event: Event) -> bool:
        file = self._file(event.number(0))
        if file is not None:
            size = event.number(1)
            file.pending.append((size, None if len(file.holds()) > size else b""))
        return file is not None

    def _copy_file_range(self, event: Event) -> bool:
        source, target = self._file(event.number(0)), self._file(event.number(2))
        if source is None or target is None:
            return False
        start = self._advance(event.number(0), event.answer)
        data = source.holds()[start : start + event.answer]
        target.pending.append((self._advance(event.number(2), event.answer), data))
        return True

    def _ioctl(self, event: Event) -> bool:
        if not any(name in event.arguments[1] for name in _FICLONE):
            return False
        target, source = self._file(event.number(0)), self._file(event.number(2))
        assert target is not None
        assert source is not None
        target.pending.append((0, source.holds()))
        return True

    def _fsync(self, event: Event) -> bool:
        node = self._open.get(event.number(0), [None])[0]
        if isinstance(node, (File, Folder)):
            node.flush()
            return True
        return False

    _fdatasync = _fsync

    def _rename(self, event: Event) -> bool:
        old, new = self._find(event.text(0)), self._find(event.text(1))
        assert old is not None
        assert new is not None
        new[0].names[new[1]] = old[0].names.pop(old[1])
        new[0].changed()
        if old[0] is not new[0]:
            old[0].changed()
        return True

    def _remove(self, path: str) -> bool:
        found = self._find(path)
        if found is not None:
            del found[0].names[found[1]]
            found[0].changed()
        return found is not None

    def _unlink(self, event: Event) -> bool:
        return self._remove(event.text(0))

    _rmdir = _unlink

    def _unlinkat(self, event: Event) -> bool:
        folder = event.arguments[0]
        if folder == "AT_FDCWD":
            return self._remove(event.text(1))
        node = self._open.get(int(folder), [None])[0]
        if not isinstance(node, Folder):
            return False
        del node.names[event.text(1)]
        node.changed()
        return True

    def _link(self, event: Event) -> bool:
        old, new = self._find(event.text(0)), self._find(event.text(1))
        assert old is not None
        assert new is not None
        new[0].names[new[1]] = old[0].names[old[1]]
        new[0].changed()
        return True

    def _linkat(self, event: Event) -> bool:
        moved = dataclasses.replace(event, arguments=[event.arguments[1], event.arguments[3]])
        return self._link(moved)

    def _mkdir(self, event: Event) -> bool:
        found = self._find(event.text(0))
        if found is not None:
            found[0].names[found[1]] = Folder({}, [{}])
            found[0].changed()
        return found is not None

    def write_out(self, survivors: Survivors) -> None:
        """Replace what lies at the place by what a machine finds there after the cut."""
        shutil.rmtree(self.place)
        self._write_folder(self.root, self.place, survivors, {})

    def _write_folder(
        self, folder: Folder, place: Path, survivors: Survivors, done: dict[File, Path]
    ) -> None:
        place.mkdir(mode=0o700)
        for name, node in folder.states[survivors.state(len(folder.states))].items():
            path = place / name
            if isinstance(node, Folder):
                self._write_folder(node, path, survivors, done)
            elif node in done:
                path.hardlink_to(done[node])
            elif not name.endswith("-shm"):  # Memory: nobody reads it after a reboot.
                path.write_bytes(node.holds(survivors.write))
                path.chmod(0o600)
                done[node] = path


def record(operation: Operation, scene: Scene, log: Path) -> list[Event]:
    """Run the operation and return the calls that succeeded, in their order."""
    options = ("-xx", "-s", "100000000", "-e", f"trace={','.join(_CALLS)}", "-o", str(log))
    with tracing.tracing(*options) as tracer:
        done = scene.run(*operation.arguments(scene), traced=tracer)
    assert done.exit_code == 0, done
    return list(_events(log))


def _events(log: Path) -> Iterator[Event]:
    begun: dict[tuple[str, str], str] = {}
    with log.open() as file:
        for line in file:
            if match := _CALL.match(line.rstrip("\n")):
                if match["open"]:
                    begun[match["pid"], match["call"]] = match["arguments"]
                    continue
                arguments = match["arguments"]
            elif match := _RESUMED.match(line.rstrip("\n")):
                arguments = begun.pop((match["pid"], match["call"])) + match["arguments"]
            else:
                continue
            if int(match["answer"]) >= 0:
                yield Event(match["call"], arguments.split(", "), int(match["answer"]))


def replay(events: list[Event], disk: Disk) -> Iterator[Event]:
    """Apply one call after another, and stop at each that changed what would be found."""
    for event in events:
        if disk.apply(event):
            yield event
