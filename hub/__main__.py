"""
The entry point of `mpsr`, and of ``python -m hub``.

They are the same, except that ``python -m hub`` runs the hub if no command is given.

Always true: Ctrl-C while the modules are imported leaves nothing but exit code 130.
"""

import sys


def main() -> None:
    """Run `mpsr` and exit."""
    try:
        from hub.cli import main as run

        run()
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    if not sys.argv[1:] or sys.argv[1].startswith("-"):
        sys.argv.insert(1, "hub")
    main()
