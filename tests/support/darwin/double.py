"""A double: CPython on Linux that looks like CPython on macOS, as far as a program can see.

No Mac is at hand, so this only holds what is known of macOS, from its source and its manuals. The
kernel, SQLite and the file system are still those of Linux. The other end of a pull is not
changed: `python3 -I` ignores PYTHONPATH, and plays the Raspberry Pi.

`support/mac.py` runs the command line under it, and `tests/run -p tests.support.darwin.plugin` the
tests themselves. What the Mac answers is chosen by variables of the environment, which are read at
each call (`answers.py`, `forms.py`).
"""

from __future__ import annotations

import os
import sys
import sysconfig
import types
import zoneinfo

from tests.support.darwin import answers, forms, lacking

_RELEASE = ("24.6.0", "Darwin Kernel Version 24.6.0", "arm64")


def become() -> None:
    """Change this process, once; what it has imported before keeps what it has looked up."""
    if sys.platform == "darwin":
        return
    # These would look for the build of a Mac's Python later on.
    sysconfig.get_config_vars()
    zoneinfo.reset_tzpath()
    sys.platform = "darwin"
    uname = os.uname_result(("Darwin", os.uname().nodename, *_RELEASE))
    os.uname = lambda: uname
    # urllib asks this module of a Mac's Python for the proxies.
    proxies = types.ModuleType("_scproxy")
    vars(proxies).update(_get_proxy_settings=dict, _get_proxies=dict)
    sys.modules["_scproxy"] = proxies
    lacking.apply()
    answers.apply()
    forms.apply()
