"""``python -m xlt``."""

from xlt.cli.app import main

if __name__ == "__main__":  # a worker imports this module again
    main()
