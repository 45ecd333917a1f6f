"""A short run: how it ends. What it does not import is tested where it is not imported."""

import subprocess
import sys


def _run(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    return done.stdout


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
