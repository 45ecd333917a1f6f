"""The link and the other machine: cut, stalled, corrupted, refused, and lying."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import socket
import sqlite3
import sys
import threading
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest

from tests.faults import hostile, scenes, sweeps, table
from tests.faults.promises import content
from tests.faults.scenes import Operation, Scene
from tests.support import samples
from tests.support.command import ROOT
from tests.support.databases import make_database, sqlite_elsewhere
from tests.support.disks import may_mount, mounted
from tests.support.relay import Relay
from tests.support.sshd import SFTP_SERVER, SshServer, free_port, make_key

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

_BLOB_BYTES = 200_000
_STRATA = samples.count(3, of=6)
_MOST_RSS_KIB = 300 * 1024
# For a peer that may say nothing more.
_IMPATIENT: dict[str, Any] = {"stall_timeout": "5s"}


def _with_a_blob(scene: Scene) -> None:
    """Pull once, and let the other side get rows that do not compress."""
    scenes.prepare_pull("pull")(scene)
    with closing(sqlite3.connect(scene.remote)) as connection:
        for _ in range(10):
            connection.execute(
                "INSERT INTO t (text) VALUES (?)", (os.urandom(_BLOB_BYTES // 20).hex(),)
            )
        connection.commit()


_PULL = Operation(
    "pull-over-a-bad-link",
    lambda scene: ["pull", "pull"],  # noqa: ARG005
    prepare=_with_a_blob,
    allow=scenes.may_pull,
    job="pull",
)


def _checkpointed(scene: Scene) -> None:
    """Begin with a replica whose changes only digests can tell."""
    _with_a_blob(scene)
    with closing(sqlite3.connect(scene.remote)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        connection.execute("UPDATE t SET text = id WHERE id = 7")
        connection.commit()


_PULLS = (
    _PULL,
    dataclasses.replace(_PULL, name="pull-by-digest", prepare=_checkpointed),
    dataclasses.replace(_PULL, name="pull-of-all", prepare=lambda scene: None),  # noqa: ARG005
)
_COPY = next(one for one in scenes.REMOTE if one.name == "pull-copy")
_LYING_SFTP = table.row(
    "a hostile SFTP server",
    "a program between sshd and sftp-server that flips any byte but those of the files",
    "a named error or none that matters; the old replica or a whole new one",
)
_CUT = table.row(
    "the link cut after every k-th KB",
    "a relay on loopback",
    "the old replica stays, a named error; the next pull succeeds",
)
_RESET = table.row("the link reset after every k-th KB", "the same, with SO_LINGER", "as cut")
_STALLED = table.row(
    "the link stalls at every k-th KB", "the same", "given up in time, then as cut"
)
_TRICKLING = table.row(
    "one byte a second from every k-th KB on", "the same", "given up in time, then as cut"
)
_FLIPPED = table.row(
    "bits flipped in flight",
    "the same, at any byte of either direction",
    "SSH notices, then as cut; or not one byte of it matters",
)
_REFUSED = table.row(
    "the other machine refuses",
    "port closed, silence, garbage, another or no known host key, key refused, no python3 or one "
    "too old, a .bashrc that prints",
    "an error of its own each",
)
_FULL = table.row(
    "the disk full on the other side",
    "a file system without a free byte, with or without an index of the WAL",
    "pulled all the same, or a named error; the next pull succeeds",
)
_KILLED = table.row(
    "the serving side killed after every k-th KB",
    "a program between sshd and it",
    "the old replica stays, a named error; the next pull succeeds",
)
_LYING = table.row(
    "a hostile serving side",
    "a program that changes any byte, or frames: " + ", ".join(hostile.FRAME_MODES),
    "refused by name in bounded memory, or the replica equals the source all the same",
)


@contextlib.contextmanager
def _configured(
    scene: Scene, job: str = "pull", remote_database: str = "", **ssh: Any
) -> Iterator[None]:
    """Let the pull reach the host in another way, or another database there."""
    before = scene.config.read_text()
    settings = json.loads(before)
    settings["jobs"][job]["ssh"].update(ssh)
    if remote_database:
        settings["jobs"][job]["remote_database"] = remote_database
    scene.config.write_text(json.dumps(settings))
    try:
        yield
    finally:
        scene.config.write_text(before)


def _pull(scene: Scene, operation: Operation = _PULL, **ways: Any) -> tuple[str, list[str]]:
    """Pull over a link of that kind and then over a good one."""
    with _configured(scene, operation.job, **ways):
        seen = len(scene.events())
        done = scene.run(*operation.arguments(scene))
    found = sweeps.expect_whole(operation, scene, done, seen=seen)
    if done.max_rss_kib > _MOST_RSS_KIB:
        found.append(f"it took {done.max_rss_kib} KiB of memory")
    outcome = str(done.answer.get("code")) if done.exit_code else "ok all the same"
    return outcome, found + sweeps.expect_next_run(operation, scene)


def _through(scene: Scene, server: SshServer, **faults: int) -> tuple[str, list[str]]:
    """Pull through a relay that does so."""
    with Relay(server.port, **faults) as relay:
        return _pull(
            scene,
            port=relay.port,
            host_key_alias=f"[127.0.0.1]:{server.port}",
            stall_timeout="2s",
            connect_timeout="2s",
            auth_timeout="2s",
        )


# Of the handshake and the login many, since each byte of them means something else.
_BEGINNING = range(0, 6000, 29)
_KILOBYTES = range(0, 130_000, 1024)
_LINKS = {
    "cut_after": (_CUT, _KILOBYTES),
    "reset_after": (_RESET, _KILOBYTES),
    "stall_after": (_STALLED, _KILOBYTES[::8]),
    "trickle_after": (_TRICKLING, _KILOBYTES[::8]),
    "flip_at": (_FLIPPED, [*_BEGINNING, *_KILOBYTES[::2]]),
    "flip_sent_at": (_FLIPPED, _BEGINNING),
}


@pytest.mark.parametrize("part", range(_STRATA))
@pytest.mark.parametrize("fault", _LINKS)
def test_a_link_that_fails_anywhere_leaves_the_old_replica(
    fault: str, part: int, stage: Callable[[Operation], Scene], sshd: SshServer
) -> None:
    """The next pull over a good link succeeds, and the replica is whole all the while."""
    row, every = _LINKS[fault]
    problems = {}
    for offset in samples.sample(every[part::_STRATA], f"{fault} {part}"):
        outcome = _through(stage(_PULL), sshd, **{fault: offset})
        if found := row.tried(*outcome):
            problems[f"{fault} {offset}"] = found
    table.expect_none(problems)


def _lying_python(folder: Path, mode: str, number: int) -> str:
    script = folder / "python"
    script.write_text(
        f"#!/bin/sh\nexec {sys.executable} {ROOT}/tests/faults/hostile.py "
        f'{folder / "lied"} {mode} {number} {sys.executable} "$@"\n'
    )
    (folder / "lied").unlink(missing_ok=True)
    script.chmod(0o700)
    return str(script)


@pytest.mark.parametrize("part", range(_STRATA))
@pytest.mark.parametrize(("row", "mode"), [(_KILLED, "cut"), (_LYING, "flip")], ids=["cut", "flip"])
def test_a_serving_side_that_says_something_else_at_any_byte_breaks_no_promise(
    row: table.Row,
    mode: str,
    part: int,
    stage: Callable[[Operation], Scene],
    tmp_path: Path,
) -> None:
    """It is refused by name, or the replica is what the other side really holds."""
    every = [*range(0, 200, 3), *range(200, 100_000, 1024)][part::_STRATA]
    problems = {}
    for offset in samples.sample(every, f"{mode} {part}"):
        python = _lying_python(tmp_path, mode, offset)
        if found := row.tried(*_pull(stage(_PULL), python=python, **_IMPATIENT)):
            problems[f"{mode} at {offset}"] = found
    table.expect_none(problems)


@pytest.mark.parametrize("mode", hostile.FRAME_MODES)
def test_a_serving_side_that_lies_is_refused(
    mode: str, stage: Callable[[Operation], Scene], tmp_path: Path
) -> None:
    """In every frame of its answers, with every lie, whatever the way of the pull."""
    every = [(pull, number) for number in range(samples.count(3, of=6)) for pull in _PULLS]
    problems = {}
    for operation, number in samples.sample(every, f"lie {mode}"):
        python = _lying_python(tmp_path, mode, number)
        outcome, found = _pull(stage(operation), python=python, **_IMPATIENT)
        if not (tmp_path / "lied").exists():
            outcome = "had nothing to lie about"
        if found := _LYING.tried(outcome, found):
            problems[f"{mode} in frame {number} of {operation}"] = found
    table.expect_none(problems)


@pytest.fixture(scope="module")
def lying_sftp(
    tmp_path_factory: pytest.TempPathFactory, sshd: SshServer
) -> Iterator[tuple[SshServer, Path]]:
    """Run an SSH server whose SFTP server is the file that is given with it."""
    folder = tmp_path_factory.mktemp("sftp")
    script = folder / "sftp"
    force = f"""case "$SSH_ORIGINAL_COMMAND" in
    *sftp*) exec {script};;
    *) exec sh -c "$SSH_ORIGINAL_COMMAND";;
    esac"""
    line = "ForceCommand " + " ".join(one.strip() for one in force.splitlines())
    with SshServer(folder / "sshd", config=(line, "MaxStartups 100")) as server:
        server.authorize(sshd.user_key)
        yield server, script


@pytest.mark.parametrize("part", range(_STRATA))
def test_an_sftp_server_that_says_something_else_at_any_byte_breaks_no_promise(
    part: int,
    stage: Callable[[Operation], Scene],
    lying_sftp: tuple[SshServer, Path],
    tmp_path: Path,
) -> None:
    """It is refused by name; what it says a file holds nobody could doubt."""
    server, script = lying_sftp
    problems = {}
    for offset in samples.sample(range(part, 700, _STRATA), f"sftp {part}"):
        script.write_text(
            f"#!/bin/sh\nexec {sys.executable} {ROOT}/tests/faults/hostile.py "
            f"{tmp_path / 'lied'} sftp {offset} {SFTP_SERVER}\n"
        )
        script.chmod(0o700)
        scene = stage(_COPY)
        ways = {"port": server.port, "known_hosts": str(server.known_hosts), "stall_timeout": "2s"}
        if found := _LYING_SFTP.tried(*_pull(scene, _COPY, **ways)):
            problems[f"byte {offset}"] = found
    table.expect_none(problems)


@contextlib.contextmanager
def _server_that_says(answer: bytes, *, hangs: bool) -> Iterator[int]:
    """Listen on a port; whoever connects is told `answer`, and then nothing more or the end."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        held: list[socket.socket] = []

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    client = listener.accept()[0]
                    client.sendall(answer)
                    if hangs:
                        held.append(client)
                    else:
                        client.close()

        thread = threading.Thread(target=serve)
        thread.start()
        yield int(listener.getsockname()[1])
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()
        for client in held:
            client.close()


