"""What the installers do to a machine, step by step, with doubles of systemd, launchd and pip."""

from __future__ import annotations

import os
import plistlib
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support import disks
from tests.support.command import ROOT, gymdbd
from tests.support.databases import make_database, tree
from tests.support.installing import Mac, Pi

if TYPE_CHECKING:
    from collections.abc import Iterator

needs_mount = pytest.mark.skipif(not disks.may_mount(), reason="mounting needs root")

_GYM, _OTHER = 12001, 12002
_DOMAIN = f"gui/{os.getuid()}"
_AGENT = f"{_DOMAIN}/io.github.gymdbd"


@pytest.fixture
def pi(tmp_path: Path) -> Pi:
    """Give a machine with systemd that has never seen gymdbd."""
    (tmp_path / "pi").mkdir()
    return Pi(tmp_path / "pi")


@pytest.fixture
def database(tmp_path: Path) -> Path:
    """Give a database in a folder whose name a unit file takes for something else."""
    folder = tmp_path / '100% "gym"\\s %h'
    folder.mkdir()
    return make_database(folder / "gym.db")


@pytest.fixture
def mac(tmp_path: Path) -> Mac:
    """Give a machine with launchd that has never seen gymdbd."""
    (tmp_path / "mac").mkdir()
    return Mac(tmp_path / "mac")


@pytest.fixture
def gyms(pi: Pi) -> Iterator[Path]:
    """Give a database in a folder of a second user, `gym`, as whom things are really run."""
    pi.add_user("gym", _GYM)
    (pi.programs / "setpriv").unlink()
    # What runs as that user may not write into the test's folders.
    pi.double("gymdbd", "exit 0", on_path=False)
    place = Path(tempfile.mkdtemp(prefix="gymdbd-install-"))
    place.chmod(0o755)
    folder = place / "home"
    folder.mkdir()
    for path in (folder, make_database(folder / "gym.db")):
        os.chown(path, _GYM, _GYM)
    try:
        yield folder / "gym.db"
    finally:
        shutil.rmtree(place)


