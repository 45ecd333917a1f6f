"""Shipping the serving side: our own modules over standard input, nothing written over there.

The other machine runs ``python3 -I -S -B -c LOADER``. The loader reads one length-prefixed,
compressed bundle from standard input, makes the modules in it importable from memory, and hands
the rest of the stream to `gymdbd.remote.server.main`.
"""

from __future__ import annotations

import importlib.resources
import json
import os
import shlex
import zlib

from gymdbd.remote import protocol

_MODULES = (
    "gymdbd",
    "gymdbd.errors",
    "gymdbd.sqlite",
    "gymdbd.sqlite.database",
    "gymdbd.sqlite.digests",
    "gymdbd.sqlite.fingerprint",
    "gymdbd.sqlite.pages",
    "gymdbd.sqlite.processes",
    "gymdbd.sqlite.snapshot",
    "gymdbd.sqlite.wal",
    "gymdbd.remote",
    "gymdbd.remote.compress",
    "gymdbd.remote.protocol",
    "gymdbd.remote.server",
)
_PACKAGES = ("gymdbd", "gymdbd.remote", "gymdbd.sqlite")

# Written for any Python from 2.7 on, up to the line that tells the version.
_LOADER = f"""
import sys
if sys.version_info < (3, 9):
    sys.stdout.write("{protocol.TOO_OLD.decode()}%d.%d is too old\\n" % sys.version_info[:2])
    sys.exit(1)
import json, zlib
sys.stdout.write("{protocol.READY.decode().strip()}\\n")
sys.stdout.flush()
read = sys.stdin.buffer.read
bundle = json.loads(zlib.decompress(read(int.from_bytes(read(4), "big"))))
exec(compile(bundle["start"], "<gymdbd>", "exec"), {{"bundle": bundle}})
"""

_START = """
import os, sys
from importlib.abc import MetaPathFinder, InspectLoader
from importlib.util import spec_from_loader
from pathlib import Path

class Shipped(MetaPathFinder, InspectLoader):
    def find_spec(self, name, path=None, target=None):
        if name in bundle["modules"]:
            return spec_from_loader(name, self, origin="shipped", is_package=self.is_package(name))

    def is_package(self, name):
        return name in bundle["packages"]

    def get_source(self, name):
        return bundle["modules"][name]

sys.dont_write_bytecode = True
sys.meta_path.insert(0, Shipped())
from gymdbd.remote.server import main
sys.exit(main(Path(os.fsdecode(bytes.fromhex(bundle["path"]))).expanduser()))
"""


def command(python: str = "python3") -> str:
    """Return the shell command that starts the loader on the other machine.

    It names no path: what is served travels in the bundle, and not in a process list.
    """
    return f"exec {shlex.join([python, '-I', '-S', '-B', '-c', _LOADER.strip()])}"


def arguments(python: str = "python3") -> list[str]:
    """Return the same as a list, for a process on this machine."""
    return [python, "-I", "-S", "-B", "-c", _LOADER.strip()]


def bundle(database: str) -> bytes:
    """Return what the loader reads: our modules, and the path of the database to serve.

    A leading ``~/`` stands for the home folder of the account there.
    """
    content = {
        "start": _START,
        "packages": _PACKAGES,
        "modules": {name: _source(name) for name in _MODULES},
        "path": os.fsencode(database).hex(),
    }
    packed = zlib.compress(json.dumps(content).encode(), 9)
    return len(packed).to_bytes(4, "big") + packed


def _source(name: str) -> str:
    package, _, module = (name, "", "__init__") if name in _PACKAGES else name.rpartition(".")
    return importlib.resources.files(package).joinpath(f"{module}.py").read_text("utf-8")
