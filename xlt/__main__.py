"""``python -m xlt``."""

from xlt.cli.app import main

main()