def _install(pi: Pi, database: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return pi.install("--database", database, "--archive", database.parent / "archive", *words)


# install.sh


@needs_mount
def test_the_service_is_installed_enabled_and_started_anew(pi: Pi, database: Path) -> None:
    """In this order, and what runs in the end is asked whether all is well."""
    done = _install(pi, database)
    assert done.returncode == 0, done.stderr
    calls = pi.calls()
    steps = [
        "-m venv /opt/gymdbd",
        "-m pip install",
        "daemon-reload",
        "enable",
        "restart",
        "yaml check\n",
    ]
    places = [next(at for at, call in enumerate(calls) if step in f"{call}\n") for step in steps]
    assert places == sorted(places)
    assert (pi.is_set("active"), pi.config.exists(), pi.paths.exists()) == (True, True, True)
    assert (database.parent / "archive").stat().st_mode & 0o777 == 0o700


@needs_mount
def test_a_service_that_does_not_start_fails_the_installation(pi: Pi, database: Path) -> None:
    """The message says where to look; nobody reads that it runs."""
    pi.set("no-start")
    done = _install(pi, database)
    assert done.returncode == 1
    assert "gymdbd does not start: journalctl -u gymdbd" in done.stderr
    assert "gymdbd runs" not in done.stdout


@needs_mount
def test_a_service_that_has_something_to_put_right_fails_the_installation(
    pi: Pi, database: Path
) -> None:
    """A folder that the user may not write, say: it runs, and tonight's backup would fail."""
    pi.double("gymdbd", "exit 1", on_path=False)
    done = _install(pi, database)
    assert (done.returncode, "the check above found an error" in done.stderr) == (1, True)
    assert pi.is_set("active")


@needs_mount
def test_no_service_runs_while_its_program_is_replaced(pi: Pi, database: Path) -> None:
    """It is stopped before pip begins, and started anew after everything is in its place."""
    assert _install(pi, database).returncode == 0
    pi.calls()
    assert _install(pi, database).returncode == 0
    calls = pi.calls("systemctl", "python", "the")
    assert "the service runs while pip works" not in calls
    assert calls.index("systemctl stop gymdbd") < calls.index("systemctl restart gymdbd")
    assert pi.is_set("active")


@needs_mount
def test_a_service_goes_on_with_what_it_had_if_pip_fails(pi: Pi, database: Path) -> None:
    """The update has failed, and tonight's backup is made all the same."""
    assert _install(pi, database).returncode == 0
    before = pi.tree()
    pi.set("no-pip")
    assert _install(pi, database).returncode != 0
    assert pi.is_set("active")
    assert pi.tree() == before


@needs_mount
def test_a_service_that_was_stopped_by_hand_is_not_started_by_a_failed_update(
    pi: Pi, database: Path
) -> None:
    """Whoever stopped it may have had a reason."""
    assert _install(pi, database).returncode == 0
    pi.set("active", to=False)
    pi.set("no-pip")
    assert _install(pi, database).returncode != 0
    assert not pi.is_set("active")


@needs_mount
@pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed"
)
def test_paths_that_systemd_would_expand_are_named_as_they_are(pi: Pi, database: Path) -> None:
    """Percent signs, quotes and backslashes: the unit may write there, and nowhere else."""
    assert _install(pi, database).returncode == 0
    folder = '100%% \\"gym\\"\\\\s %%h'
    assert [line for line in pi.paths.read_text().splitlines() if line.startswith("Read")] == [
        f'ReadWritePaths="-{database.parent.parent}/{folder}"',
        f'ReadWritePaths="-{database.parent.parent}/{folder}/archive"',
    ]
    unit = pi.paths.parents[1] / "gymdbd.service"
    done = subprocess.run(
        ["systemd-analyze", "--no-pager", "verify", "--man=no", unit],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert "paths.conf" not in done.stderr


@needs_mount
def test_another_user_than_the_settled_one_is_refused(pi: Pi, database: Path) -> None:
    """Files in the archive are the first one's; nothing is changed, and it says what to edit."""
    assert _install(pi, database).returncode == 0
    before, settings = pi.tree(), pi.paths.read_text()
    pi.calls()
    done = _install(pi, database, "--user", "daemon")
    assert done.returncode == 1
    assert "the service runs as root: to change that, edit" in done.stderr
    assert [call for call in pi.calls() if "is-active" not in call] == []
    assert (pi.tree(), pi.paths.read_text()) == (before, settings)


@needs_mount
def test_an_update_keeps_the_user_that_paths_conf_names(pi: Pi, database: Path) -> None:
    """Whoever owns the database: what is checked in the end is checked as that user."""
    assert _install(pi, database, "--user", "daemon").returncode == 0
    pi.calls()
    done = _install(pi, database)
    assert (done.returncode, done.stdout.splitlines()[-1]) == (
        0,
        "gymdbd runs as daemon; next: gymdbd status, journalctl -u gymdbd",
    )
    asked = pi.calls("setpriv")
    assert [call for call in asked if "--reuid daemon --regid daemon" not in call] == []
    assert asked[-1].endswith("yaml check")
    assert "User=daemon" in pi.paths.read_text().splitlines()


@needs_mount
def test_what_the_user_has_edited_stays(pi: Pi, database: Path) -> None:
    """Configuration and paths.conf are written once."""
    assert _install(pi, database).returncode == 0
    for path in (pi.config, pi.paths):
        path.write_text(path.read_text() + "# ours\n")
    assert _install(pi, database).returncode == 0
    for path in (pi.config, pi.paths):
        assert path.read_text().endswith("# ours\n")


@needs_mount
def test_the_configuration_that_init_wrote_is_the_services(pi: Pi, database: Path) -> None:
    """It stays, and its database decides as whom the service runs and where it may write."""
    archive = database.parent / "archive"
    pi.config.parent.mkdir(parents=True)
    words = ("-c", pi.config, "init", "--database", database, "--archive", archive)
    done = gymdbd(*words, prefix=["env", f"HOME={database.parent}"])
    assert done.returncode == 0, done.stderr
    before = pi.config.read_bytes()
    done = pi.install("--archive", archive)
    assert done.returncode == 0, done.stderr
    assert pi.config.read_bytes() == before
    written = pi.paths.read_text().replace("%%", "%").replace('\\"', '"').replace("\\\\", "\\")
    for place in (database.parent, archive):
        assert f'ReadWritePaths="-{place}"' in written


@needs_mount
def test_an_installation_without_its_database_is_refused_before_anything_is_done(
    pi: Pi, tmp_path: Path
) -> None:
    """A misspelt path is told, and not written into a configuration."""
    before = pi.tree()
    done = _install(pi, tmp_path / "nowhere" / "gym.db")
    assert done.returncode == 1
    assert f"there is no database {tmp_path}/nowhere/gym.db" in done.stderr
    assert (pi.tree(), pi.calls()) == (before, [])
    assert not (tmp_path / "nowhere").exists()


@needs_mount
def test_the_package_that_makes_environments_is_installed_if_it_is_missing(
    pi: Pi, database: Path
) -> None:
    """Debian has it apart from Python."""
    pi.set("no-venv")
    assert _install(pi, database).returncode == 0
    assert pi.calls("apt-get") == ["apt-get install -y python3-venv"]


@needs_mount
def test_an_uninstallation_leaves_configuration_and_backups(pi: Pi, database: Path) -> None:
    """The service is stopped and disabled, and its program is gone."""
    before = pi.tree()
    assert _install(pi, database).returncode == 0
    (database.parent / "archive" / "gym_backup_20261128_030000.db").touch()
    pi.calls()
    assert pi.install("--uninstall").returncode == 0
    assert "systemctl disable --quiet --now gymdbd" in pi.calls()
    assert not pi.is_set("active")
    assert {one for one in pi.tree() - before if "example" not in one} == {
        "etc/gymdbd",
        "etc/gymdbd/config.yaml",
    }
    assert tree(database.parent / "archive").keys() == {"gym_backup_20261128_030000.db"}


@needs_mount
@pytest.mark.parametrize("flags", [[], ["--uninstall"]])
@pytest.mark.parametrize("installed", [True, False])
def test_a_dry_run_of_the_installer_only_asks(
    pi: Pi, database: Path, flags: list[str], *, installed: bool
) -> None:
    """No file is written, and systemd is told nothing, whether it is installed or not."""
    if installed:
        assert _install(pi, database).returncode == 0
        pi.calls()
    before = pi.tree()
    done = _install(pi, database, "--dry-run", *flags)
    assert done.returncode == 0, done.stderr
    assert "would run: systemctl" in done.stdout
    asked = ("systemctl is-active", "systemctl cat", "python3 -c", "setpriv", "gymdbd")
    assert [call for call in pi.calls() if not call.startswith(asked)] == []
    assert (pi.tree(), pi.is_set("active")) == (before, installed)
    assert (database.parent / "archive").exists() == installed


@needs_mount
def test_what_is_installed_is_for_everybody_to_read(pi: Pi, gyms: Path) -> None:
    """Under root's umask of 077 too: the service's user starts what was installed."""
    old = os.umask(0o077)
    try:
        done = _install(pi, gyms)
    finally:
        os.umask(old)
    assert done.returncode == 0, done.stderr
    places = (pi.folder / "opt" / "gymdbd", pi.config.parent, pi.paths.parent)
    assert [place.stat().st_mode & 0o777 for place in places] == [0o755] * 3


@needs_mount
def test_the_archive_is_made_by_the_user_whose_folder_it_is_in(pi: Pi, gyms: Path) -> None:
    """As private as before, with every folder on the way to it."""
    done = pi.install("--database", gyms, "--archive", gyms.parent / "data" / "backups")
    assert done.returncode == 0, done.stderr
    made = [gyms.parent / "data", gyms.parent / "data" / "backups"]
    seen = [(path.stat().st_uid, path.stat().st_mode & 0o777) for path in made]
    assert seen == [(_GYM, 0o700)] * 2


@needs_mount
def test_a_service_of_another_user_gets_its_archive_in_the_applications_folder(
    pi: Pi, gyms: Path
) -> None:
    """The application's user makes the first folder on the way, and gives it away."""
    pi.add_user("backups", _OTHER)
    made = [gyms.parent / "data", gyms.parent / "data" / "backups"]
    done = pi.install("--database", gyms, "--archive", made[1], "--user", "backups")
    assert done.returncode == 0, done.stderr
    seen = [(path.stat().st_uid, path.stat().st_mode & 0o777) for path in made]
    assert seen == [(_OTHER, 0o700)] * 2


@needs_mount
def test_root_makes_no_folder_where_the_users_link_leads(pi: Pi, gyms: Path) -> None:
    """The user would own a folder of theirs in a place that is root's."""
    roots = gyms.parents[1] / "roots"
    roots.mkdir()
    (gyms.parent / "data").symlink_to(roots)
    os.chown(gyms.parent / "data", _GYM, _GYM, follow_symlinks=False)
    done = pi.install("--database", gyms, "--archive", gyms.parent / "data" / "backups")
    assert (done.returncode, "gym may not make" in done.stderr) == (1, True)
    assert list(roots.iterdir()) == []


@needs_mount
def test_no_archive_is_made_in_the_folder_of_a_third_user(pi: Pi, gyms: Path) -> None:
    """That user could put another folder in its place, and is not asked to give it away."""
    theirs = gyms.parents[1] / "theirs"
    theirs.mkdir()
    os.chown(theirs, _OTHER, _OTHER)
    pi.add_user("backups", _OTHER)
    done = pi.install("--database", gyms, "--archive", theirs / "backups")
    assert (done.returncode, "gym may not make" in done.stderr) == (1, True)
    assert list(theirs.iterdir()) == []


@needs_mount
def test_an_archive_below_a_folder_of_roots_is_given_to_the_user(pi: Pi, gyms: Path) -> None:
    """As /var/backups is: root makes what the user may not, and nothing else."""
    (pi.folder / "opt" / "roots").mkdir()
    done = pi.install("--database", gyms, "--archive", "/opt/roots/gym/daily")
    assert done.returncode == 0, done.stderr
    made = [pi.folder / "opt" / "roots" / name for name in ("gym", "gym/daily")]
    seen = [(path.stat().st_uid, path.stat().st_mode & 0o777) for path in made]
    assert seen == [(_GYM, 0o700)] * 2
    assert (pi.folder / "opt" / "roots").stat().st_uid == 0


@needs_mount
def test_a_service_that_was_roots_becomes_the_owners(pi: Pi, gyms: Path) -> None:
    """The database was copied as root, and has since been given to whom it belongs."""
    os.chown(gyms, 0, 0)
    done = _install(pi, gyms)
    assert "gymdbd runs as root" in done.stdout
    assert "was copied as root" in done.stdout
    pi.paths.write_text(pi.paths.read_text() + "# ours\n")
    os.chown(gyms, _GYM, _GYM)
    again = pi.install()
    assert again.returncode == 0, again.stderr
    assert "gymdbd runs as gym" in again.stdout
    text = pi.paths.read_text().splitlines()
    assert ["User=gym" in text, "Group=gym" in text, "# ours" in text] == [True] * 3


@needs_mount
def test_a_user_that_is_not_root_stays_whoever_owns_the_database_now(pi: Pi, gyms: Path) -> None:
    """A restored copy that is root's makes no service root's."""
    assert _install(pi, gyms).returncode == 0
    before = pi.paths.read_text()
    os.chown(gyms, 0, 0)
    assert "gymdbd runs as gym" in pi.install().stdout
    assert pi.paths.read_text() == before


@needs_mount
def test_gymdbd_is_installed_before_the_database_is_there(pi: Pi, gyms: Path) -> None:
    """As the owner of the folder that it is going to be in; what is to come is told."""
    gyms.unlink()
    pi.double("gymdbd", "exit 1", on_path=False)
    done = _install(pi, gyms)
    assert done.returncode == 0, done.stderr
    assert f"there is no {gyms} yet" in done.stdout
    assert "User=gym" in pi.paths.read_text().splitlines()
    assert gyms.parent.joinpath("archive").stat().st_uid == _GYM
    assert not gyms.exists()


@needs_mount
def test_without_a_network_one_line_names_the_wheels(pi: Pi, database: Path) -> None:
    """What pip says about it, once for each attempt, is not for people."""
    settings = "PIP_CONFIG_FILE=/dev/null PIP_RETRIES=1 PIP_INDEX_URL=https://192.0.2.1/simple"
    pip = f'exec env -i PATH="$PATH" {settings} unshare --net {sys.executable} "$@"\n'
    pi.double("pip", pip, on_path=False)
    done = _install(pi, database)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1, done.stderr
    line = done.stderr
    assert "cannot reach the package index" in line
    assert "--wheels" in line


@needs_mount
def test_what_pip_says_about_something_else_is_shown(pi: Pi, database: Path) -> None:
    """A full disk, or a compiler that is missing."""
    pi.double("pip", 'echo "No space left on device" >&2; exit 1\n', on_path=False)
    done = _install(pi, database)
    assert done.returncode == 1
    assert "No space left on device\n" in done.stderr
    assert "--wheels" not in done.stderr


@needs_mount
@pytest.mark.parametrize("source", ["wheels", "network"])
@pytest.mark.parametrize("piwheels", [True, False])
@pytest.mark.parametrize("machine", ["armv7l", "aarch64"])
def test_on_32_bit_arm_what_speaks_ssh_is_installed_where_there_are_wheels_of_it(
    pi: Pi, database: Path, machine: str, source: str, *, piwheels: bool
) -> None:
    """Everything else in any case. pip is told that it is 32 bits under a 64-bit kernel, too."""
    pi.be(machine, pointer=4)
    words = []
    if source == "wheels":
        folder = pi.folder / "wheels"
        folder.mkdir()
        names = [
            "gymdbd-0.2.0-py3-none-any.whl",
            *["pynacl-1.6.2-cp38-linux_armv7l.whl"] * piwheels,
        ]
        for name in names:
            (folder / name).touch()
        words = ["--wheels", str(folder)]
    elif piwheels:
        settings = "[global]\nextra-index-url=https://www.piwheels.org/simple\n"
        (pi.folder / "etc" / "pip.conf").write_text(settings)
    done = _install(pi, database, *words)
    assert done.returncode == 0, done.stderr
    # The first call installs; with a folder, a second makes sure of gymdbd itself.
    wanted = [call.endswith("[ssh]") for call in pi.calls("setarch")]
    assert wanted == [piwheels, False][: 1 + bool(words)]


@needs_mount
def test_on_64_bit_arm_nothing_is_left_out(pi: Pi, database: Path) -> None:
    """No extra is asked for, because nothing is missing without it."""
    pi.be("aarch64", pointer=8)
    done = _install(pi, database)
    assert (done.returncode, pi.calls("setarch")) == (0, [])
    assert "pulls nothing" not in done.stdout


@needs_mount
def test_an_extra_is_installed_if_it_is_asked_for_or_the_configuration_needs_it(
    pi: Pi, database: Path
) -> None:
    """After gymdbd, which knows what the configuration needs; from a folder of wheels, too."""
    assert _install(pi, database).returncode == 0
    assert [call for call in pi.calls() if "[notify]" in call] == []
    assert _install(pi, database, "--with", "notify").returncode == 0
    assert pi.calls("python")[-1].endswith("[notify]")
    pi.need("extra notify", "network notify")
    wheels = pi.folder / "wheels"
    wheels.mkdir()
    (wheels / "gymdbd-0.2.0-py3-none-any.whl").touch()
    assert _install(pi, database, "--wheels", str(wheels)).returncode == 0
    assert pi.calls("python")[-1].endswith(f"--no-index --find-links {wheels} gymdbd[notify]")


@needs_mount
def test_an_extra_that_there_is_not_is_refused_before_anything_is_done(
    pi: Pi, database: Path
) -> None:
    """A misspelt one, too; the message names those that there are."""
    done = _install(pi, database, "--with", "notices")
    assert (done.returncode, "--with takes: notify ssh" in done.stderr) == (2, True)
    assert pi.calls() == []


@needs_mount
def test_backups_are_made_even_if_an_extra_cannot_be_installed(pi: Pi, database: Path) -> None:
    """The service runs as before; that somebody is not told is the last line, and the exit code."""
    pi.need("extra notify")
    pi.set("no-extra")
    done = _install(pi, database)
    assert done.returncode == 1
    assert "gymdbd runs, but pip could not install what it needs for: notify" in done.stderr
    assert pi.is_set("active")


@needs_mount
def test_the_unit_gets_a_network_if_the_configuration_needs_one(pi: Pi, database: Path) -> None:
    """Once, and with the reason; what the owner makes of it stays."""
    assert _install(pi, database).returncode == 0
    assert [path.name for path in pi.drop_ins.iterdir()] == ["paths.conf"]
    pi.need("network pull-from-pi", "network notify")
    assert _install(pi, database).returncode == 0
    network = pi.drop_ins / "network.conf"
    assert network.read_text().splitlines() == [
        "# The network, for: pull-from-pi, notify",
        "[Service]",
        "PrivateNetwork=no",
        "IPAddressDeny=",
        "RestrictAddressFamilies=AF_INET AF_INET6",
    ]
    network.write_text("# ours\n")
    assert _install(pi, database).returncode == 0
    assert network.read_text() == "# ours\n"


@needs_mount
def test_a_unit_that_has_a_network_by_another_drop_in_keeps_that(pi: Pi, database: Path) -> None:
    """The owner's may allow less than the installer's, which systemd would read after it."""
    pi.need("network notify")
    pi.set("networked")
    assert _install(pi, database).returncode == 0
    assert not (pi.drop_ins / "network.conf").exists()


@needs_mount
def test_the_unit_is_handed_the_secrets_that_the_configuration_names(
    pi: Pi, database: Path
) -> None:
    """Each has one line, whatever the owner has written; a folder for them is only root's."""
    pi.need("credential smtp", "credential hc.nightly")
    done = _install(pi, database)
    assert done.returncode == 0, done.stderr
    loads, folder = pi.drop_ins / "credentials.conf", pi.config.parent / "credentials"
    assert (folder.stat().st_mode & 0o777, folder.stat().st_uid) == (0o700, 0)
    assert f"there is no {'/etc/gymdbd/credentials/smtp'} yet" in done.stdout
    first = loads.read_text()
    (pi.drop_ins / "ours.conf").write_text(
        "[Service]\nLoadCredentialEncrypted=telegram:/etc/gymdbd/telegram.cred\n"
    )
    loads.write_text(f"{first}[Unit]\n# ours\n")
    pi.need("credential smtp", "credential hc.nightly", "credential telegram", "credential hc")
    assert _install(pi, database).returncode == 0
    assert loads.read_text() == (
        f"{first}[Unit]\n# ours\n"
        "[Service]\nLoadCredential=hc:/etc/gymdbd/credentials/hc\nSetCredential=hc:\\n\n"
    )
    assert first.count("LoadCredential=") == 2


@needs_mount
def test_the_url_in_a_credential_is_seen_by_the_services_user_for_the_question_only(
    pi: Pi, gyms: Path
) -> None:
    """By its beginning an extra is known; the copy is in memory, of that user, and then gone."""
    folder = '"$CREDENTIALS_DIRECTORY"'
    facts = f'"$(stat -c "%a %U" {folder})|${{CREDENTIALS_DIRECTORY%/*}}"'
    asked = f'[ "${{*##* }}" = --needs ] && [ {facts} = "700 gym|/run" ]'
    asked += f" && grep -q ^tgram: {folder}/owner"
    pi.double("gymdbd", f'{asked} && echo "extra notify"\nexit 0\n', on_path=False)
    # As that user it may not write down its calls.
    text = (pi.state / "gymdbd").read_text().splitlines()
    (pi.state / "gymdbd").write_text("\n".join([text[0], *text[3:]]))
    secret = pi.config.parent / "credentials" / "owner"
    secret.parent.mkdir(parents=True, mode=0o700)
    secret.touch(0o600)
    secret.write_text("tgram://token/chat\n")
    assert _install(pi, gyms).returncode == 0
    assert pi.calls("python")[-1].endswith("[notify]")
    assert list((pi.folder / "run").iterdir()) == []


@needs_mount
def test_those_who_pull_are_noted_in_a_folder_of_the_databases_owner(pi: Pi, gyms: Path) -> None:
    """That is the account of the SSH login; others may look, and the service need not write it."""
    pi.add_user("backups", _OTHER)
    peers = pi.folder / "lib" / "gymdbd-peers"
    for _ in range(2):
        archive = gyms.parent / "archive"
        done = pi.install("--database", gyms, "--archive", archive, "--user", "backups")
        assert done.returncode == 0, done.stderr
        facts = peers.stat()
        assert (facts.st_uid, facts.st_gid, facts.st_mode & 0o777) == (_GYM, _GYM, 0o755)
        (peers / "mac-office").touch()
    assert pi.install("--uninstall").returncode == 0
    assert (peers / "mac-office").exists()
    (peers / "mac-office").unlink()
    assert pi.install("--uninstall").returncode == 0
    assert not peers.exists()


@needs_mount
def test_a_dry_run_tells_what_the_configuration_would_get(pi: Pi, database: Path) -> None:
    """Extras, network and secrets; nothing is written."""
    assert _install(pi, database).returncode == 0
    pi.need("extra notify", "network notify", "credential smtp")
    before = pi.tree()
    done = _install(pi, database, "--dry-run")
    assert done.returncode == 0, done.stderr
    assert "\\[notify\\]" in done.stdout
    assert "would write /etc/systemd/system/gymdbd.service.d/network.conf:" in done.stdout
    assert "would add LoadCredential=smtp to" in done.stdout
    assert pi.tree() == before


# install.sh on a Mac


@pytest.mark.parametrize("way", ["--with", "configuration"])
def test_the_agents_environment_gets_the_extra_as_well(mac: Mac, way: str) -> None:
    """If it is asked for, or needed; the agent runs even if pip fails, and that is told."""
    python = mac.home / ".local" / "share" / "gymdbd" / "bin" / "python"
    python.unlink()
    mac.double("python", '[ ! -e "$state/no-extra" ] || [ "$1" = -c ]\n', on_path=False).rename(
        python
    )
    words = ["--with", "notify"] if way == "--with" else []
    if not words:
        mac.need("extra notify")
    assert mac.install(*words).returncode == 0
    (call,) = [call for call in mac.calls("python") if "pip" in call]
    assert call.endswith(f" {ROOT}[notify]")
    mac.set("no-extra")
    done = mac.install(*words)
    assert (done.returncode, "could not install what it needs for: notify" in done.stderr) == (
        1,
        True,
    )
    assert mac.is_set("loaded")


def test_an_extra_that_there_is_not_is_refused_before_a_mac_is_changed(mac: Mac) -> None:
    """A mistyped name leaves no agent behind that lacks what was meant."""
    done = mac.install("--with", "notfy")
    assert (done.returncode, "--with takes: notify ssh" in done.stderr) == (2, True)
    assert not [call for call in mac.calls("python") if "pip" in call]
    assert not mac.is_set("loaded")


def test_the_agent_is_checked_written_and_started(mac: Mac) -> None:
    """Configuration first, then the property list, then launchd; the logs are private."""
    done = mac.install()
    assert done.returncode == 0, done.stderr
    assert mac.calls() == [
        f"gymdbd -c {mac.config} schedule --count 1",
        f"gymdbd -c {mac.config} check --needs",
        f"plutil -lint -s {mac.plist}.new",
        f"launchctl print {_AGENT}",
        f"launchctl enable {_AGENT}",
        f"launchctl bootstrap {_DOMAIN} {mac.plist}",
    ]
    assert mac.is_set("loaded")
    assert plistlib.loads(mac.plist.read_bytes())["WorkingDirectory"] == str(mac.home)
    assert (mac.home / "Library" / "Logs" / "gymdbd").stat().st_mode & 0o777 == 0o700


def test_both_places_of_the_installer_install_the_agent_on_a_mac(mac: Mac) -> None:
    """Whoever knows the place of release 0.1, deploy/launchd, gets the same as the others."""
    assert mac.install().returncode == 0
    (calls, agent) = (mac.calls(), mac.plist.read_bytes())
    mac.uninstall_by_hand()
    assert mac.install(script="install.sh").returncode == 0
    assert (mac.calls(), mac.plist.read_bytes()) == (calls, agent)


def test_an_agent_that_runs_has_ended_before_it_is_started_anew(mac: Mac) -> None:
    """It refuses one that is still ending, and the old program would go on."""
    assert mac.install().returncode == 0
    mac.calls()
    done = mac.install()
    assert done.returncode == 0, done.stderr
    looks = f"launchctl print {_AGENT}"
    assert mac.calls("launchctl", "sleep") == [
        looks,
        f"launchctl bootout {_AGENT}",
        *([looks, "sleep 1"] * 3),
        looks,
        f"launchctl enable {_AGENT}",
        f"launchctl bootstrap {_DOMAIN} {mac.plist}",
    ]
    assert mac.is_set("loaded")


def test_an_agent_that_does_not_end_fails_the_installation(mac: Mac) -> None:
    """After the time that launchd itself gives it; it is not said to run anew."""
    assert mac.install().returncode == 0
    (mac.state / "loaded").write_text("1000")
    done = mac.install()
    assert (done.returncode, "does not stop" in done.stderr) == (1, True)
    assert len(mac.calls("sleep")) >= 60
    assert "runs;" not in done.stdout


def test_an_agent_that_launchd_refuses_fails_the_installation(mac: Mac) -> None:
    """Nobody reads that it runs."""
    mac.double("launchctl", '[ "$1" != print ] && [ "$1" != bootstrap ]\n')
    done = mac.install()
    assert done.returncode != 0
    assert "runs;" not in done.stdout


@pytest.mark.parametrize("fault", ["faulty", "no-plist"])
def test_an_agent_that_would_not_start_leaves_the_one_that_runs(mac: Mac, fault: str) -> None:
    """A fault in the configuration or the property list is told before anything is stopped."""
    assert mac.install().returncode == 0
    before = mac.plist.read_bytes()
    mac.plist.write_bytes(before + b"<!-- as it was -->")
    mac.calls()
    mac.set(fault)
    assert mac.install().returncode != 0
    assert mac.calls("launchctl") == []
    assert mac.is_set("loaded")
    assert mac.plist.read_bytes() == before + b"<!-- as it was -->"


def test_a_dry_run_names_everything_that_the_agent_lacks(mac: Mac) -> None:
    """Nobody has to try again to learn of the second."""
    (mac.home / ".local" / "share" / "gymdbd" / "bin" / "gymdbd").unlink()
    mac.config.unlink()
    refusals = [line for line in mac.install("--dry-run").stdout.splitlines() if "refuse" in line]
    assert [line.partition(":")[2].split()[:2] for line in refusals] == [
        ["no", "gymdbd"],
        ["no", "configuration:"],
    ]


@pytest.mark.parametrize("missing", ["program", "configuration"])
def test_an_agent_without_its_parts_is_refused_by_name(mac: Mac, missing: str) -> None:
    """It would be started again and again, for ever."""
    venv = mac.home / ".local" / "share" / "gymdbd"
    (venv / "bin" / "gymdbd" if missing == "program" else mac.config).unlink()
    done = mac.install()
    named = f"no gymdbd in {venv}" if missing == "program" else f"write {mac.config}"
    assert (done.returncode, named in done.stderr) == (1, True)
    assert mac.calls() == []
    assert not mac.plist.exists()


def test_an_uninstalled_agent_has_ended_and_leaves_what_it_wrote(mac: Mac) -> None:
    """The property list goes; configuration and logs stay."""
    assert mac.install().returncode == 0
    logs = mac.home / "Library" / "Logs" / "gymdbd"
    (logs / "stderr.log").touch()
    assert mac.install("--uninstall").returncode == 0
    assert not mac.is_set("loaded")
    assert (mac.plist.exists(), mac.config.exists()) == (False, True)
    assert [one.name for one in logs.iterdir()] == ["stderr.log"]


@pytest.mark.parametrize("flags", [[], ["--uninstall"]])
def test_a_dry_run_of_the_agents_installer_only_asks(mac: Mac, flags: list[str]) -> None:
    """Nothing is told to launchd, and the property list stays as it is."""
    assert mac.install().returncode == 0
    before = mac.plist.read_bytes()
    mac.calls()
    assert mac.install("--dry-run", *flags).returncode == 0
    asked = [call for call in mac.calls("launchctl", "plutil", "gymdbd") if "--needs" not in call]
    assert asked == []
    assert mac.is_set("loaded")
    assert mac.plist.read_bytes() == before


@pytest.mark.parametrize("code", [125, 113, 5])
def test_without_a_login_the_launch_daemon_is_offered(mac: Mac, code: int) -> None:
    """Over SSH launchd has no place for an agent, which it says by one of several codes."""
    (mac.state / "refusal").write_text(str(code))
    mac.set("no-login")
    done = mac.install()
    assert (done.returncode, f"launchctl: {code})" in done.stderr) == (1, True)
    assert "nobody is logged in" in done.stderr
    assert "--daemon" in done.stderr
    assert "runs;" not in done.stdout


@pytest.mark.parametrize("code", [125, 113])
def test_a_code_that_says_that_nobody_is_logged_in_is_believed(mac: Mac, code: int) -> None:
    """The domain may be there without a session at the screen in it."""
    (mac.state / "refusal").write_text(str(code))
    done = mac.install()
    assert (done.returncode, "nobody is logged in" in done.stderr) == (1, True)


def test_with_a_login_a_refusal_is_told_as_what_it_is(mac: Mac) -> None:
    """The code 5 has many reasons; with somebody logged in, a login is none of them."""
    (mac.state / "refusal").write_text("5")
    done = mac.install()
    assert (done.returncode, "print-disabled" in done.stderr) == (1, True)
    assert "--daemon" not in done.stderr


def test_a_launch_daemon_runs_as_a_user_and_needs_no_login(mac: Mac) -> None:
    """It is root's file, with the user's name and home in it; what it cannot use is said."""
    mac.set("no-login")
    done = mac.install_daemon()
    assert done.returncode == 0, done.stderr
    job = plistlib.loads(mac.daemon_plist.read_bytes())
    assert (job["UserName"], job["WorkingDirectory"]) == ("trainer", str(mac.home))
    assert job["EnvironmentVariables"]["HOME"] == str(mac.home)
    assert job["ProgramArguments"][0].startswith(str(mac.home))
    calls = mac.calls()
    assert f"sudo -u trainer {mac.home}/.local/share/gymdbd/bin/gymdbd" in " ".join(calls)
    assert f"sudo -u trainer mkdir -p -m 700 {mac.home}/Library/Logs/gymdbd" in calls
    assert f"launchctl bootstrap system {mac.daemon_plist}" in calls
    assert not mac.plist.exists()
    told = [word for word in ("agent", "keychain", "gymdbd authorize") if word in done.stdout]
    assert told == ["agent", "keychain", "gymdbd authorize"]
    assert mac.install_daemon("--uninstall").returncode == 0
    assert (mac.daemon_plist.exists(), mac.is_set("loaded")) == (False, False)


@pytest.mark.parametrize("code", [125, 5])
def test_a_launch_daemon_that_launchd_refuses_is_not_told_of_logins(mac: Mac, code: int) -> None:
    """It needs none, whatever the code would mean for an agent."""
    (mac.state / "refusal").write_text(str(code))
    mac.set("no-login")
    done = mac.install_daemon()
    assert (done.returncode, f"(launchctl: {code})" in done.stderr) == (1, True)
    assert "logged in" not in done.stderr
    assert "runs" not in done.stdout


@pytest.mark.parametrize("user", ["root", "nobody-there"])
def test_a_launch_daemon_of_nobody_or_root_is_refused(mac: Mac, user: str) -> None:
    """Nothing runs as root for want of a name."""
    mac.install_daemon("--dry-run")
    done = mac.install("--daemon", "--user", user)
    assert (done.returncode, mac.daemon_plist.exists()) == (2, False)


def test_a_launch_daemon_needs_root(mac: Mac) -> None:
    """Without it, nothing is begun."""
    mac.set("no-root")
    done = mac.install_daemon()
    assert (done.returncode, "sudo deploy/install.sh --daemon" in done.stderr) == (1, True)
    assert mac.calls("launchctl") == []


def test_agent_and_launch_daemon_are_not_installed_together(mac: Mac) -> None:
    """Both would run the same jobs; the message says which command removes the other."""
    assert mac.install().returncode == 0
    mac.calls()
    done = mac.install_daemon()
    assert (done.returncode, "--uninstall" in done.stderr) == (1, True)
    assert mac.calls("launchctl") == []
    assert mac.install("--uninstall").returncode == 0
    assert mac.install_daemon().returncode == 0
    assert "--daemon --uninstall" in mac.install().stderr


def test_a_user_is_named_for_a_launch_daemon_only(mac: Mac) -> None:
    """An agent runs as who installs it."""
    assert mac.install("--user", "trainer").returncode == 2
    assert mac.calls("launchctl") == []


def test_on_linux_there_is_no_launch_daemon(mac: Mac) -> None:
    """There the service has always run without a login."""
    (mac.programs / "uname").write_text("#!/bin/sh\necho Linux\n")
    done = mac.install("--daemon", script="install.sh")
    assert (done.returncode, "unknown argument --daemon" in done.stderr) == (2, True)


def test_without_a_new_python_the_installer_says_how_to_get_one(mac: Mac) -> None:
    """Apple's is 3.9, where pip only says that no version fits."""
    (mac.home / ".local" / "share" / "gymdbd" / "bin" / "gymdbd").unlink()
    assert "3 -m venv" in mac.install().stderr
    for version in ("3", "3.14", "3.13", "3.12", "3.11"):
        mac.double(f"python{version}", "exit 1\n")
    told = mac.install().stderr
    assert ("Python 3.11 or newer" in told, "uv venv" in told) == (True, True)


def test_a_venv_whose_python_is_gone_is_named(mac: Mac) -> None:
    """An update of Homebrew removes the Python that a virtual environment leads to."""
    python = mac.home / ".local" / "share" / "gymdbd" / "bin" / "python"
    python.unlink()
    python.symlink_to("/opt/homebrew/Cellar/python@3.12/3.12.1/bin/python3.12")
    done = mac.install()
    assert (done.returncode, "Homebrew" in done.stderr) == (1, True)
    assert mac.calls("launchctl", "gymdbd") == []
