"""A short run: what it does not import, and how it ends."""

import subprocess
import sys


def _run(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    return done.stdout


def test_a_log_line_needs_no_rich() -> None:
    """It takes as long to import as half of a pull that finds nothing new."""
    loaded = _run("import sys, gymdbd.log; print(*sys.modules)").split()
    assert "structlog" in loaded
    assert "rich" not in loaded


def test_connecting_does_without_what_only_match_exec_needs() -> None:
    """What paramiko wants it for stands in hardly any configuration."""
    loaded = _run("import sys, gymdbd.remote.ssh; print(*sys.modules)").split()
    assert "paramiko" in loaded
    assert "invoke" not in loaded


def test_python_ends_without_looking_at_what_was_imported() -> None:
    """What a command has imported is no garbage to look for when it ends."""
    # What is registered first runs last.
    code = """if True:
        import atexit, gc
        from gymdbd import light
        atexit.register(lambda: print(gc.get_freeze_count(), len(gc.get_objects())))
        light.end_at_once()
    """
    frozen, left = (int(word) for word in _run(code).split())
    assert frozen > 1000
    assert left < 100
