"""Shipping the serving side over standard input, without writing a file on the other machine.

The other machine runs ``python3 -I -S -B -c LOADER``. The loader reads a length-prefixed,
compressed piece of Python, runs it, and reads the next. The first may be the probe
(`gymdbd.source.probe`), which ends the session if nothing has changed. The other makes the modules
of `gymdbd.source` importable from memory, and passes the rest of the stream to
`gymdbd.source.server.main`. To put a database there, those of `gymdbd.source.receiving` are shipped
as well.
"""

from __future__ import annotations

import os
import pkgutil
import re
import zlib
from typing import TYPE_CHECKING

from gymdbd import source
from gymdbd.remote import greeting
from gymdbd.source import format as layout
from gymdbd.source import receiving

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gymdbd.source.fingerprint import Fingerprint

_PACKAGE = "gymdbd.source"
_RECEIVING = f"{_PACKAGE}.receiving"
_PACKAGES = ("gymdbd", _PACKAGE, _RECEIVING)
_PROBE = f"{_PACKAGE}.probe"
_IMPORTED = re.compile(rf"^from {_PACKAGE}\.format import \(\n(.*?)\)\n", re.MULTILINE | re.DOTALL)

# Runs on any Python from 2.7 on, up to the line that prints the version. It is sent as one line in
# single quotes, which sh, csh, tcsh, zsh and fish do not change: so it has no single quote, no
# exclamation mark, and no backslash except before an n.
_LOADER = f"""
import sys
if sys.version_info < (3, 9):
    print("{greeting.TOO_OLD.decode()}%d.%d is too old" % sys.version_info[:2])
    sys.exit(1)
import zlib
read = sys.stdin.buffer.read
while 1:
    print("{greeting.READY.decode().strip()}")
    sys.stdout.flush()
    exec(zlib.decompress(read(int.from_bytes(read(4), "big"))), {{}})
"""

_ANSWER = f"""
if found:
    sys.stdout.write("{greeting.UNCHANGED.decode().strip()}\\n")
    sys.exit()
"""

# The base classes of importlib.abc would take a fifth of the serving side's start time.
_SHIPPED = """
import os, sys
from importlib.machinery import ModuleSpec
from pathlib import Path

class Shipped:
    def find_spec(self, name, path=None, target=None):
        if name in modules:
            return ModuleSpec(name, self, origin="shipped", is_package=name in packages)

    def create_module(self, spec):
        return None

    def exec_module(self, module):
        exec(compile(modules[module.__name__], "<shipped>", "exec"), module.__dict__)

sys.dont_write_bytecode = True
sys.meta_path.insert(0, Shipped())
"""

_START = f"""{_SHIPPED}
from gymdbd.source.server import main
sys.exit(main(Path(database).expanduser()))
"""

_RECEIVE = f"""{_SHIPPED}
from gymdbd.source.receiving.receiver import main
sys.exit(main(Path(database).expanduser()))
"""

_LOOK = f"""{_SHIPPED}
import json
from gymdbd.source.errors import AnotherFileError
from gymdbd.source import identity
said = {{}}
try:
    identity.require(Path(database).expanduser())
except AnotherFileError as error:
    said = {{"code": error.code, "message": error.message, "hint": error.hint}}
print("\\n" + json.dumps(said))
sys.exit()
"""

_SURVEY = f"""{_SHIPPED}
import json, shutil
from gymdbd.source import nearby
home = os.path.expanduser("~")
installed = filter(None, (shutil.which("gymdbd"), "/opt/gymdbd/bin/gymdbd"))
program = next((path for path in map(os.path.realpath, installed) if os.access(path, os.X_OK)), "")
python = os.path.join(os.path.dirname(program), "python")
found = [one.to_json() for one in nearby.find(home)]
said = {{"home": home, "databases": found, "program": program,
    "python": python if os.access(python, os.X_OK) else ""}}
print("\\n" + json.dumps(said))
sys.exit()
"""


def arguments(python: str = "python3") -> list[str]:
    """Return the command that starts the loader on the other machine.

    It names no path: the database is in the bundle, and not in a process list.
    """
    line = _LOADER.strip().replace("\n", "\\n")
    return [python, "-I", "-S", "-B", "-c", f'exec("""{line}""")']


def bundle(database: str) -> bytes:
    """Return the serving side for the loader: the modules, and the path of the database.

    A leading ``~/`` stands for the home folder of the remote account.
    """
    return _ship(database, _START)


def receiver(database: str) -> bytes:
    """Return the receiving side for the loader, which puts a database at this path."""
    return _ship(database, _RECEIVE, receiver_modules())


def look(database: str) -> bytes:
    """Return the code for the loader that checks whether a process has another file open.

    It prints a line of JSON, an empty object or an error, and ends.
    """
    return _ship(database, _LOOK)


def survey() -> bytes:
    """Return the code for the loader that prints, as a line of JSON, what is to be found there.

    That is the home folder of the account, the databases in it and in use, and gymdbd itself.
    """
    return _ship("", _SURVEY)


def modules() -> list[str]:
    """List the modules shipped for a pull: those of the folder `source`, and its package."""
    found = [module.name for module in pkgutil.iter_modules(source.__path__) if not module.ispkg]
    return ["gymdbd", _PACKAGE, *(f"{_PACKAGE}.{name}" for name in found)]


def receiver_modules() -> list[str]:
    """List what is shipped besides if a database is to be put there: the folder `receiving`."""
    found = [module.name for module in pkgutil.iter_modules(receiving.__path__)]
    return [_RECEIVING, *(f"{_RECEIVING}.{name}" for name in found)]


def probe(database: str, known: Fingerprint) -> bytes:
    """Return the probe for the loader, which checks whether the snapshot is unchanged."""
    file = (known.device, known.inode, known.ctime_ns, known.size)
    frame = (known.frames, known.checksum_one, known.checksum_two)
    salts, in_log = bytes.fromhex(known.salts), known.method == layout.PAGE_RULE
    last = layout.frame_offset(known.frames, known.page_size) if in_log else None
    return _pack(
        f"{_IMPORTED.sub(_write_out, _source(_PROBE))}\n{_path_line(database)}\n"
        f"found = is_unchanged(database, {file!r}, {frame!r}, {salts!r}, {last!r})\n{_ANSWER}"
    )


def _write_out(imported: re.Match[str]) -> str:
    """Replace an import of the probe, which is shipped alone, by the imported values."""
    names = re.findall(r"\w+", imported[1])
    return "".join(f"{name} = {getattr(layout, name)!r}\n" for name in names)


def _ship(database: str, start: str, more: Sequence[str] = ()) -> bytes:
    shipped = {name: _source(name) for name in (*modules(), *more)}
    return _pack(
        f"packages = {_PACKAGES!r}\nmodules = {shipped!r}\n{_path_line(database)}\n{start}"
    )


def _path_line(database: str) -> str:
    # A path may hold bytes that are not text.
    return f"import os\ndatabase = os.fsdecode({os.fsencode(database)!r})"


def _pack(piece: str) -> bytes:
    packed = zlib.compress(piece.encode(), 9)
    return len(packed).to_bytes(4, "big") + packed


def _source(name: str) -> str:
    package, _, module = (name, "", "__init__") if name in _PACKAGES else name.rpartition(".")
    data = pkgutil.get_data(package, f"{module}.py")
    assert data is not None  # noqa: S101 - the package's own source is beside this file
    return data.decode()
