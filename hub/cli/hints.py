"""
Suggestions after a usage error: for commands, options and arguments of other programs, what to type here.

Always true: it is imported only after an error, so a hint never appears for something that works, and costs a start
nothing.

Not here: names that are nearly right (click and `difflib` find them).
"""

from __future__ import annotations

import click

COMMANDS = {
    "start run serve server daemon up": "`mpsr hub` runs a hub, and `mpsr spawn` runs commands as its producers",
    "stop down kill": "Ctrl-C stops a hub, and `systemctl stop mpsr` one that systemd runs",
    "restart": "`mpsr call reload` reads the configuration again; `systemctl restart mpsr` restarts the service",
    "reload": "`mpsr call reload`",
    "ping": "`mpsr call ping`",
    "status info": "`mpsr stats`, or `systemctl status mpsr`",
    "log": "`mpsr logs` shows messages, and `mpsr send` sends them",
    "logger echo put publish": "`mpsr send`",
    "load ingest upload restore": "`mpsr import` sends finished logs",
    "tail follow watch": "`mpsr logs -f`",
    "journal journalctl cat show read less grep query search": "`mpsr logs`",
    "tags list ls": "no command lists tags; `mpsr logs --tag` completes them (see `mpsr completion --help`)",
    "check lint test": "`mpsr hub --check` checks the configuration, and `mpsr verify` the journal",
    "fsck scrub repair": "`mpsr verify`",
    "benchmark perf": "`mpsr bench`",
}
"""By command name."""

_JOURNAL = "--journal DIR"
_CHECK = "`mpsr hub --check`"
_SYSTEMD = "that is systemd's journal; here are the messages of one hub"
_SHOWN = "the time and the tag are shown unless you add -o text"
_BACKGROUND = "the hub stays in the foreground; `mpsr install` makes it a service"
_TABLE = "it is a key of a table [[sources]] in the configuration file"
OPTIONS = {
    "logs": {
        "--user-unit --service": "--unit NAME",
        "--selector -l": "tags are selected with -t",
        "--facility": "--where facility=NAME",
        "-b --boot --list-boots -k --dmesg --merge -m --namespace -M --machine": _SYSTEMD,
        "-e --pager-end": "-r shows the newest first, and -n 1000 only the end",
        "-x --catalog": "there is no catalog",
        "--exclude": "-v with -g shows what does not contain a pattern, and -t '!TAG' leaves out tags",
        "-E -F -P --extended-regexp --fixed-strings --perl-regexp": "-g takes a regular expression of Python",
        "--regexp --pattern": "-g REGEX",
        "--case-sensitive": "-g minds the case unless you add -i",
        "-1 -2 -3 -4 -5 -6 -7 -8 -9": "-n N, as in -n 20",
        "--json": "-o json",
        "--text --plain": "-o text",
        "--format": "-o pretty, json or text",
        "--disk-usage": "`mpsr stats`",
        "--vacuum-size": "the key journal_size of the hub bounds the journal",
        "--vacuum-time": "the key journal_age of the hub bounds the age",
        "--vacuum-files --rotate --flush --sync": "the hub does that by itself",
        "--verify": "`mpsr verify`",
        "-D --directory --file --root": _JOURNAL,
        "--cursor --after-cursor": "--after SEQ, with the sequence number that -o json shows",
        "--show-cursor": "-o json shows the sequence number of each message, for --after SEQ",
        "--timestamps --prefix --no-log-prefix": _SHOWN,
        "--head --limit": "`| head -n N` shows the first messages, and -n N the last",
        "--version": "`mpsr --version`",
    },
    "send": {
        "-f --file": "standard input: mpsr send < FILE",
        "-s --stderr": "the hub prints what it stores with `mpsr hub --print`",
        "-i --id": "the process id is stored with each message anyway",
        "-e --skip-empty": "every line is sent; `| grep .` leaves out empty lines",
        "-n --server": "--socket PATH; a hub serves one machine",
        "-u": "--socket PATH",
        "--priority": "-p LEVEL",
        "--field": "-F KEY=VALUE",
        "--message -m": "MESSAGE is an argument: mpsr send TEXT",
    },
    "hub": {
        "-d --daemon --detach --background": _BACKGROUND,
        "-c": "--config FILE",
        "--dry-run --test -t": _CHECK,
        "--debug --verbose -v": "--log-level debug",
        "--quiet -q": "--log-level error",
        "--tag --exclude --from --multiline --parse --paths --units": _TABLE,
    },
    "import": {
        "--from --since --follow -f": "each log is read whole, once; `mpsr hub --files GLOB` follows files",
        "--format": "--parse FORMAT",
    },
    "config": {
        "--check --validate --test": _CHECK,
        "--path --file -f": "`mpsr config --json` names the file",
        "-c": "--config FILE",
    },
    "spawn": {
        "-c -m --concurrency --formation": "the number is part of the name: `mpsr spawn web=2`",
        "-t --timeout": "--stop-timeout S",
        "-d --root --app-root --directory": "-f DIR/Procfile runs the commands in DIR",
        "--no-prefix --no-timestamps": "`mpsr spawn -q` shows nothing here, and `mpsr logs -f -o text` the text alone",
        "--timestamps": "the time is always shown",
    },
    "stats": {
        "-w -f --follow": "--watch",
    },
}  # fmt: skip
"""By option, for each command."""

ARGUMENTS = {
    "logs": "filters are options: --tag {0}, --comm {0}, --grep {0}",
    "verify": f"the journal is an option: {_JOURNAL}",
    "hub": "the hub takes options only; a glob is in quotes, as in --files '*.log'; `mpsr spawn` runs commands",
    "stats": "the counters are all shown; the socket is an option: --socket PATH",
    "config": "the file is an option: --config FILE",
}
"""The possible meaning of an argument, by command. ``{0}`` is the first one, or stands for its value."""

_WRITER = {"_PID": "--pid", "_UID": "--uid", "_COMM": "--comm", "SYSLOG_IDENTIFIER": "--tag", "PRIORITY": "--level"}
_WRITER |= {option[2:]: option for option in _WRITER.values()}


def hint(error: click.UsageError) -> str:
    """Return the suggestion for *error*, a sentence without its full stop; empty if there is none."""
    name = (error.ctx.command.name if error.ctx else "") or ""
    if isinstance(error, click.NoSuchOption):
        return _row(OPTIONS.get(name, {}), error.option_name)
    if name in ARGUMENTS and error.message.startswith("Got unexpected extra argument"):
        given = error.message.partition("(")[2].removesuffix(")").split(" ")[0]
        return _argument(name, given)
    return ""


def command_hint(name: str) -> str:
    """Return what may have been meant by a command that does not exist; empty if there is no guess."""
    return _row(COMMANDS, name.lower())


def _argument(command: str, given: str) -> str:
    key, equals, value = given.partition("=")
    if command == "logs" and equals:
        return f"{_WRITER[key]} {value}" if key in _WRITER else f"--where {given}"
    return ARGUMENTS[command].format(given)


def _row(table: dict[str, str], name: str) -> str:
    return next((meant for names, meant in table.items() if name in names.split()), "")
