"""The configuration: the example is complete, and every fault is named where it stands."""

from __future__ import annotations

import dataclasses
import re
import textwrap
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from gymdbd.config import config, kinds, notify, parts
from gymdbd.config.config import Config
from gymdbd.config.kinds import BackupConfig, DrillConfig, PullConfig, VerifyConfig
from gymdbd.errors import ConfigError
from gymdbd.schedule import Interval

EXAMPLE = Path(__file__).parents[2] / "config.example.yaml"
SOURCE = Path("/somewhere/config.yaml")


def example(folder: Path) -> str:
    """Return the example with all its jobs in use and its folders below `folder`."""
    text = EXAMPLE.read_text(encoding="utf-8")
    body, start, pull = text.partition("  # pull-from-pi:")
    pull = "\n".join(line.removeprefix("  #").removeprefix(" ") for line in pull.split("\n"))
    pull = textwrap.indent(pull, "  ") if start else ""
    body, start, rest = body.partition("# notify:")
    notify, gap, rest = rest.partition("\n\n")
    notify = "\n".join(line.removeprefix("#").removeprefix(" ") for line in notify.split("\n"))
    text = f"{body}{start.removeprefix('# ')}{notify}{gap}{rest}  pull-from-pi:{pull}"
    for path in ("/var/lib/gymdbd", "/home/pi/gym-controller", "~/gym-controller"):
        text = re.sub(
            rf"(?<!remote_database: )(?<!      archive: ){re.escape(path)}", str(folder), text
        )
    for below in ("instance", "data/backups/database", "data/backups/frequent"):
        (folder / below).mkdir(parents=True, exist_ok=True)
    for below in ("replica", "from-pi"):
        (folder / "data/backups" / below).mkdir(exist_ok=True)
    return text


def faults(text: str, source: Path = SOURCE) -> list[str]:
    """Return the faults found in a text, without the file's name."""
    with pytest.raises(ConfigError) as caught:
        config.parse(textwrap.dedent(text), source)
    assert caught.value.hint
    return [fault.removeprefix(f"{source}:") for fault in caught.value.faults]


def a_config(folder: Path, job: str = "", top: str = "") -> str:
    """Return a good configuration with lines added to its job (line 7 on) and on top of it."""
    good = f"status_file: {folder}/status.json\njobs:\n  nightly:\n    kind: backup\n"
    good += f"    database: {folder}/gym.db\n    archive: {folder}\n"
    return good + textwrap.indent(job, "    ") + top


def keys_of(kind: Any) -> set[str]:
    """Return the keys that a dataclass reads."""
    return {one.name for one in dataclasses.fields(kind) if "read" in one.metadata}


def named_keys(node: yaml.MappingNode) -> dict[str, yaml.Node]:
    """Return the keys of a mapping."""
    return {name.value: value for name, value in node.value}


def test_the_example_loads_with_its_commented_job(tmp_path: Path) -> None:
    """With its folders in place the example is a configuration, comment signs gone or not."""
    loaded = config.parse(example(tmp_path), SOURCE)
    here = ["nightly-backup", "frequent-backup", "weekly-drill", "nightly-proof"]
    assert list(loaded.jobs) == [*here, "pull-from-pi", "proof-of-copies", "office"]
    plain = EXAMPLE.read_text(encoding="utf-8")
    for path in ("/var/lib/gymdbd", "/home/pi/gym-controller"):
        plain = plain.replace(path, str(tmp_path))
    assert list(config.parse(plain, SOURCE).jobs) == here


