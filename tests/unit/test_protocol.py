"""The protocol, and a serving side that does not keep to it."""

from __future__ import annotations

import io
import os
import struct
import subprocess
import sys
import tracemalloc
import zlib
from typing import TYPE_CHECKING, Any

import pytest

from gymdbd.remote import bootstrap, delta, greeting
from gymdbd.remote.client import Session
from gymdbd.remote.errors import ShellNoiseError
from gymdbd.source import compress, digests, payloads, protocol
from gymdbd.source.errors import (
    ConnectionLostError,
    GymdbdError,
    ProtocolError,
    RemoteError,
    SourceLockedError,
    to_error,
)
from gymdbd.source.fingerprint import Fingerprint
from gymdbd.source.format import PAGE_RULE
from gymdbd.source.pages import open_pages
from gymdbd.source.protocol import Channel
from tests.support.databases import make_database

if TYPE_CHECKING:
    from pathlib import Path

_PAGE = 512
_COUNT = 300
_FINGERPRINT = Fingerprint(
    1, 2, 3, _PAGE * _COUNT, _PAGE, _COUNT, "wal", PAGE_RULE, 5, "00" * 8, 1, 2, True, 9
)  # fmt: skip
_HELLO = {"codecs": ["zlib", "raw"], "fingerprint": _FINGERPRINT.to_json()}
_TAIL = delta.Plan(delta.TAIL, "", delta.Since("00" * 8, 1))
_FULL = delta.Plan(delta.FULL, "")
_DIGEST = delta.Plan(delta.DIGEST, "")


def said(*frames: bytes, hello: dict[str, Any] | None = None) -> io.BytesIO:
    """Build what a serving side says, from its greeting on."""
    stream = io.BytesIO()
    channel = Channel(io.BytesIO(), stream)
    channel.send_preamble()
    channel.send_json(protocol.HELLO, _HELLO if hello is None else hello)
    for frame in frames:
        stream.write(frame)
    stream.seek(0)
    return stream


def frame(kind: int, payload: bytes, *, codec: int = compress.RAW, length: int = -1) -> bytes:
    """Build one frame, of a wrong length where one is given."""
    return struct.pack(">BBI", kind, codec, len(payload) if length < 0 else length) + payload


def pages(*numbers: int, content: bytes = b"") -> bytes:
    """Build a PAGES frame."""
    data = content or bytes(_PAGE * len(numbers))
    return frame(protocol.PAGES, payloads.pack_pages(list(numbers), data))


def end(digest: str = "") -> bytes:
    """Build an END frame."""
    return frame(protocol.END, b'{"sha256": "%s"}' % digest.encode())


def listen(stream: io.BytesIO) -> Session:
    """Begin a session with what a serving side says."""
    return Session(stream, io.BytesIO())


def test_a_frame_arrives_as_it_was_sent() -> None:
    """Kind, bytes and counters survive the way, packed or not."""
    for name in compress.packers():
        stream = io.BytesIO()
        sender = Channel(io.BytesIO(), stream)
        payload = bytes(range(256)) * 40
        codec, packed = compress.pack(payload, compress.NAMES[name])
        sender.send(protocol.PAGES, packed, codec)
        stream.seek(0)
        receiver = Channel(stream, io.BytesIO())

        assert (protocol.PAGES, payload) == receiver.receive(protocol.PAGES)
        assert sender.bytes_sent == receiver.bytes_received == len(stream.getvalue())
        assert codec == compress.NAMES[name]


def test_every_error_of_ours_keeps_its_class_on_the_way() -> None:
    """The code on the wire leads back to the class, its message and its hint."""

    def classes(kind: type[GymdbdError]) -> list[type[GymdbdError]]:
        return [kind, *(deeper for one in kind.__subclasses__() for deeper in classes(one))]

    for kind in classes(GymdbdError):
        stream = io.BytesIO()
        Channel(io.BytesIO(), stream).send_error(kind("what happened", hint="what to do"))
        stream.seek(0)
        with pytest.raises(GymdbdError) as caught:
            Channel(stream, io.BytesIO()).receive(protocol.RESULT)

        assert (str(caught.value), caught.value.hint) == ("what happened", "what to do")
        assert caught.value.code == kind.code
        assert issubclass(kind, type(caught.value))