@contextlib.contextmanager
def _another_machine(folder: Path, server: SshServer) -> Iterator[dict[str, Any]]:
    """Let another machine answer in the place of the one that is known."""
    with SshServer(folder / "another") as other:
        other.authorize(server.user_key)
        yield {"port": other.port, "host_key_alias": f"[127.0.0.1]:{server.port}"}


@contextlib.contextmanager
def _unknown_machine(folder: Path, server: SshServer) -> Iterator[dict[str, Any]]:
    del server
    hosts = folder / "known_hosts"
    hosts.touch()
    yield {"known_hosts": str(hosts)}


@contextlib.contextmanager
def _other_key(folder: Path, server: SshServer) -> Iterator[dict[str, Any]]:
    del server
    yield {"identity_file": str(make_key(folder / "stranger"))}


def _python(*lines: str) -> Any:
    """Return what puts such a shell script in the place of the other machine's python3."""

    @contextlib.contextmanager
    def way(folder: Path, server: SshServer) -> Iterator[dict[str, Any]]:
        del server
        script = folder / "python"
        script.write_text("\n".join(["#!/bin/sh", *lines, ""]))
        script.chmod(0o700)
        yield {"python": str(script)}

    return way


@contextlib.contextmanager
def _noisy_shell(folder: Path, server: SshServer) -> Iterator[dict[str, Any]]:
    """Let the account over there have a .bashrc that prints; bash under sshd reads it."""
    (folder / ".bashrc").write_text("echo Welcome\n")
    force = f'ForceCommand exec env HOME={folder} SHLVL=0 bash -c "$SSH_ORIGINAL_COMMAND"'
    with SshServer(folder / "noisy", config=(force,)) as noisy:
        noisy.authorize(server.user_key)
        yield {"port": noisy.port, "known_hosts": str(noisy.known_hosts)}