def test_the_example_names_every_key_and_no_other(tmp_path: Path) -> None:
    """Every key of every section stands in the example, commented out where it excludes another."""
    text = example(tmp_path)
    root = yaml.compose(text)
    assert isinstance(root, yaml.MappingNode)
    top = named_keys(root)
    assert isinstance(top["log"], yaml.MappingNode)
    assert isinstance(top["jobs"], yaml.MappingNode)
    jobs = named_keys(top["jobs"])
    backup, frequent, drill, proof, pull, copies, watch = (
        named_keys(jobs[name])  # type: ignore[arg-type]
        for name in jobs
    )

    assert set(top) == keys_of(Config)
    assert set(named_keys(top["log"])) == keys_of(config.LogConfig)
    assert set(named_keys(top["machine"])) == keys_of(parts.MachineConfig)  # type: ignore[arg-type]
    assert set(named_keys(top["report"])) == keys_of(parts.ReportConfig)  # type: ignore[arg-type]
    assert set(named_keys(top["metrics"])) == keys_of(parts.MetricsConfig)  # type: ignore[arg-type]
    told = named_keys(top["notify"])  # type: ignore[arg-type]
    assert set(told) == keys_of(notify.NotifyConfig)
    channels = [named_keys(channel) for channel in named_keys(told["to"]).values()]  # type: ignore[arg-type]
    assert {key for channel in channels for key in channel} == keys_of(notify.ChannelConfig)
    smtp = named_keys(channels[1]["smtp"])  # type: ignore[arg-type]
    assert set(smtp) == keys_of(notify.SmtpConfig)
    assert set(backup) | set(frequent) | {"ping"} == keys_of(BackupConfig) | {"kind"}
    assert "    # ping: {" in text
    assert set(named_keys(backup["keep"])) == keys_of(parts.Keep)  # type: ignore[arg-type]
    assert set(named_keys(backup["retry"])) == keys_of(parts.Retry)  # type: ignore[arg-type]
    of_every_job = keys_of(kinds.JobConfig) | {"kind"}
    assert set(drill) | of_every_job == keys_of(DrillConfig) | {"kind"}
    probes = [set(named_keys(one)) for one in drill["probes"].value]
    assert set().union(*probes) | {"at_most"} == keys_of(parts.Probe)
    assert set(pull) - of_every_job == keys_of(PullConfig) - of_every_job
    assert set(watch) | of_every_job == keys_of(kinds.WatchConfig) | {"kind"}
    assert set(proof) | set(copies) | of_every_job == keys_of(VerifyConfig) | {"kind"}
    place = named_keys(copies["repair_from"])  # type: ignore[arg-type]
    assert set(place) == keys_of(parts.RepairConfig)
    ssh = set(named_keys(pull["ssh"]))  # type: ignore[arg-type]
    assert ssh | {"proxy_command"} == keys_of(parts.SshConfig)
    assert "# proxy_command:" in text


