"""``python -m hub``: the command line, like ``mpsr``. Without a command it runs the hub, like ``mpsr hub``."""

import sys

from hub.cli import COMMANDS, main

if __name__ == "__main__":
    main(sys.argv[1:] if sys.argv[1:2] and sys.argv[1] in COMMANDS else ["hub", *sys.argv[1:]])
