"""``python -m hub``: run the hub in the foreground, like ``mpsr hub``."""

import sys

from hub.cli import main

if __name__ == "__main__":
    main(["hub", *sys.argv[1:]])