def test_what_the_example_shows_as_a_default_is_one(tmp_path: Path) -> None:
    """Where the comments speak of no other value, the example's value is the default."""
    loaded = config.parse(example(tmp_path), SOURCE)
    bare = config.parse(a_config(tmp_path, "every: 1h\n"), SOURCE)
    job, other = loaded.jobs["nightly-backup"], bare.jobs["nightly"]
    pull = loaded.jobs["pull-from-pi"]
    assert isinstance(job, BackupConfig)
    assert isinstance(other, BackupConfig)
    assert isinstance(pull, PullConfig)
    for name in ("checkpoint", "raw", "busy_timeout", "retry"):
        assert getattr(job, name) == getattr(other, name)
    assert dataclasses.replace(loaded.log, file=None) == bare.log
    assert loaded.stop_timeout == bare.stop_timeout
    defaults = {one.name: one.default for one in dataclasses.fields(PullConfig)}
    for name in ("method", "verify", "full_verify_every", "backup_before", "keep"):
        assert getattr(pull, name) == defaults[name]
    for name in ("on_local_change", "replica_wait"):
        assert getattr(pull, name) == defaults[name]
    assert loaded.notify is not None
    of_notices = {one.name: one.default for one in dataclasses.fields(notify.NotifyConfig)}
    for name in ("language", "after", "remind_every"):
        assert getattr(loaded.notify, name) == of_notices[name]
    for name in ("auth_timeout", "stall_timeout", "python"):
        assert getattr(pull.ssh, name) == getattr(parts.SshConfig(), name)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("shedule: x", '8: jobs.nightly.shedule: unknown key; did you mean "schedule"?'),
        ("quux_zzz: x", "8: jobs.nightly.quux_zzz: unknown key (expected one of kind, schedule"),
        ("timeout: 30", "8: jobs.nightly.timeout: expected a duration with its unit, such as 15m"),
        ("timeout: 0s", "8: jobs.nightly.timeout: expected a duration above zero"),
        ("timeout: 1.5h", "8: jobs.nightly.timeout: expected a duration with its unit"),
        ("timeout: [1h]", "8: jobs.nightly.timeout: expected a duration with its unit"),
        ("timeout:", "8: jobs.nightly.timeout: expected a duration with its unit"),
        ("timeout: 99999w", "8: jobs.nightly.timeout: expected a duration above zero and up to"),
        ("raw: yes please", "8: jobs.nightly.raw: expected true or false (got yes please)"),
        ("raw: yes", "8: jobs.nightly.raw: expected true or false (got yes)"),
        ("checkpoint: full", "8: jobs.nightly.checkpoint: expected one of"),
        ("keep: 5", "8: jobs.nightly.keep: expected a mapping"),
        (
            "keep: {days: 0}",
            "8: jobs.nightly.keep: expected at least one of days, count, hourly, daily, weekly",
        ),
        ("keep: {days: -1}", "8: jobs.nightly.keep.days: expected a whole number"),
        ("keep: {day: 1}", '8: jobs.nightly.keep.day: unknown key; did you mean "days"?'),
        ('retry: {attempts: "3"}', "8: jobs.nightly.retry.attempts: expected a whole number"),
        ("every: 2h", "8: jobs.nightly.every: is given twice"),
        ('schedule: "0 3 * * *"', "4: jobs.nightly: expected either schedule"),
        ('schedule: "0 25 * * *"', "8: jobs.nightly.schedule: not a cron schedule: bad hour"),
        ('schedule: "0 3 30 2 *"', "8: jobs.nightly.schedule: not a cron schedule: bad day-of"),
        ("schedule: 3", "8: jobs.nightly.schedule: expected cron text in quotes"),
        ("? [a, b]\n: c", "8: jobs.nightly.?: unknown key"),
    ],
)
def test_a_fault_is_named_by_line_key_and_what_was_expected(
    tmp_path: Path, line: str, expected: str
) -> None:
    """Each kind of fault gives the line, the key's path, what was expected and the nearest key."""
    found = faults(a_config(tmp_path, f"every: 1h\n{line}\n"))
    assert [fault[: len(expected)] for fault in found] == [expected]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("jobs: {}", "1: jobs: expected at least one job"),
        ("jobs: {a: {}}", "1: jobs.a: kind is missing (expected one of backup, pull"),
        ("jobs: {a: {kind: bakup}}", '1: jobs.a: unknown kind bakup; did you mean "backup"?'),
        ("jobs: {a: {kind: [x]}}", "1: jobs.a: unknown kind"),
        ("jobs: {a b: {kind: backup}}", "1: jobs.a b: expected a name of up to 64 letters"),
        ("jobs: [a]", "1: jobs: expected a mapping"),
        ("- a", "1: expected a mapping"),
        ("just text", "1: expected a mapping"),
        ("log: {max_size: 10}", "1: log.max_size: expected a size with its unit, such as 64MiB"),
        ("log: {max_size: 10MB}", "1: log.max_size: expected a size with its unit"),
        ("log: {level: loud}", "1: log.level: expected one of debug, info, warning, error"),
        ("{}", "1: jobs: is missing, and has no default"),
        ("status_file: ''", "1: status_file: expected a text"),
        ('status_file: "a\\0b"', "1: status_file: expected a text"),
        ("status_file: ~nobody-here/x", "1: status_file: "),
    ],
)
def test_a_fault_outside_a_job_is_named_as_well(text: str, expected: str) -> None:
    """The same holds at the top, in the sections below it, and for what is no mapping at all."""
    assert expected in [fault[: len(expected)] for fault in faults(text)]


