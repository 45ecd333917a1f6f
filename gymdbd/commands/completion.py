"""print the script for Tab, in bash, zsh or fish

Once it is in place, Tab after gymdbd offers the verbs, after a verb its flags,
and where the help says JOB, BACKUP, DIR, PATH or FILE what there is of it. The
shell asks gymdbd itself at each Tab, so the script need not be renewed when
gymdbd is.

examples:
  gymdbd completion bash > ~/.local/share/bash-completion/completions/gymdbd
      for one account; needs the package bash-completion
  gymdbd completion bash > /etc/bash_completion.d/gymdbd
      for everybody, as root
  gymdbd completion zsh > ~/.zfunc/_gymdbd
      with fpath=(~/.zfunc $fpath) before compinit in ~/.zshrc
  gymdbd completion fish > ~/.config/fish/completions/gymdbd.fish
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import argparse

    from gymdbd.output import Output

NAME = "completion"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the shell."""
    parser.add_argument(
        "shell", choices=("bash", "zsh", "fish"), metavar="SHELL", help="bash, zsh or fish"
    )
    parser.set_defaults(json=False)


def run(arguments: argparse.Namespace, output: Output) -> int:
    """Print the script."""
    from gymdbd import completion

    for line in completion.script(arguments.shell).strip().splitlines():
        output.verbatim(line)
    return 0
