"""
`mpsr`: arguments in, calls out. Subcommands import what they need when they run, so that `mpsr send` starts fast.

Exit codes: 0 done; 1 failed, and one line on standard error says what and what to do; 2 wrong usage or configuration.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import click

from hub.config import default_journal, default_socket, parse_size

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from hub.journal.reader import Gap
    from hub.message import Batch, Message
    from producers import Producer

FOLLOW_S = 0.1
"""How often a follower looks: half of the delay it promises."""


def main(args: Sequence[str] | None = None) -> None:
    """Run `mpsr` and exit."""
    from hub.errors import MpsrError, UsageError
    from producers.errors import ProducerError

    for descriptor in (0, 1, 2):  # what was closed must not become a socket's or a journal's number
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    try:
        code = cli.main(args=list(sys.argv[1:] if args is None else args), prog_name="mpsr", standalone_mode=False)
    except click.exceptions.Abort:
        code = 130
    except click.ClickException as error:
        error.show()
        code = 2 if isinstance(error, click.UsageError) else 1
    except UsageError as error:
        code = _complain(error, 2)
    except (MpsrError, ProducerError) as error:
        code = _complain(error, 1)
    sys.exit(code if isinstance(code, int) else 0)


def _complain(error: Exception, code: int) -> int:
    click.echo(f"mpsr: {error}", err=True)
    return code


class _Size(click.ParamType[int]):
    name = "size"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        try:
            return value if isinstance(value, int) else parse_size(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


class _Mode(click.ParamType[int]):
    name = "mode"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        try:
            mode = value if isinstance(value, int) else int(value, 8)
        except ValueError:
            mode = -1
        if not 0 <= mode <= 0o777:
            self.fail(f"not a file mode: {value!r} (write it like 0660)", param, ctx)
        return mode


_socket_option = click.option(
    "--socket", metavar="PATH", help="The hub's socket.  [default: $MPSR_SOCKET, or per user]"
)
_journal_option = click.option(
    "--journal", metavar="DIR", help="The journal's folder.  [default: $MPSR_JOURNAL, or per user]"
)


def _fail_usage(message: str) -> click.UsageError:
    return click.UsageError(message, click.get_current_context())


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="mpsr", prog_name="mpsr")
def cli() -> None:
    """One host, many producers, one durable order: a message hub on a Unix socket.

    \b
    Begin with:
      mpsr hub &                     run the hub
      echo hello | mpsr send         send a message
      mpsr logs -f                   read the journal, follow it
    """


@cli.command()
@_socket_option
@_journal_option
@click.option("--journal-size", type=_Size(), default="1GiB", show_default=True, help="How much of the past is kept.")
@click.option(
    "--durability",
    type=click.Choice(["fsync", "relaxed"]),
    default="fsync",
    show_default=True,
    help="fsync: an acknowledgement means on disk. relaxed: a power cut may cost the last second.",
)
@click.option("--mode", type=_Mode(), default="0660", show_default=True, help="Permissions of the socket.")
@click.option("--group", metavar="NAME", help="Group of the socket.")
@click.option("--print", "show", is_flag=True, help="Print each message as it is committed.")
def hub(
    socket: str | None,
    journal: str | None,
    journal_size: int,
    durability: Literal["fsync", "relaxed"],
    mode: int,
    group: str | None,
    show: bool,
) -> None:
    """Run the hub in the foreground. SIGTERM and Ctrl-C stop it; nothing accepted is lost.

    \b
    Example:
      mpsr hub --socket /run/mpsr/hub.sock --journal /var/lib/mpsr/journal --group adm
    """
    import uvloop

    from hub.journal.retention import KEEP_BYTES_MIN
    from hub.reporting import set_level
    from hub.service import Options, Service

    if journal_size < KEEP_BYTES_MIN:
        raise _fail_usage(f"--journal-size is {journal_size} bytes, at least {KEEP_BYTES_MIN >> 20}MiB")
    options = Options(
        socket=socket or default_socket(),
        journal=os.path.abspath(journal or default_journal()),
        journal_bytes=journal_size,
        durability=durability,
        mode=mode,
        group=group,
    )
    set_level(logging.INFO)

    async def serve() -> None:
        await Service(options, show=_printer() if show else None).run()

    uvloop.run(serve())


def _printer() -> Callable[[Batch | Gap], None]:
    from hub.journal.query import Query

    query, render = Query(), _renderer(None)

    def show(batch: Batch | Gap) -> None:
        lines = "".join(f"{render(message)}\n" for message in query.messages(iter((batch,))))
        data = memoryview(lines.encode("utf-8", "replace"))
        try:
            while data:  # not through sys.stdout: its lock would be held while nobody reads, and at exit
                data = data[os.write(1, data) :]
        except OSError:  # nobody looks any more; the hub goes on
            _discard_output()

    return show


@cli.command()
def demo() -> None:
    """Run a hub and five producers in one process, on a temporary socket, and show what they say."""
    import asyncio

    from producers.examples import both

    asyncio.run(both.main())


@cli.command()
@_socket_option
@click.option("--tag", default="send", show_default=True, help="The messages' tag.")
@click.option("--json", "as_json", is_flag=True, help="Each message is a JSON object: the record.")
@click.option("-F", "fields", multiple=True, metavar="KEY=VALUE", help="Another field of each record. Repeatable.")
@click.option("--timeout", type=click.FloatRange(min=0), default=10.0, show_default=True, metavar="S",
              help="Give up after S seconds without an answer.")  # fmt: skip
@click.argument("message", nargs=-1)
def send(
    socket: str | None, tag: str, as_json: bool, fields: Sequence[str], timeout: float, message: Sequence[str]
) -> int:
    """Send each MESSAGE, or each line of standard input. Exit 0 means: all is on the hub's disk.

    \b
    Examples:
      mpsr send --tag deploy -F version=1.2 "release is out"
      tail -F access.log | mpsr send --tag nginx
    """
    from producers import Producer

    extra = dict(_field(field) for field in fields)
    lines: Iterable[bytes] = map(os.fsencode, message) if message else _standard_input()
    failed = False
    producer = Producer(socket, tag=tag)
    try:
        for number, line in enumerate(lines, 1):
            fault = _send_line(producer, line, extra, as_json=as_json, timeout=timeout)
            if fault is not None:
                click.echo(f"mpsr: message {number} was not sent: {fault}", err=True)
                failed = True
        _flush(producer, timeout)
    finally:
        _close_now(producer)
    return 1 if failed else 0


def _field(field: str) -> tuple[str, str]:
    key, equals, value = field.partition("=")
    if not equals or not key:
        raise _fail_usage(f"-F {field!r}: write it as KEY=VALUE")
    return key, value


def _standard_input() -> Iterator[bytes]:
    for line in sys.stdin.buffer:
        yield line.removesuffix(b"\n")


def _send_line(producer: Producer, line: bytes, extra: dict[str, str], *, as_json: bool, timeout: float) -> str | None:
    """Send one line; return what is wrong with it, if it is not one that can be sent."""
    from hub.wire.text import encode_record
    from producers import BadRecord

    if not as_json and not extra:
        producer.send_packed(encode_record(line), timeout=timeout)
        return None
    record: Any = {"message": line.decode("utf-8", "replace")}
    if as_json:
        import msgspec

        try:
            record = msgspec.json.decode(line)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            return f"not JSON: {error}"
        if not isinstance(record, dict):
            return "a JSON object is expected"
    try:
        producer.send({**record, **extra}, timeout=timeout)
    except BadRecord as error:
        return str(error)
    return None


def _flush(producer: Producer, timeout: float) -> None:
    """Wait for the acknowledgements, as long as some still come in time."""
    from producers import NotAcknowledged

    left = None
    while True:
        try:
            producer.flush(timeout)
            return
        except NotAcknowledged as late:
            if left is not None and late.count >= left:
                raise
            left = late.count
            if late.last_error:
                raise


def _close_now(producer: Producer) -> None:
    """Everything was flushed, or was given up with an error that is on its way."""
    from producers import NotAcknowledged

    try:
        producer.close(timeout=0)
    except NotAcknowledged:
        pass


@cli.command()
@_journal_option
@click.option("-f", "--follow", is_flag=True, help="Go on with what comes.")
@click.option("-n", "count", type=click.IntRange(min=0), metavar="N", help="The last N that match; else everything.")
@click.option("--tag", metavar="GLOB", help="Only tags that match, as in 'app.*'.")
@click.option("--grep", metavar="REGEX", help="Only records with a string in which REGEX is found.")
@click.option("--after", type=click.IntRange(min=0), default=0, metavar="SEQ", help="Only behind this sequence.")
@click.option("--output", type=click.Choice(["pretty", "json", "text"]), help="[default: pretty]")
def logs(
    journal: str | None,
    follow: bool,
    count: int | None,
    tag: str | None,
    grep: str | None,
    after: int,
    output: str | None,
) -> None:
    """Read the journal, whether a hub is running or not.

    \b
    Examples:
      mpsr logs -f --tag 'app.*'
      mpsr logs -n 100 --grep 'timeout|refused' --output json
    """
    import re

    from hub.journal.query import Query, last
    from hub.journal.reader import open_reader

    folder = journal or default_journal()
    try:
        query = Query(tag=tag, grep=grep)
    except re.error as error:
        raise _fail_usage(f"--grep {grep!r}: {error}") from None
    render = _renderer(output)
    try:
        reader = open_reader(folder, after=after)
        if count is not None:
            messages, end = last(folder, query, count, after=after)
            _write(map(render, messages))
            if not follow:
                return
            reader = open_reader(folder, after=end)
        _write_all(reader.read(follow=follow), query, render, after)
        while follow:
            _sleep()
            _write_all(reader.read(follow=True), query, render, after)
    except KeyboardInterrupt:
        return
    except BrokenPipeError:  # who read us has gone
        _discard_output()


def _discard_output() -> None:
    """Let standard output go nowhere from now on; the interpreter writes to it once more at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _write_all(batches: Iterator[Batch | Gap], query: Any, render: Callable[[Message], str], after: int) -> None:
    _write(render(message) for message in query.messages(batches) if message.sequence > after)