_TO = "notify: {to: {a: {%s}}}"


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("notify: {}", "1: notify.to: is missing"),
        ("notify: {to: {}}", "1: notify.to: expected at least one channel"),
        ("notify: {to: {a b: {macos: true}}}", "1: notify.to.a b: expected a name"),
        ("notify: {language: de, to: {a: {macos: true}}}", "1: notify.language: expected one of"),
        ('notify: {quiet: "22-7"}', "1: notify.quiet: expected two times of the day"),
        ('notify: {quiet: "24:00-07:00"}', "1: notify.quiet: expected two times of the day"),
        ('notify: {quiet: "07:00-07:00"}', "1: notify.quiet: expected two times of the day"),
        (_TO % "macos: false", "1: notify.to.a: expected one of url, email, macos: true and comma"),
        (_TO % "macos: true, email: a@b", "1: notify.to.a: expected one of url, email"),
        (_TO % "macos: true, format: json", "1: notify.to.a: expected format only beside url"),
        (_TO % "macos: true, sender: a@b", "1: notify.to.a: expected smtp and sender only beside"),
        (_TO % "url: http://example.com/x", "1: notify.to.a: expected https://, because http://"),
        (_TO % "url: http://127.0.0.1.example.com/", "1: notify.to.a: expected https://, because"),
        (_TO % "url: ntfy.sh/x", "1: notify.to.a: expected a URL without spaces"),
        (_TO % "url: 'https://ntfy.sh:x/'", "1: notify.to.a: expected a URL with a valid host"),
        (_TO % "url: 5", "1: notify.to.a.url: expected a text in quotes, or one of file"),
        (_TO % "url: {file: a, env: b}", "1: notify.to.a.url: expected one of file, credential"),
        (_TO % "url: {credential: ../a}", "1: notify.to.a.url.credential: expected a name"),
        (_TO % "email: boss", "1: notify.to.a.email: expected one e-mail address"),
        (_TO % 'email: "a@b, c@d"', "1: notify.to.a.email: expected one e-mail address"),
        (_TO % "email: 사장@example.com", "1: notify.to.a.email: expected one e-mail address"),
        (_TO % "email: a@b, smtp: {host: c, user: d}", "1: notify.to.a.smtp: expected user and"),
        (
            _TO % "email: a@b, smtp: {host: c, tls: none}",
            "1: notify.to.a.smtp: expected tls: start",
        ),
        (
            _TO % "email: a@b, smtp: {host: c, port: 99999}",
            "1: notify.to.a.smtp: expected port: a number from 1 to 65535 (got 99999)",
        ),
        (
            _TO % "url: 'tgram://a/b', format: json",
            "1: notify.to.a: expected format only for a URL with https://",
        ),
        ("jobs: {a: {kind: verify, ping: http://b/}}", "1: jobs.a.ping: expected https://"),
        (
            "jobs: {a: {kind: verify, ping: mailto://b}}",
            "1: jobs.a.ping: expected a URL with https",
        ),
        (
            "jobs: {a: {kind: watch, peer: b, max_age: 1d, ping: {env: c}}}",
            "1: jobs.a: a watch has",
        ),
    ],
)
def test_a_fault_of_notices_is_named_as_well(line: str, expected: str) -> None:
    """What cannot work, or would send a secret where others read it, is refused at once."""
    assert expected in [fault[: len(expected)] for fault in faults(line)]


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.1.2.3", "[::1]"])
def test_a_url_of_this_machine_need_not_be_encrypted(host: str) -> None:
    """Nobody is on the way."""
    line = _TO % f'url: "http://{host}:80/x"'
    assert not [fault for fault in faults(line) if "notify" in fault]


def test_all_faults_are_told_at_once_in_the_order_of_lines(tmp_path: Path) -> None:
    """Four faults in four places make four lines, each with the file in front."""
    job = "every: 15\ncheckpont: none\nkeep:\n  days: many\n"
    text = a_config(tmp_path, job, "stop_timeout: soon\n")
    found = faults(text)
    assert [fault.partition(": ")[0] for fault in found] == ["7", "8", "10", "11"]
    with pytest.raises(ConfigError) as caught:
        config.parse(text, SOURCE)
    assert all(fault.startswith(f"{SOURCE}:") for fault in caught.value.faults)
    assert caught.value.exit_code == 2


def test_a_missing_folder_is_no_fault_and_is_not_created(tmp_path: Path) -> None:
    """A disk that is not mounted stops the runs that need it, and not the reading of the file."""
    text = a_config(tmp_path, "every: 1h\n", "log: {file: /no/log/x}\n")
    text = text.replace(str(tmp_path), "/no/disk")
    read = config.parse(text, SOURCE)
    (job,) = read.jobs.values()
    assert (read.status_file, read.log.file) == (Path("/no/disk/status.json"), Path("/no/log/x"))
    assert job.folders() == [Path("/no/disk")]
    assert not Path("/no").exists()


