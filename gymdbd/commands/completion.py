"""print the Tab completion script for bash, zsh or fish

With the script installed, Tab completes commands, flags, and the values that
the help calls JOB, BACKUP, TIME, DIR, PATH or FILE. The script asks gymdbd at
each Tab, so it does not need to be updated together with gymdbd.

examples:
  gymdbd completion bash > ~/.local/share/bash-completion/completions/gymdbd
      for one account; needs the package bash-completion
  gymdbd completion bash > /etc/bash_completion.d/gymdbd
      for all accounts, as root
  gymdbd completion zsh > ~/.zfunc/_gymdbd
      with fpath=(~/.zfunc $fpath) before compinit in ~/.zshrc
  gymdbd completion fish > ~/.config/fish/completions/gymdbd.fish
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gymdbd.terminal import completion

if TYPE_CHECKING:
    import argparse

    from gymdbd.terminal.output import Output


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the shell."""
    parser.add_argument(
        "shell", choices=("bash", "zsh", "fish"), metavar="SHELL", help="bash, zsh or fish"
    )
    parser.set_defaults(json=False)


def run(arguments: argparse.Namespace, output: Output) -> int:
    """Print the script."""
    for line in completion.script(arguments.shell).strip().splitlines():
        output.verbatim(line)
    return 0
