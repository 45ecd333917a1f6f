"""Where the status file is, if the configuration does not say."""

from __future__ import annotations

from pathlib import Path

import pytest

from gymdbd.config import config, state
from gymdbd.errors import ConfigError

OWN, MACHINE = Path("~/.config/gymdbd/config.yaml"), Path("/etc/gymdbd/config.yaml")
JOBS = "jobs: {a: {kind: backup, every: 1h, database: /a.db, archive: /b}}"


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give a home folder, and nothing else that names a place."""
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("XDG_STATE_HOME", "STATE_DIRECTORY"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


@pytest.mark.parametrize(
    ("source", "environment", "expected"),
    [
        (OWN, {}, "~/.local/state/gymdbd"),
        (OWN, {"XDG_STATE_HOME": "/x"}, "/x/gymdbd"),
        (OWN, {"XDG_STATE_HOME": "x"}, "~/.local/state/gymdbd"),
        (OWN, {"STATE_DIRECTORY": "/var/lib/other"}, "/var/lib/other"),
        (OWN, {"STATE_DIRECTORY": "/var/lib/web:/var/lib/gymdbd"}, "/var/lib/gymdbd"),
        (OWN, {"STATE_DIRECTORY": "/s", "XDG_STATE_HOME": "/x"}, "/s"),
        (MACHINE, {}, "/var/lib/gymdbd"),
        (MACHINE, {"STATE_DIRECTORY": "/var/lib/gymdbd"}, "/var/lib/gymdbd"),
        (MACHINE, {"XDG_STATE_HOME": "/x"}, "/var/lib/gymdbd"),
    ],
)
def test_the_default_is_the_units_or_the_users_place(
    source: Path, environment: dict[str, str], expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For the machine's configuration, service and person have the same one."""
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    read = config.parse(JOBS, source.expanduser())
    assert read.status_file == Path(expected).expanduser() / "status.json"


@pytest.mark.parametrize(
    ("source", "place"),
    [
        ("/srv/gym.yaml", "~/.local/state/gymdbd/gym-"),
        ("~/.config/gymdbd/other.yaml", "~/.local/state/gymdbd/other-"),
        ("~/config.yaml", "~/.local/state/gymdbd/config-"),
        ("/etc/gymdbd/other.yaml", "/var/lib/gymdbd/other-"),
    ],
)
def test_a_configuration_that_has_to_be_named_has_a_folder_of_its_own(
    source: str, place: str
) -> None:
    """It is the same whenever that file is named, and is made as the usual one is."""
    folder = state.standing(Path(source).expanduser())
    assert str(folder).startswith(str(Path(place).expanduser()))
    assert folder == state.standing(Path(source).expanduser())
    assert folder != state.standing(Path("/srv/2", Path(source).name))
    if source[0] == "~":
        state.require(folder / "status.json")
        state.make(folder / "status.json")
        assert folder.stat().st_mode & 0o777 == 0o700


def test_a_link_to_the_usual_configuration_is_the_usual_one(home: Path) -> None:
    """As for who keeps the true file in a repository, and names it there."""
    OWN.expanduser().parent.mkdir(parents=True)
    OWN.expanduser().symlink_to(home / "dotfiles.yaml")
    assert state.standing(home / "dotfiles.yaml") == state.standing(OWN.expanduser())


def test_a_link_to_a_named_configuration_has_the_folder_of_its_file(home: Path) -> None:
    """Its jobs are the same, by either name."""
    (home / "gym.yaml").touch()
    (home / "links").mkdir()
    (home / "links/gym.yaml").symlink_to(home / "gym.yaml")
    assert state.standing(home / "links/gym.yaml") == state.standing(home / "gym.yaml")


def test_a_named_status_file_is_where_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing else counts then, also in a service."""
    monkeypatch.setenv("STATE_DIRECTORY", "/var/lib/gymdbd")
    read = config.parse(f"status_file: /srv/status.json\n{JOBS}", MACHINE)
    assert read.status_file == Path("/srv/status.json")


@pytest.mark.parametrize("name", ["/nonexistent", "relative"])
def test_a_user_without_a_home_has_to_name_one(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is a fault of the configuration, told with all others; in a service there is a place."""
    monkeypatch.setenv("HOME", name)
    with pytest.raises(ConfigError) as caught:
        config.parse(f"stop_timeout: soon\n{JOBS}", OWN)
    faults = [fault.partition(": ")[2].partition(":")[0] for fault in caught.value.faults]
    assert faults == ["status_file", "stop_timeout"]
    monkeypatch.setenv("STATE_DIRECTORY", "/s")
    assert config.parse(JOBS, OWN).status_file == Path("/s/status.json")


def test_only_a_usual_folder_is_made(home: Path) -> None:
    """Any other may be on a disk that is not mounted; the new one is for its owner alone."""
    state.make(home / "disk" / "status.json")
    assert not (home / "disk").exists()
    usual = home / ".local" / "state" / "gymdbd"
    state.require(usual / "status.json")
    assert not usual.exists()
    state.make(usual / "status.json")
    assert usual.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize(
    ("variable", "below"), [("STATE_DIRECTORY", ""), ("XDG_STATE_HOME", "gymdbd")]
)
def test_a_folder_that_the_environment_names_is_made(
    variable: str, below: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is a usual one there."""
    monkeypatch.setenv(variable, str(tmp_path / "given"))
    folder = tmp_path / "given" / below
    state.make(folder / "status.json")
    assert folder.is_dir()


def test_a_service_knows_if_others_look_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """That is if only its unit names the place, and commands do not see that."""
    monkeypatch.setenv("STATE_DIRECTORY", "/var/lib/gymdbd")
    file = Path("/var/lib/gymdbd/status.json")
    usual = Path("~/.local/state/gymdbd/status.json").expanduser()
    assert state.standing_elsewhere(OWN.expanduser(), file) == usual
    assert state.standing_elsewhere(MACHINE, file) is None
    assert state.standing_elsewhere(OWN.expanduser(), Path("/named/status.json")) is None
