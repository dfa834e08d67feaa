"""``python -m fastmaml`` is the same as the command ``fastmaml``."""

import sys

from .cli import main

if __name__ == "__main__":
    sys.exit(main())
