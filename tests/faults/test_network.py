"""The link and the other machine: cut, stalled, corrupted, refused, and lying."""

from __future__ import annotations

import contextlib
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
from tests.faults.scenes import Operation, Scene
from tests.relay import Relay
from tests.sshd import SshServer, free_port, make_key
from tests.support import ROOT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

_BLOB_BYTES = 200_000
_MOST_RSS_KIB = 300 * 1024


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
_CUT = table.row(
    "the link cut after every k-th KB",
    "a relay on loopback",
    "the old replica stays, a named error; the next pull succeeds",
)
_STALLED = table.row(
    "the link stalls at every k-th KB", "the same", "given up in time, then as cut"
)
_FLIPPED = table.row(
    "a bit flipped in flight", "the same, at any byte", "SSH notices; as cut, or never noticed"
)
_REFUSED = table.row(
    "the other machine refuses",
    "port closed, silence, garbage, host key changed, key refused, no python3, shell noise",
    "an error of its own each",
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
def _configured(scene: Scene, **ssh: Any) -> Iterator[None]:
    """Let the pull reach the host in another way."""
    before = scene.config.read_text()
    content = json.loads(before)
    content["jobs"]["pull"]["ssh"].update(ssh)
    scene.config.write_text(json.dumps(content))
    try:
        yield
    finally:
        scene.config.write_text(before)


def _pull(scene: Scene, **ssh: Any) -> tuple[str, list[str]]:
    """Pull over a link of that kind and then over a good one."""
    with _configured(scene, **ssh):
        seen = len(scene.events())
        done = scene.run(*_PULL.arguments(scene))
    found = sweeps.expect_whole(_PULL, scene, done, seen=seen)
    if done.max_rss_kib > _MOST_RSS_KIB:
        found.append(f"it took {done.max_rss_kib} KiB of memory")
    outcome = str(done.answer.get("code")) if done.exit_code else "ok all the same"
    return outcome, found + sweeps.expect_next_run(_PULL, scene)


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


@pytest.mark.parametrize("part", range(6))
@pytest.mark.parametrize(
    ("row", "fault", "step"),
    [(_CUT, "cut_after", 1), (_STALLED, "stall_after", 8), (_FLIPPED, "flip_at", 2)],
    ids=["cut", "stall", "flip"],
)
def test_a_link_that_fails_anywhere_leaves_the_old_replica(
    row: table.Row,
    fault: str,
    step: int,
    part: int,
    stage: Callable[[Operation], Scene],
    sshd: SshServer,
) -> None:
    """The next pull over a good link succeeds, and the replica is whole all the while."""
    every = range(0, 130_000, 1024 * step)[part::6]
    problems = {}
    for offset in table.sample(every, f"{fault} {part}"):
        outcome = _through(stage(_PULL), sshd, **{fault: offset})
        if found := row.tried(*outcome):
            problems[f"{fault} {offset}"] = found
    table.expect_none(problems)


def _lying_python(folder: Path, mode: str, number: int) -> str:
    script = folder / "python"
    script.write_text(
        f"#!/bin/sh\nexec {sys.executable} {ROOT}/tests/faults/hostile.py {mode} {number} "
        f'{sys.executable} "$@"\n'
    )
    script.chmod(0o700)
    return str(script)


@pytest.mark.parametrize("part", range(4))
@pytest.mark.parametrize(("row", "mode"), [(_KILLED, "cut"), (_LYING, "flip")], ids=["cut", "flip"])
def test_a_serving_side_that_says_something_else_at_any_byte_breaks_no_promise(
    row: table.Row,
    mode: str,
    part: int,
    stage: Callable[[Operation], Scene],
    tmp_path: Path,
) -> None:
    """It is refused by name, or the replica is what the other side really holds."""
    every = [*range(0, 200, 3), *range(200, 100_000, 1024)][part::4]
    problems = {}
    for offset in table.sample(every, f"{mode} {part}"):
        python = _lying_python(tmp_path, mode, offset)
        if found := row.tried(*_pull(stage(_PULL), python=python)):
            problems[f"{mode} at {offset}"] = found
    table.expect_none(problems)


@pytest.mark.parametrize("mode", hostile.FRAME_MODES)
def test_a_serving_side_that_lies_is_refused(
    mode: str, stage: Callable[[Operation], Scene], tmp_path: Path
) -> None:
    """In every frame of its answers, with every lie."""
    problems = {}
    for number in table.sample(range(6), f"lie {mode}"):
        python = _lying_python(tmp_path, mode, number)
        if found := _LYING.tried(*_pull(stage(_PULL), python=python)):
            problems[f"{mode} in frame {number}"] = found
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
def _changed_host_key(folder: Path, server: SshServer) -> Iterator[dict[str, Any]]:
    key = make_key(folder / "another").with_name("another.pub").read_text().split()[:2]
    hosts = folder / "known_hosts"
    hosts.write_text(f"[127.0.0.1]:{server.port} {' '.join(key)}\n")
    yield {"known_hosts": str(hosts)}


@contextlib.contextmanager
def _other_key(folder: Path, server: SshServer) -> Iterator[dict[str, Any]]:
    del server
    yield {"identity_file": str(make_key(folder / "stranger"))}


@contextlib.contextmanager
def _noisy_shell(folder: Path, server: SshServer) -> Iterator[dict[str, Any]]:
    del server
    script = folder / "python"
    script.write_text(f'#!/bin/sh\necho Welcome\nexec {sys.executable} "$@"\n')
    script.chmod(0o700)
    yield {"python": str(script)}


@contextlib.contextmanager
def _endless_noise(folder: Path, server: SshServer) -> Iterator[dict[str, Any]]:
    del server
    script = folder / "python"
    script.write_text("#!/bin/sh\nexec yes\n")
    script.chmod(0o700)
    yield {"python": str(script)}


def _speaking(answer: bytes, *, hangs: bool) -> Any:
    @contextlib.contextmanager
    def ways(folder: Path, server: SshServer) -> Iterator[dict[str, Any]]:
        del folder
        with _server_that_says(answer, hangs=hangs) as port:
            alias = f"[127.0.0.1]:{server.port}"
            yield {"port": port, "host_key_alias": alias, "connect_timeout": "1s"}

    return ways


@contextlib.contextmanager
def _closed_port(folder: Path, server: SshServer) -> Iterator[dict[str, Any]]:
    del folder, server
    yield {"port": free_port()}


@contextlib.contextmanager
def _no_python(folder: Path, server: SshServer) -> Iterator[dict[str, Any]]:
    del server
    yield {"python": str(folder / "no" / "python3")}


_REFUSALS = {
    "port closed": (_closed_port, {"connect-refused"}),
    "silence": (_speaking(b"", hangs=True), {"connect-timeout", "stalled"}),
    "hung up": (_speaking(b"", hangs=False), {"connection-lost", "unreachable"}),
    "garbage": (_speaking(b"\0\xff" * 5000 + b"\r\n", hangs=True), {"ssh-protocol"}),
    "an endless banner": (_speaking(b"hello\r\n" * 100_000, hangs=True), {"ssh-protocol"}),
    "host key changed": (_changed_host_key, {"host-key-changed"}),
    "key refused": (_other_key, {"authentication"}),
    "no python3": (_no_python, {"command-missing"}),
    "shell noise": (_noisy_shell, {"shell-noise"}),
    "endless noise": (_endless_noise, {"shell-noise"}),
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