def test_an_unknown_error_is_a_remote_one_without_control_characters() -> None:
    """Text of the other side can't steer our terminal."""
    error = to_error({"code": "new", "message": "a\x1b[2Jb", "hint": ["no text"]})

    assert (type(error), str(error)) == (RemoteError, "a [2Jb")
    assert error.hint.startswith("nothing has changed here")


def test_the_locked_error_of_the_other_side_is_transient_here() -> None:
    """What the class says about retrying holds on this side too."""
    assert to_error({"code": "source-locked", "message": "x"}).transient
    assert isinstance(to_error({"code": "source-locked"}), SourceLockedError)


@pytest.mark.parametrize(
    ("stream", "error", "words"),
    [
        (b"", ConnectionLostError, "ended"),
        (protocol.MAGIC[:4], ConnectionLostError, "ended"),
        (b"bash: python3: command not found\n", ShellNoiseError, "command not found"),
        (b"hi\n" + protocol.MAGIC + b"\0\1", ShellNoiseError, "hi"),
        (b"x" * 10_000_000, ShellNoiseError, "xxx"),
        (protocol.MAGIC + b"\0\2", ProtocolError, "version 2"),
    ],
)
def test_a_wrong_beginning_is_named(stream: bytes, error: type[GymdbdError], words: str) -> None:
    """Silence, noise and another version are told apart, and noise is read only so far."""
    reader = io.BytesIO(stream)
    with pytest.raises(error, match=words):
        Session(reader, io.BytesIO())

    assert reader.tell() <= greeting.MOST_NOISE


@pytest.mark.parametrize(
    "hello",
    [
        {},
        {"fingerprint": None},
        {**_HELLO, "fingerprint": {**_FINGERPRINT.to_json(), "page_count": 2**40}},
        {**_HELLO, "fingerprint": {**_FINGERPRINT.to_json(), "page_size": 3}},
    ],
)
def test_an_impossible_greeting_is_refused(hello: dict[str, Any]) -> None:
    """A fingerprint that no database has is a fault of the protocol."""
    with pytest.raises(ProtocolError):
        listen(said(hello=hello))


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(frame(protocol.PAGES, b"", length=2**32 - 1), id="absurd length"),
        pytest.param(frame(protocol.PAGES, b"", length=protocol.MOST_PAYLOAD + 1), id="too long"),
        pytest.param(frame(99, b""), id="unknown kind"),
        pytest.param(frame(protocol.DIGESTS, bytes(16)), id="kind that is not due"),
        pytest.param(frame(protocol.PAGES, b"", codec=9), id="unknown codec"),
        pytest.param(frame(protocol.PAGES, b"not zlib", codec=compress.ZLIB), id="not packed"),
        pytest.param(
            frame(protocol.PAGES, zlib.compress(bytes(300_000_000)), codec=compress.ZLIB),
            id="zip bomb",
        ),
        pytest.param(pages(0), id="page 0"),
        pytest.param(pages(_COUNT + 1), id="page after the last"),
        pytest.param(pages(2**32 - 1), id="last page of all"),
        pytest.param(pages(5, 4), id="descending"),
        pytest.param(pages(7) + pages(7), id="twice"),
        pytest.param(pages(1, content=bytes(_PAGE - 1)), id="short page"),
        pytest.param(frame(protocol.PAGES, b"\xff\xff\xff\xff"), id="absurd count"),
        pytest.param(frame(protocol.PAGES, bytes(4)), id="no pages"),
        pytest.param(end("0" * 64), id="end without pages"),
        pytest.param(end(), id="no digest"),
        pytest.param(frame(protocol.END, b"[1]"), id="no object"),
        pytest.param(frame(protocol.END, b'{"a":' * 150_000), id="nested JSON"),
        pytest.param(frame(protocol.END, b"\xff{}"), id="no JSON"),
        pytest.param(
            frame(protocol.END, zlib.compress(b" " * 1_500_000 + b"{}"), codec=compress.ZLIB),
            id="large JSON",
        ),
    ],
)
def test_a_hostile_answer_is_refused_in_bounded_memory(tmp_path: Path, answer: bytes) -> None:
    """Nothing that the protocol does not allow is believed, written or allocated."""
    remote = listen(said(answer))
    target = tmp_path / "partial"
    tracemalloc.start()
    with pytest.raises(ProtocolError):
        remote.fetch(target, _FULL)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()

    assert peak < 12_000_000
    assert target.stat().st_size <= _PAGE * _COUNT


