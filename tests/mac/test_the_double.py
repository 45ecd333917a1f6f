"""The double of a Mac (`support/darwin/`) does what is known of macOS: each answer, one by one."""

from __future__ import annotations

import json
import subprocess
import sys
import unicodedata
from typing import TYPE_CHECKING

from tests.support.mac import environment, mac

if TYPE_CHECKING:
    from pathlib import Path

# What a process tries, in a folder with a file and a folder, and what becomes of it.
_ANSWERS = {
    "sys.platform": "darwin",
    "os.uname().sysname": "Darwin",
    "os.path.exists('/proc/self/stat')": False,
    "open('/proc/mounts')": "ENOENT",
    "os.scandir('/sys')": "ENOENT",
    "os.copy_file_range": "AttributeError",
    "errno.EUCLEAN": "AttributeError",
    "errno.ENOTSUP == errno.EOPNOTSUPP": False,
    "fcntl.F_OFD_SETLK": "AttributeError",
    "socket.socket(socket.AF_UNIX).bind('\\0a name')": "ENOENT",
    "fcntl.ioctl(open('file'), 0x40049409, 0)": "ENOTTY",
    "fcntl.fcntl(open('file'), fcntl.F_FULLFSYNC)": 0,
    "fcntl.fcntl(os.open('folder', 0), fcntl.F_FULLFSYNC)": 0,
    "ctypes.CDLL('libzstd.so.1')": "OSError",
    "ctypes.CDLL(None).renameat2": "AttributeError",
    "ctypes.CDLL(None).clonefile(b'file', b'clone', 0)": 0,
    "ctypes.CDLL(None).clonefile(b'file', b'folder', 0)": -1,
    "lock(open('file', 'r+'), fcntl.F_GETLK)": "free",
    "lock(open('locked', 'r+'), fcntl.F_GETLK)": "held",
    "lock(open('locked', 'r+'), fcntl.F_SETLK)": "EAGAIN",
    "open_in('held')": True,
    "open_in('file')": False,
    "kill_a_zombie()": "EPERM",
    "hasattr(os.stat('file'), 'st_flags')": False,
}
# What changes if one variable is set.
_CHOSEN = {
    ("DARWIN_FULLFSYNC=ENOTTY", "fcntl.fcntl(open('file'), fcntl.F_FULLFSYNC)"): "ENOTTY",
    ("DARWIN_FOLDER_FSYNC=ENOENT", "os.fsync(os.open('folder', 0))"): "ENOENT",
    ("DARWIN_FOLDER_FSYNC=ENOENT", "os.fsync(os.open('file', 0))"): None,
    ("DARWIN_FLOCK=ENOTSUP", "fcntl.flock(open('file'), fcntl.LOCK_EX)"): "ENOTSUP",
    ("DARWIN_CLONE=ENOTSUP", "ctypes.CDLL(None).clonefile(b'file', b'another', 0)"): -1,
    ("DARWIN_OPEN=EPERM:*file", "open('file')"): "EPERM",
    ("DARWIN_READ=EDEADLK:*file", "os.open('file', os.O_RDONLY)"): "EDEADLK",
    ("DARWIN_READ=EDEADLK:*file", "open('file', 'a').write('')"): 0,
    ("DARWIN_DATALESS=*file", "os.stat('file').st_flags"): 0x40000000,
    ("DARWIN_DATALESS=*file", "os.stat('held').st_flags"): 0,
    ("DARWIN_LIBPROC=EPERM", "listed('held')"): -1,
    ("DARWIN_NAMES=decomposed", "os.listdir('names')"): [unicodedata.normalize("NFD", "한글")],
    ("", "os.listdir('names')"): ["한글"],
}
_SCRIPT = """
import ctypes, errno, fcntl, json, os, select, signal, socket, struct, subprocess, sys

def lock(file, command):
    asked = struct.pack("qqihh", 0, 0, 0, fcntl.F_WRLCK, 0)
    kind = struct.unpack("qqihh", fcntl.fcntl(file, command, asked))[3]
    return "free" if kind == fcntl.F_UNLCK else "held"

def listed(name, room=400):
    pids = ctypes.create_string_buffer(room)
    library = ctypes.CDLL("/usr/lib/libproc.dylib", use_errno=True)
    size = library.proc_listpidspath(1, 0, os.fsencode(os.path.abspath(name)), 0, pids, room)
    return size if size < 0 else list(struct.unpack_from(f"{size // 4}i", pids))

def open_in(name):
    return int(sys.argv[1]) in listed(name)

def kill_a_zombie():
    child = subprocess.Popen(["true"], start_new_session=True)
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    os.killpg(child.pid, signal.SIGTERM)

for chosen, tried in json.load(sys.stdin):
    name, _, value = chosen.partition("=")
    if name:
        os.environ[name] = value
    try:
        answer = eval(tried)
    except OSError as error:
        answer = errno.errorcode.get(error.errno, "OSError")
    except AttributeError:
        answer = "AttributeError"
    os.environ.pop(name, None)
    print(json.dumps(answer))
"""


def _tried(folder: Path, tried: list[tuple[str, str]]) -> list[object]:
    """Let a process try these, with a variable each; another has `held` open, `locked` locked."""
    (folder / "folder").mkdir()
    (folder / "names").mkdir()
    (folder / "names" / "한글").touch()
    for name in ("file", "held", "locked"):
        (folder / name).write_text(name)
    keep = "import fcntl, sys; f = open('locked', 'r+'); g = open('held'); fcntl.lockf(f, 2); "
    with subprocess.Popen(
        [sys.executable, "-c", keep + "print(flush=True); sys.stdin.read()"],
        cwd=folder,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        done = subprocess.run(
            [sys.executable, "-c", _SCRIPT, str(holder.pid)],
            cwd=folder,
            env=environment(),
            input=json.dumps(tried),
            capture_output=True,
            text=True,
            check=False,
        )
        holder.communicate()
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_each_answer_is_that_of_a_mac(tmp_path: Path) -> None:
    """A table of what a program may ask, and of what macOS is known to answer."""
    answers = _tried(tmp_path, [("", tried) for tried in _ANSWERS])
    assert dict(zip(_ANSWERS, answers, strict=True)) == _ANSWERS


def test_an_answer_can_be_chosen(tmp_path: Path) -> None:
    """Each variable changes the one answer that it is for."""
    answers = _tried(tmp_path, list(_CHOSEN))
    assert dict(zip(_CHOSEN, answers, strict=True)) == _CHOSEN


def test_names_are_found_in_either_form(tmp_path: Path) -> None:
    """What a folder lists decomposed is there under the plain name too, for SQLite as well."""
    script = (
        "import sqlite3, unicodedata\n"
        "for form in ('NFC', 'NFD'):\n"
        "    name = unicodedata.normalize(form, '한글.db')\n"
        "    with sqlite3.connect(name) as connection:\n"
        "        connection.execute('CREATE TABLE IF NOT EXISTS t (x)')\n"
        "    print(len(open(name, 'rb').read()) > 0)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=tmp_path,
        env=environment(DARWIN_NAMES="decomposed"),
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.stdout.split(), done.stderr) == (["True", "True"], "")
    assert [path.name for path in tmp_path.iterdir()] == ["한글.db"]


def test_the_command_line_believes_it(tmp_path: Path) -> None:
    """The command line of these tests is one of a Mac: it flushes by F_FULLFSYNC."""
    log = tmp_path / "calls"
    done = mac("demo", DARWIN_LOG=str(log))
    assert done.returncode == 0, done.stderr
    assert "F_FULLFSYNC /" in log.read_text()
