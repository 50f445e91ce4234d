"""``python -m xlt``, and the program ``xlt``."""

from __future__ import annotations

import sys
from typing import NoReturn

from xlt.errors import ExitCode
from xlt.stopping import hear_signals


def main() -> NoReturn:
    """Run the command line, after Ctrl-C has its meaning: to import the rest takes a while."""
    hear_signals()
    try:
        from xlt.cli import app

        app.main()
    except KeyboardInterrupt:
        sys.stderr.write("\nInterrupted.\n")
        sys.exit(ExitCode.INCOMPLETE)


if __name__ == "__main__":  # a worker imports this module again
    main()