def _speaking(answer: bytes, *, hangs: bool) -> Any:
    @contextlib.contextmanager
    def ways(folder: Path, server: SshServer) -> Iterator[dict[str, Any]]:
        del folder
        with _server_that_says(answer, hangs=hangs) as port:
            alias = f"[127.0.0.1]:{server.port}"
            yield {
                "port": port,
                "host_key_alias": alias,
                "connect_timeout": "1s",
                "stall_timeout": "1s",
            }

    return ways


@contextlib.contextmanager
def _closed_port(folder: Path, server: SshServer) -> Iterator[dict[str, Any]]:
    del folder, server
    yield {"port": free_port()}


@contextlib.contextmanager
def _no_python(folder: Path, server: SshServer) -> Iterator[dict[str, Any]]:
    del server
    yield {"python": str(folder / "no" / "python3")}


# No interpreter that old can be had from Debian: this one says that it is.
_OLD = "import sys; sys.version_info = (3, 7, 3); exec(sys.argv[5])"
_REFUSALS = {
    "port closed": (_closed_port, {"connect-refused"}),
    "silence": (_speaking(b"", hangs=True), {"connect-timeout", "stalled"}),
    "hung up": (_speaking(b"", hangs=False), {"connection-lost", "unreachable"}),
    "garbage": (_speaking(b"\0\xff" * 5000 + b"\r\n", hangs=True), {"ssh-protocol"}),
    "an endless banner": (_speaking(b"hello\r\n" * 100_000, hangs=True), {"ssh-protocol"}),
    "host key changed": (_another_machine, {"host-key-changed"}),
    "host key unknown": (_unknown_machine, {"host-key-unknown"}),
    "key refused": (_other_key, {"authentication"}),
    "no python3": (_no_python, {"command-missing"}),
    "shell noise": (_noisy_shell, {"shell-noise"}),
    "python too old": (_python(f"exec {sys.executable} -c '{_OLD}' \"$@\""), {"python-too-old"}),
    "python broken": (_python("exit 1"), {"remote-command"}),
    "python killed": (_python("kill -9 $$"), {"remote-command"}),
    "endless noise": (_python("exec yes"), {"shell-noise"}),
}