def test_paths_start_at_the_file_and_at_home(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A relative path starts at the folder of the file, `~` is the home folder, `..` goes up."""
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "here").mkdir()
    text = (
        "status_file: status.json\njobs: {a: {kind: backup, every: 1h, "
        "database: ~/gym.db, archive: ../here}}"
    )
    loaded = config.parse(text, tmp_path / "here" / "config.yaml")
    job = loaded.jobs["a"]
    assert isinstance(job, BackupConfig)
    assert loaded.status_file == tmp_path / "here" / "status.json"
    assert (job.database, job.archive) == (tmp_path / "gym.db", tmp_path / "here")


def test_two_databases_of_one_name_may_share_an_archive(tmp_path: Path) -> None:
    """A backup belongs to the path of its database, so that neither job minds the other."""
    (tmp_path / "b").mkdir()
    other = (
        f"  other:\n    kind: backup\n    every: 1h\n    database: {tmp_path}/b/gym.db\n"
        f"    archive: {tmp_path}\n"
    )
    loaded = config.parse(a_config(tmp_path, "every: 1h\n", other), SOURCE)
    assert list(loaded.jobs) == ["nightly", "other"]


def test_a_file_that_cannot_be_read_says_so(tmp_path: Path) -> None:
    """A missing file, a folder and text that is not UTF-8 each give their own error."""
    with pytest.raises(ConfigError, match=r"cannot read .* \(No such file"):
        config.load(tmp_path / "none.yaml")
    with pytest.raises(ConfigError, match=r"cannot read .* \(Is a directory"):
        config.load(tmp_path)
    (tmp_path / "latin.yaml").write_bytes(b"a: \xe9\n")
    with pytest.raises(ConfigError, match=r"not UTF-8 text \(byte 3\)"):
        config.load(tmp_path / "latin.yaml")


def test_a_job_that_is_not_there_is_answered_with_the_nearest(tmp_path: Path) -> None:
    """Asking for `nightli` names `nightly`, and the jobs that there are."""
    loaded = config.parse(a_config(tmp_path, "every: 1h\n"), SOURCE)
    assert loaded.job("nightly").every == Interval(timedelta(hours=1))
    with pytest.raises(ConfigError, match='did you mean "nightly"') as caught:
        loaded.job("nightli")
    assert caught.value.hint == "its jobs are: nightly"


WORDS = st.sampled_from(
    [
        "jobs:",
        "log:",
        "keep:",
        "kind:",
        "backup",
        "pull",
        "ssh:",
        "every:",
        "15m",
        "-",
        "?",
        "&a",
        "*a",
        ":",
        "{}",
        "[]",
        "{",
        "}",
        ",",
        "'",
        '"',
        "|",
        ">",
        "!!int",
        "~",
        "null",
        "0x1f",
        "1e9",
        "2026-11-01",
        "<<:",
        "status_file:",
        "/x",
        "#",
        "%",
        "@",
        "`",
        "\\",
    ]
)
LINES = st.lists(
    st.tuples(st.integers(0, 6), st.lists(WORDS | st.text(max_size=4), max_size=4)), max_size=12
).map(lambda lines: "\n".join(" " * indent + " ".join(words) for indent, words in lines))


@settings(max_examples=400, deadline=None)
@given(text=LINES | st.text())
def test_any_text_is_a_configuration_or_a_config_error(text: str) -> None:
    """Whatever the text, nothing but a ConfigError comes out of it."""
    try:
        loaded = config.parse(text, SOURCE)
    except ConfigError:
        return
    assert loaded.jobs


@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_a_good_configuration_with_a_hole_torn_in_it_is_one_or_a_config_error(
    data: st.DataObject,
) -> None:
    """Replacing any stretch of a good text by anything gives a configuration or a ConfigError."""
    good = a_config(Path("/tmp"), "every: 1h\nkeep: {days: 5}\n")  # noqa: S108 - only a folder that exists
    start = data.draw(st.integers(0, len(good)))
    end = data.draw(st.integers(start, min(len(good), start + 20)))
    try:
        config.parse(good[:start] + data.draw(LINES | st.text(max_size=8)) + good[end:], SOURCE)
    except ConfigError:
        return
