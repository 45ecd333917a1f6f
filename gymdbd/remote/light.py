"""paramiko, imported without what it needs for `Match exec` alone.

Its parser of `~/.ssh/config` runs the command of such a line by the package invoke, which takes
nearly as long to import as the rest of it: a fifth of the time of a pull that finds nothing new.
`gymdbd.remote.ssh_config` judges those lines itself.
"""

from __future__ import annotations

from gymdbd.light import without

with without("invoke", "paramiko"):
    import paramiko

__all__ = ["paramiko"]