def test_a_fetch_tells_what_the_other_side_has_of_the_whole(tmp_path: Path) -> None:
    """Whoever proves the file compares it."""
    everything = pages(*range(1, _COUNT + 1))
    said_of_it = "0" * 64
    result = listen(said(everything, end(said_of_it))).fetch(tmp_path / "partial", _FULL)
    assert (result.pages_changed, result.sha256) == (_COUNT, said_of_it)


def test_a_tail_that_leaves_the_file_short_is_refused(tmp_path: Path) -> None:
    """After a tail the file has the snapshot's size, or the fetch fails."""
    with pytest.raises(ProtocolError, match="too few pages"):
        listen(said(pages(3), frame(protocol.END, b"{}"))).fetch(tmp_path / "partial", _TAIL)


@pytest.mark.parametrize(
    "answer",
    [
        frame(protocol.DIGESTS, bytes(15)),
        frame(protocol.DIGESTS, b""),
        frame(protocol.DIGESTS, bytes(16 * 3)),
        frame(protocol.DIGESTS, bytes(16 * 2)) * 2 + end("0" * 64),
        # Groups that differ, and then pages of a group that was not asked for.
        frame(protocol.DIGESTS, digests.digest(bytes(_PAGE * 256)) + bytes(16))
        + end("0" * 64)
        + pages(1),
    ],
)
def test_hostile_digests_are_refused(tmp_path: Path, answer: bytes) -> None:
    """Digests come whole, as many as there are groups, and bring only pages that were asked for."""
    target = tmp_path / "partial"
    target.write_bytes(bytes(_PAGE * _COUNT))
    with pytest.raises(ProtocolError):
        listen(said(answer)).fetch(target, _DIGEST)

    assert target.read_bytes() == bytes(_PAGE * _COUNT)


def test_a_client_gets_no_group_of_pages_twice(tmp_path: Path) -> None:
    """Each costs the serving side a read and hashes, again and again."""
    with open_pages(make_database(tmp_path / "gym.db")) as served:
        known = min(digests.group_pages(served.page_size), served.count)
        asked = bytes(4 + known * digests.DIGEST_SIZE)
        _, last = payloads.groups(asked, served, -1)
        for payload, before in ((asked, last), (asked * 2, -1)):
            with pytest.raises(ProtocolError, match="group 0 again"):
                payloads.groups(payload, served, before)


@pytest.mark.parametrize("tables", [None, [], {"t": "many"}, {"t": True}])
def test_row_counts_that_are_no_numbers_are_refused(tables: object) -> None:
    """Counts are compared with ours, so they must be counts."""
    stream = said()
    stream.seek(0, io.SEEK_END)
    Channel(io.BytesIO(), stream).send_json(protocol.RESULT, {"tables": tables})
    stream.seek(0)
    with pytest.raises(ProtocolError):
        listen(stream).count_rows()


def test_the_loader_says_how_old_a_python_is() -> None:
    """Its line is recognised although no preamble follows."""
    with pytest.raises(RemoteError, match=r"python3 is 3\.7"):
        Session(io.BytesIO(greeting.TOO_OLD + b"3.7 is too old\n"), io.BytesIO())


def test_the_loader_imports_nothing_from_the_folder_that_it_is_started_in(tmp_path: Path) -> None:
    """That is the home folder of the account, where anything may lie."""
    (tmp_path / "json.py").write_text("raise SystemExit('the module of somebody else')")
    done = subprocess.run(
        bootstrap.arguments(sys.executable),
        input=bootstrap.look(str(make_database(tmp_path / "gym.db"))),
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        check=False,
    )
    assert (done.returncode, done.stdout.split()[-1], done.stderr) == (0, b"{}", b"")