def _sleep() -> None:
    import time

    time.sleep(FOLLOW_S)


def _renderer(output: str | None) -> Callable[[Message], str]:
    from hub.rendering import RENDERERS, render_pretty_coloured

    if output in (None, "pretty") and sys.stdout.isatty() and "NO_COLOR" not in os.environ:
        return render_pretty_coloured
    return RENDERERS[output or "pretty"]


def _write(lines: Iterable[str]) -> None:
    out = sys.stdout.buffer
    for line in lines:
        out.write(line.encode("utf-8", "replace") + b"\n")
    out.flush()


@cli.command()
@_socket_option
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def stats(socket: str | None, as_json: bool) -> None:
    """Show the counters of the running hub."""
    import json

    from producers import call as ask

    counters = ask("stats", path=socket)
    if as_json:
        click.echo(json.dumps(counters))
        return
    width = max(map(len, counters))
    for name, value in counters.items():
        click.echo(f"{name:<{width}}  {value}")


@cli.command()
@_socket_option
@click.argument("method")
@click.argument("params", required=False, metavar="[JSON]")
def call(socket: str | None, method: str, params: str | None) -> None:
    """Ask the running hub for METHOD and print its answer as JSON.

    \b
    Example:
      mpsr call ping
    """
    import json

    from producers import call as ask

    value = None
    if params is not None:
        try:
            value = json.loads(params)
        except ValueError as error:
            raise _fail_usage(f"the parameters are not JSON: {error}") from None
        if not isinstance(value, (list, dict)):
            raise _fail_usage("the parameters are a JSON array or object")
    click.echo(json.dumps(ask(method, value, path=socket)))


@cli.command()
@_journal_option
def verify(journal: str | None) -> int:
    """Check every batch of the journal: whole, in order, no holes."""
    from hub.errors import JournalUnusable
    from hub.journal.files import DiskFiles
    from hub.journal.reader import open_reader
    from hub.journal.verify import verify as check

    folder = journal or default_journal()
    open_reader(folder).close()
    try:
        verified = check(DiskFiles(folder), path=folder, progress=_show_progress)
    except OSError as error:
        raise JournalUnusable(folder, f"cannot be read: {error.strerror}") from error
    if verified.fault is not None:
        click.echo(f"mpsr: journal {folder}: {verified.fault}", err=True)
        return 1
    click.echo(f"{verified.messages} messages in {verified.batches} batches, {verified.segments} segments: all whole")
    return 0


def _show_progress(messages: int) -> None:
    if sys.stderr.isatty():
        click.echo(f"\r{messages} messages checked", nl=False, err=True)
