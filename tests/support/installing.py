"""The installers run for real, with programs before them that write down how they are called."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from tests.support.command import ROOT

# What every double begins with: its own name and its arguments in the list of calls.
_DOUBLE = """#!/bin/sh
state={state}
echo "${{0##*/}} $*" >>"$state/calls"
"""

# What systemd would do as far as the installer can see it: `active` is there while the service
# runs, `no-start` if it does not come up, `networked` if a drop-in gives it a network.
_SYSTEMCTL = """
case "$1" in
is-active) [ -e "$state/active" ] ;;
start | restart) [ ! -e "$state/no-start" ] && touch "$state/active" ;;
stop | disable) rm -f "$state/active" ;;
cat) [ -e /etc/systemd/system/gymdbd.service ] ;;
show) [ ! -e "$state/networked" ] || echo no ;;
esac
"""

# Another user could not reach the test's folders.
_SETPRIV = """
while [ "$1" != -- ]; do shift; done
shift
"$@"
"""

# `venv` makes another double with which pip is called, and a gymdbd.
_PYTHON = """
case "$*" in
-c*calcsize*) cat "$state/pointer" ;;
-c*) [ ! -e "$state/no-venv" ] ;;
"-m venv "*) mkdir -p "$3/bin" && cp "$state/pip" "$3/bin/python" && cp "$state/gymdbd" "$3/bin" ;;
esac
"""
_PIP = """
[ ! -e "$state/active" ] || echo "the service runs while pip works" >>"$state/calls"
[ ! -e "$state/no-pip" ] || exit 1
case "$*" in
*"install "*"[notify]") [ ! -e "$state/no-extra" ] ;;
esac
"""

# What `check --needs` would print is in `needs`.
_GYMDBD = """
case "$*" in
*" check --needs") [ ! -e "$state/needs" ] || cat "$state/needs" ;;
*) [ ! -e "$state/faulty" ] ;;
esac
"""

# A double of launchctl. While the job is loaded, `loaded` holds how often it is still seen after it
# was told to end. `refusal` holds the code with which bootstrap fails; without a login, the domain
# gui/UID is not there.
_LAUNCHCTL = """
case "$1 $2" in
"print gui/"*/*) ;;
"print gui/"*) [ ! -e "$state/no-login" ] || exit 113; exit 0 ;;
bootstrap*) [ ! -e "$state/refusal" ] || exit "$(cat "$state/refusal")" ;;
esac
case "$1" in
print)
    [ -e "$state/loaded" ] || exit 113
    [ -e "$state/ending" ] || exit 0
    left="$(cat "$state/loaded")"
    if [ "$left" -eq 0 ]; then rm "$state/loaded" "$state/ending"; exit 113; fi
    echo $((left - 1)) >"$state/loaded" ;;
bootout) touch "$state/ending" ;;
bootstrap) [ ! -e "$state/loaded" ] && [ -e "$3" ] && echo 3 >"$state/loaded" ;;
esac
"""
# `sudo -u NAME COMMAND`, for the user of a LaunchDaemon, whose home is that of the test.
_SUDO = """
shift 2
"$@"
"""
_ID = """
case "$*" in
-u) [ ! -e "$state/no-root" ] && echo 0 || echo 501 ;;
"-u trainer") echo 501 ;;
-un) echo trainer ;;
*) exit 1 ;;
esac
"""
_DSCL = """
echo "NFSHomeDirectory: $HOME"
"""
_PLUTIL = """
[ ! -e "$state/no-plist" ]
"""


@dataclass
class Machine:
    """A folder that the doubles keep their state in, and the calls that they have seen."""

    folder: Path

    def double(self, name: str, does: str = "", *, on_path: bool = True) -> Path:
        """Put a program of this name before the others, or only into the state's folder."""
        path = (self.programs if on_path else self.state) / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(_DOUBLE.format(state=shlex.quote(str(self.state))) + does)
        path.chmod(0o755)
        return path

    @property
    def programs(self) -> Path:
        """Return where the doubles lie that are found by their names."""
        return self.folder / "programs"

    @property
    def state(self) -> Path:
        """Return where the doubles write down what they have seen, and look how things are."""
        return self.folder / "state"

    def set(self, name: str, *, to: bool = True) -> None:
        """Let something be so, or not: `active`, `no-start`, `no-pip` ..."""
        path = self.state / name
        path.touch() if to else path.unlink(missing_ok=True)

    def need(self, *lines: str) -> None:
        """Let the configuration need these of the installation."""
        (self.state / "needs").write_text("".join(f"{line}\n" for line in lines))

    def is_set(self, name: str) -> bool:
        """Say whether something is so."""
        return (self.state / name).exists()

    def calls(self, *names: str) -> list[str]:
        """Return the calls of these programs, or of all, since the last time; then forget them."""
        path = self.state / "calls"
        lines = path.read_text().splitlines() if path.exists() else []
        path.unlink(missing_ok=True)
        return [line for line in lines if not names or line.partition(" ")[0] in names]

    @property
    def environment(self) -> dict[str, str]:
        """Return the environment in which the doubles are found."""
        return {**os.environ, "PATH": f"{self.programs}:/usr/sbin:/usr/bin:/sbin:/bin"}


# Which folders of the test's a machine with systemd has in place of its own.
_PLACES = {"etc": "/etc", "opt": "/opt", "bin": "/usr/local/bin", "lib": "/var/lib", "run": "/run"}


class Pi(Machine):
    """A machine with systemd, most of whose folders are the test's."""

    def __init__(self, folder: Path) -> None:
        """Make the folders and the doubles."""
        super().__init__(folder)
        for name in ("etc/systemd/system", "opt", "bin", "lib", "run", "state"):
            (folder / name).mkdir(parents=True)
        # What is needed to know users by name and to load programs.
        for name in ("passwd", "group", "nsswitch.conf", "ld.so.cache", "alternatives"):
            there = Path("/etc", name)
            if there.is_dir():
                shutil.copytree(there, folder / "etc" / name, symlinks=True)
            elif there.exists():
                shutil.copy(there, folder / "etc" / name)
        self.double("systemctl", _SYSTEMCTL)
        self.double("apt-get")
        self.double("setpriv", _SETPRIV)
        self.double("python3", _PYTHON)
        (self.state / "pointer").write_text("8\n")
        self.double("pip", _PIP, on_path=False)
        self.double("gymdbd", _GYMDBD, on_path=False)

    def be(self, machine: str, *, pointer: int) -> None:
        """Be a machine that `uname -m` calls so, with a Python of so many bytes a pointer."""
        self.double("uname", f'[ "$*" != -m ] && echo Linux || echo {machine}\n')
        self.double("setarch", 'shift && exec "$@"\n')
        (self.state / "pointer").write_text(f"{pointer}\n")

    def add_user(self, name: str, number: int) -> None:
        """Let the machine know a user, and a group of the same name."""
        for file, line in (
            ("passwd", f"{name}:x:{number}:{number}::/:/bin/sh"),
            ("group", f"{name}:x:{number}:"),
        ):
            with (self.folder / "etc" / file).open("a") as text:
                text.write(f"{line}\n")

    @property
    def config(self) -> Path:
        """Return where the installer's configuration lies."""
        return self.folder / "etc" / "gymdbd" / "config.yaml"

    @property
    def paths(self) -> Path:
        """Return where the drop-in lies that names user and paths."""
        return self.folder / "etc/systemd/system/gymdbd.service.d/paths.conf"

    @property
    def drop_ins(self) -> Path:
        """Return the folder of the unit's drop-ins."""
        return self.paths.parent

    def install(self, *words: str | Path) -> subprocess.CompletedProcess[str]:
        """Run the installer in the world that is made of these folders."""
        mounts = " && ".join(
            f"mount --bind {shlex.quote(str(self.folder / here))} {there}"
            for here, there in _PLACES.items()
        )
        command = shlex.join([str(ROOT / "deploy" / "install.sh"), *map(str, words)])
        return _run(["unshare", "--mount", "sh", "-c", f"{mounts} && exec {command}"], self)

    def tree(self) -> set[str]:
        """Return what lies in the machine's folders."""
        places = [self.folder / name for name in _PLACES]
        return {str(one.relative_to(self.folder)) for at in places for one in at.rglob("*")}


class Mac(Machine):
    """A machine with launchd, as far as the installer of the agent sees it."""

    def __init__(self, folder: Path) -> None:
        """Make a home folder with a gymdbd and a configuration, and the doubles."""
        super().__init__(folder)
        self.home = folder / "home"
        self.state.mkdir()
        self.double("launchctl", _LAUNCHCTL)
        self.double("plutil", _PLUTIL)
        self.double("sleep")
        self.double("sudo", _SUDO)
        self.double("dscl", _DSCL)
        system = self.programs / "uname"
        system.write_text("#!/bin/sh\necho Darwin\n")
        system.chmod(0o755)
        program = self.double("gymdbd", _GYMDBD, on_path=False)
        venv = self.home / ".local" / "share" / "gymdbd" / "bin"
        venv.mkdir(parents=True)
        program.rename(venv / "gymdbd")
        (venv / "python").symlink_to(sys.executable)
        self.config = self.home / ".config" / "gymdbd" / "config.yaml"
        self.config.parent.mkdir(parents=True)
        self.config.touch()

    @property
    def plist(self) -> Path:
        """Return where the agent's property list lies."""
        return self.home / "Library" / "LaunchAgents" / "io.github.gymdbd.plist"

    def install(
        self, *words: str | Path, script: str = "launchd/install.sh"
    ) -> subprocess.CompletedProcess[str]:
        """Run the installer."""
        return _run([str(ROOT / "deploy" / script), *map(str, words)], self)

    def install_daemon(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run the installer as root for the user `trainer`, with a /Library of the test's."""
        self.double("id", _ID)
        return self.install("--daemon", "--user", "trainer", *words)

    @property
    def daemon_plist(self) -> Path:
        """Return where the LaunchDaemon's property list lies."""
        return self.folder / "Library" / "LaunchDaemons" / "io.github.gymdbd.plist"

    def uninstall_by_hand(self) -> None:
        """Make the machine one that has never seen the agent."""
        self.set("loaded", to=False)
        self.plist.unlink()
        self.calls()

    @property
    def environment(self) -> dict[str, str]:
        """Return the environment in which the doubles and the home folder are found."""
        return {**super().environment, "HOME": str(self.home), "DESTDIR": str(self.folder)}


def _run(command: list[str], machine: Machine) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        env=machine.environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
