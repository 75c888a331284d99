"""
The command line, `mpsr`: parses arguments and calls the package.

Each command has a file of its name (`COMMANDS`; `mpsr import` is in importing), which is imported only when the command
runs, so that `mpsr send` starts fast. The other files serve

all         output, options (and their types), hints (what to type here for the words of other programs), progress,
            replacing (a file, in one step)
logs        together (options that contradict each other), filtering (the filters, and where the messages are), pager,
            cursorfile. The messages: stored (read from the files), athub (asked of a running hub), selected (which of
            them), sharing (a search on several processors), changes (wakes a follower). Their form: showing, figures
export      csvrows, lnavformat; filtering, stored and showing of `logs` as well
sql         sqlprompt, sqlresult
spawn       words (a command, or entries of the Procfile), specs (the children), spawning (one run), ownhub, reports
install     systemctl; uninstall too

Exit codes: 0 done; 1 failed, with one line on standard error that says what happened and what to do; 2 wrong usage or
configuration.
"""

from __future__ import annotations

import errno
import gc
import importlib
import os
import sys
import warnings
from collections.abc import Sequence
from typing import Any

import click

from hub.cli.output import advice, complain, discard_output

COMMANDS = {
    "alerts": "Show the alerts and what they counted; silence or test one.",
    "bench": "Measure a hub on this machine.",
    "call": "Send a request to the hub and print its answer as JSON.",
    "completion": "Print the script for completion in a shell.",
    "config": "Show the configuration and the origin of each value.",
    "demo": "Run a hub and five producers in one process.",
    "export": "Write messages to a file, for other programs.",
    "hub": "Run the hub in the foreground.",
    "import": "Send finished logs to the hub, once.",
    "install": "Install the hub as a systemd service.",
    "logs": "Read the journal, whether a hub is running or not.",
    "send": "Send each MESSAGE, or each line of standard input.",
    "sinks": "Show the sinks, their progress and their errors, or change one.",
    "sources": "Show the sources, what each has accepted, and their errors.",
    "spawn": "Run commands as supervised producers.",
    "sql": "Query the journal with SQL.",
    "stats": "Show the counters of the running hub.",
    "top": "Watch messages and producers on the terminal.",
    "uninstall": "Stop the service and remove its files.",
    "verify": "Check the journal for damaged, missing and misplaced batches.",
    "web": "Open the page of the running hub in a browser.",
}
"""Each is defined in the file of its name. Its first sentence is here too: `mpsr --help` imports none of them."""
_FILES = {"import": "importing"}
"""The file and the function of a command whose name is a word of Python."""


class _Commands(click.Group):
    """The commands, each imported from its file when it is needed."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        name = _FILES.get(cmd_name, cmd_name)
        command: click.Command = getattr(importlib.import_module(f"hub.cli.{name}"), name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except BrokenPipeError:  # the reader of the output has ended, as `head` does; click would exit with 1
            discard_output()
            return 0

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args[0] == "help":  # mpsr help logs
            args = [*args[1:2], "--help"]
        elif args[0] == "version":
            args = ["--version"]
        if args[0] in ("--help", "--version"):
            self.parse_args(ctx, args)  # it shows, and exits
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            import difflib

            from hub.cli.hints import command_hint

            near = difflib.get_close_matches(args[0], COMMANDS, n=1)
            if meant := command_hint(args[0]):
                raise click.UsageError(f"{error.message.rstrip('.')}: {meant}", ctx) from None
            if near:
                raise click.UsageError(f"{error.message.rstrip('.')}. Did you mean {near[0]!r}?", ctx) from None
            raise


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(None, "-V", "--version", package_name="mpsr", prog_name="mpsr")
def cli() -> None:
    """A message hub for one host: many producers, one Unix socket, one durable order.

    \b
    Example:
      mpsr hub &                     run the hub
      echo hello | mpsr send         send a message
      mpsr logs -f                   read the journal and follow it
    """


def main(args: Sequence[str] | None = None) -> None:
    """Run `mpsr` and exit."""
    from hub.errors import MpsrError, UsageError
    from producers.errors import NotConnected, NotTrusted, ProducerError

    for descriptor in (0, 1, 2):  # a socket or the journal must not get the number of a closed one
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    warnings.simplefilter("ignore", FutureWarning)  # of an expression such as [[a], in Python's words
    sys.stdout, sys.stderr = sys.stdout or os.fdopen(1, "w"), sys.stderr or os.fdopen(2, "w")
    try:
        code = cli.main(args=list(sys.argv[1:] if args is None else args), prog_name="mpsr", standalone_mode=False)
    except click.exceptions.Abort:
        code = 130
    except KeyboardInterrupt:  # before click has begun
        code = 130
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message(), err=True)
        code = error.exit_code
    except click.ClickException as error:
        code = _complain(_sentence(error), error.exit_code)
    except UsageError as error:
        code = _complain(error, 2)
    except NotConnected as error:
        text = error.reason if error.path in error.reason and not isinstance(error, NotTrusted) else error
        code = _complain(f"{text}{advice(error.reason)}", 1)
    except (MpsrError, ProducerError) as error:
        code = _complain(error, 1)
    except OSError as error:  # a full disk under standard output, a missing folder
        code = _complain(_described(error), 1)
        discard_output()
    if args is None:
        gc.freeze()  # the process ends: to look for garbage takes 10 ms
    sys.exit(code if isinstance(code, int) else 0)


def _complain(problem: object, code: int) -> int:
    complain(problem)
    return code


def _sentence(error: click.ClickException) -> str:
    """Return the error in one line, with what may have been meant, or the command that explains what is right."""
    if isinstance(error, click.UsageError):
        from hub.cli.hints import hint

        if meant := hint(error):
            return f"{error.message.rstrip('.')}: {meant}"
    text = " ".join(error.format_message().replace("\n\t", " ").split("\n")).rstrip(".")
    context = error.ctx if isinstance(error, click.UsageError) else None
    return text if context is None else f"{text} (see `{context.command_path} --help`)"


_OF_OUTPUT = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)


def _described(error: OSError) -> str:
    """Return an error of the system with what it is about: a file, else standard output if only that can be meant."""
    reason = error.strerror or str(error)
    if error.filename is None:
        return f"standard output: {reason}" if error.errno in _OF_OUTPUT else reason
    return f"{os.fsdecode(error.filename)}: {reason}"
