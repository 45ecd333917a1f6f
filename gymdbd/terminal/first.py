"""What the first steps of `gymdbd init` share: where the configuration is, and what is printed."""

from __future__ import annotations

import os
import shlex
import sys
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from gymdbd import acting, files, partials
from gymdbd.clock import Clock
from gymdbd.config import config, template
from gymdbd.errors import ConfigError
from gymdbd.runs import as_owner, examine
from gymdbd.runs.status import StatusFile
from gymdbd.terminal import by_hand, configuration
from gymdbd.words import counted

if TYPE_CHECKING:
    import argparse
    from collections.abc import Mapping
    from pathlib import Path

    from gymdbd.config.config import Config
    from gymdbd.runs.outcome import Outcome
    from gymdbd.terminal.output import Output

_WIDTH = 9
# A warning of these is what to do next: the daemon, and who is told.
_NEXT = ("status", "notify")
_AGAIN = "Correct what is wrong above, and type the same again"


@dataclass
class Steps:
    """What has been done so far: printed step by step, or as one JSON object at the end."""

    output: Output
    facts: dict[str, Any] = field(default_factory=dict)
    next_steps: list[str] = field(default_factory=list)

    def tell(self, label: str, text: str) -> None:
        """Print a step as one line, whatever names are in it."""
        self._print([f"{label:<{_WIDTH}}  {text}"])

    def show(self, text: str) -> None:
        """Print text of our own, which may have several lines."""
        self._print(text.split("\n"))

    def _print(self, lines: list[str]) -> None:
        """Print lines; nothing if the output is JSON."""
        if not self.output.json:
            with self.output.losing():
                for line in lines:
                    self.output.print_line(line)

    def finish(self, problem: Mapping[str, Any] | None = None) -> None:
        """Print what to do next, or the JSON object; `problem` is the error of a failed run."""
        facts = {**self.facts, "next": self.next_steps, **(problem or {})}
        self.output.result(facts, self._print_next)

    def _print_next(self) -> None:
        if self.next_steps:
            self.show("\nNext:")
        for number, step in enumerate(self.next_steps, 1):
            self.show(f"{number:>2}. " + step.replace("\n", "\n      "))


def place(arguments: argparse.Namespace) -> Path:
    """Return the configuration that there is, or the place for a new one."""
    try:
        return files.absolute(config.find(arguments.config))
    except ConfigError:
        return config.place_for_new()


def existing(at: Path, arguments: argparse.Namespace, steps: Steps) -> Config | None:
    """Load the configuration if there is one; it is never changed."""
    steps.facts["config"] = str(at)
    steps.facts["written"] = False
    if not os.path.lexists(at):
        return None
    arguments.config = at
    settings = configuration.load(arguments)
    if not arguments.dry_run:
        # A run that was killed after it had written the configuration may have left its partial.
        partials.begin(at)
    return settings


def write(
    at: Path, text: str, folders: list[Path], arguments: argparse.Namespace, steps: Steps
) -> Config | None:
    """Make the folders and write the configuration, and load it; None in a dry run."""
    config.parse(text, at)
    if arguments.dry_run:
        steps.facts["dry_run"] = True
        steps.facts["text"] = text
        for folder in folders:
            if not os.path.isdir(folder):  # noqa: PTH112 - a folder of another user's
                steps.tell("would", f"make the folder {folder}")
        steps.tell("would", f"write {at}:")
        steps.show("\n" + text.rstrip())
        return None
    configuration.say_acting(as_owner.act_as_owner([at], None))
    for folder in folders:
        acting.done_by_decider(folder, partial(files.make_folder, folder))
    config.create(at, text)
    steps.facts["written"] = True
    steps.tell("written", str(at))
    arguments.config = at
    return configuration.load(arguments)


def require_place(folder: Path, *, given: bool) -> None:
    """Raise unless the folder may be made: that of a disk that is not mounted must not be."""
    if given:
        acting.done_by_decider(folder.parent, lambda: files.require_folder(folder.parent))


def refuse_to_change(settings: Config, name: str, job: Mapping[str, Any]) -> ConfigError:
    """Build the error for a configuration that there is already, and that lacks this job."""
    while name in settings.jobs:
        name += "-2"
    return ConfigError(
        f"{settings.source} is there already, and lacks this line below its jobs:",
        faults=(template.line(name, job),),
        hint="add it, indented by two spaces, and type the same again; init changes nothing that "
        "exists",
    )


def check(settings: Config, steps: Steps) -> bool:
    """Run what `gymdbd check` runs, and print what is not ok; return whether there is no error."""
    checks = examine.examine(settings, Clock())
    odd = [
        one
        for one in checks
        if one.state == "error" or (one.state != "ok" and one.name not in _NEXT)
    ]
    steps.facts["checks"] = [vars(one) for one in checks]
    found = counted(len(odd), "remark") if odd else "all well"
    steps.tell("check", f"{counted(len(checks), 'check')}: {found}")
    for one in odd:
        steps.tell(one.state, f"{one.name}: {one.message}")
        if one.hint:
            steps.tell("", f"what to do: {one.hint}")
    return all(one.state != "error" for one in checks)


def finish(steps: Steps, outcome: Outcome, *, is_well: bool) -> int:
    """Print what comes next, and the error if there is one; return the exit code."""
    problem = outcome.problem() if outcome.exit_code else None
    if problem is None and not is_well:
        problem = {
            "state": "failed",
            "error": "the check has found an error",
            "hint": _AGAIN,
            "code": "check-failed",
        }
    if problem is not None:
        steps.next_steps.insert(0, _AGAIN)
    steps.finish(problem)
    if outcome.exit_code and not steps.output.json:
        by_hand.report_failure(outcome, steps.output)
    return outcome.exit_code or int(not is_well)


def service(settings: Config, database: Path, archive: Path) -> list[str]:
    """Return how to let the daemon run as a service of this machine, unless it does already."""
    if StatusFile(settings.status_file).is_daemon_alive():
        return []
    install = "in the folder of gymdbd's repository"
    is_mac = sys.platform == "darwin"
    if is_mac:
        words = ["deploy/install.sh", "--config", str(settings.source), "--venv", sys.prefix]
        return [f"Let it run by itself, {install}:\n{shlex.join(words)}"]
    words = ["sudo", "deploy/install.sh", "--database", str(database), "--archive", str(archive)]
    lines = [f"Let it run by itself, as a service, {install}:"]
    if settings.source != config.OF_THE_MACHINE:
        # The service reads that one, and two configurations would have two status files.
        there, here = str(config.OF_THE_MACHINE), str(settings.source)
        copy = shlex.join(["sudo", "install", "-D", "-m", "644", here, there])
        lines.append(f"{copy} && {shlex.join(['rm', here])}")
    return ["\n".join([*lines, shlex.join(words)])]


def notices(settings: Config) -> list[str]:
    """Return how to be told, unless somebody is."""
    if settings.notify is not None:
        return []
    where = f"{settings.source} has an example of `notify:`"
    return [f"Be told when something fails: {where}; then\ngymdbd notify --test"]