@pytest.mark.parametrize("name", _REFUSALS)
def test_a_machine_that_refuses_is_named(
    name: str, stage: Callable[[Operation], Scene], sshd: SshServer, tmp_path: Path
) -> None:
    """Each has an error of its own, in time, and the old replica stays."""
    way, codes = _REFUSALS[name]
    scene = stage(_PULL)
    with way(tmp_path, sshd) as ssh:
        outcome, found = _pull(scene, **ssh)
    found += [] if outcome in codes else [f"expected one of {codes}, it was {outcome}"]
    table.expect_none({name: _REFUSED.tried(outcome, found)})


@pytest.mark.parametrize("shm", [True, False], ids=["with-shm", "without-shm"])
@pytest.mark.parametrize("mode", ["wal", "delete"])
def test_a_full_disk_over_there_is_told_or_does_not_matter(
    mode: str, shm: bool, stage: Callable[[Operation], Scene], tmp_path: Path
) -> None:
    """What serves needs no room for data; where SQLite needs some for its index, it is told."""
    if not may_mount():
        pytest.skip("mounting needs root")
    scene = stage(_PULL)
    with mounted(tmp_path, "tmpfs", size="1m") as disk:
        database = make_database(disk / "gym.db", mode=mode)
        holder = sqlite_elsewhere(database, "BEGIN", "SELECT count(*) FROM t")
        with holder if shm and mode == "wal" else contextlib.nullcontext():
            scene.world.databases[scene.replica].add(content(database))
            with (disk / "filler").open("wb", buffering=0) as file, contextlib.suppress(OSError):
                while True:
                    file.write(bytes(4096))
            outcome, found = _pull(scene, remote_database=str(database))
    table.expect_none({mode: _FULL.tried(outcome, found)})
