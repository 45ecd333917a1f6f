"""`python -m gymdbd` is the `gymdbd` command."""

import sys

from gymdbd.cli import main

if __name__ == "__main__":
    sys.exit(main())
