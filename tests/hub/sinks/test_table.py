"""hub.sinks.table: what a table of the configuration may hold."""

from __future__ import annotations

from pathlib import Path

import pytest

from hub.errors import ConfigError
from hub.extras import MODULES
from hub.service.config import Config
from hub.service.settings import load
from hub.service.tables import type_of
from hub.sinks.file import FileSink
from hub.sinks.kinds import File, Forward, Otlp
from hub.sinks.sink import SinkFault, reason_of
from hub.sinks.table import SINKS, check_sink, check_sinks, make
from hub.sinks.values import SinkName, Template
from tests.hub.sinks.delivering import TABLE, Alone


def config_of(folder: Path, text: str) -> Config:
    (folder / "hub.toml").write_text(text)
    return load(file=str(folder / "hub.toml"), environ={}).config


def table_of(folder: Path, *lines: str) -> File:
    text = "\n".join(('[[sinks]]\ntype = "file"', *lines))
    (table,) = config_of(folder, text).sinks
    assert isinstance(table, File)
    return table


def test_a_table_is_read(tmp_path: Path) -> None:
    """All keys, and the defaults of those that are not given."""
    table = table_of(
        tmp_path, 'name = "a"', 'path = "/srv/{tag}.log"', 'tag = ["app.*"]', 'level = "error"', 'where = ["n>1"]',
        'from = "start"', 'when_full = "block"', 'format = "text"', 'mode = "0600"', 'rotate_size = "64MiB"',
        'rotate_every = "1d"', 'compress = "gzip"', 'retain = "30d"', 'retain_size = "1GiB"', 'group = "root"',
    )  # fmt: skip
    assert (table.rotate_size, table.rotate_every, table.retain) == (64 << 20, 86_400.0, 30 * 86_400.0)
    assert (table.tag, table.where, table.begin, table.mode) == (("app.*",), ("n>1",), "start", 0o600)
    plain = table_of(tmp_path, 'name = "a"', 'path = "/srv/a.log"')
    assert (plain.begin, plain.when_full, plain.format, plain.mode) == ("end", "expire", "json", 0o640)
    assert (plain.rotate_size, plain.compress, plain.retain, plain.retain_size) == (None, None, None, None)
    assert (plain.destination, type_of(plain)) == ("/srv/a.log", "file")


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ('path = "a.log"', "not an absolute path"), ('path = "/srv/{x}.log"', "its fields are"),
        ('name = "a/b"', "not a name"), ('level = "loud"', "loud"), ('where = ["n"]', "write it as"),
        ('rotate_size = "1"', "too small"), ('rotate_every = "5"', "not a duration"), ('retain = "0.1s"', "too short"),
        ('compress = "lz4"', "zstd"), ('when_full = "drop"', "block"), ('speed = 1', "there is no key"),
        ("where = [1]", "not a condition"), ("name = 1", "not a name"),
    ],
)  # fmt: skip
def test_a_wrong_value_is_named(tmp_path: Path, line: str, words: str) -> None:
    """Each error says what is wrong, or what would be right."""
    lines = {"name": 'name = "a"', "path": 'path = "/srv/a.log"'}
    lines[line.partition(" ")[0]] = line
    with pytest.raises(ConfigError, match=words):
        table_of(tmp_path, *lines.values())


def test_sinks_differ_in_name_and_path(tmp_path: Path) -> None:
    """Two of one name would share a cursor, two of one path a file; and there is a limit."""
    row = '[[sinks]]\ntype = "file"\nname = "{}"\npath = "/srv/{}.log"\n'
    for one, two, words in ((("a", "x"), ("a", "y"), "the name a"), (("a", "x"), ("b", "x"), "the path /srv/x.log")):
        with pytest.raises(ConfigError, match=words):
            config_of(tmp_path, row.format(*one) + row.format(*two))
    with pytest.raises(ConfigError, match="there are 17 sinks"):
        config_of(tmp_path, "".join(row.format(f"n{number}", number) for number in range(17)))


@pytest.mark.parametrize(
    ("one", "two", "path"),
    [("{tag}.log", "all.log", "all.log"), ("app-{date}.log", "{tag}.log", "app-1970-01-01.log")],
)
def test_sinks_do_not_share_files(tmp_path: Path, one: str, two: str, path: str) -> None:
    """Each would take the lines of the other one for changes of another program; one in another folder is no matter."""
    row = '[[sinks]]\ntype = "file"\nname = "{}"\npath = "/srv/{}"\n'
    with pytest.raises(ConfigError, match=f"a and b can write to the same file /srv/{path}"):
        config_of(tmp_path, row.format("a", one) + row.format("b", two))
    assert len(config_of(tmp_path, row.format("a", one) + row.format("b", f"other/{two}")).sinks) == 2


def test_a_row_has_a_class() -> None:
    """Each type can be made and checked."""
    host = Alone()
    assert isinstance(make(TABLE, host), FileSink)
    host.waker.close()
    for name, row in SINKS.items():
        assert row.table.__struct_config__.tag == name
    with pytest.raises(FileNotFoundError):
        check_sink(TABLE)


def test_a_sink_that_could_not_deliver(tmp_path: Path) -> None:
    """The check names the sink and its fault."""
    (tmp_path / "logs").mkdir()
    table = File(name=SinkName("a"), path=Template(f"{tmp_path}/logs/{{tag}}.log"))
    check_sinks([table])
    (tmp_path / "logs").rmdir()
    with pytest.raises(SinkFault, match=f"sink a: {tmp_path}/logs: No such file"):
        check_sinks([table])


def test_a_reason_is_for_people() -> None:
    """The words of the system with the file, those of our own errors, and a fault of ours as it is."""
    assert reason_of(FileNotFoundError(2, "No such file or directory", "/a")) == "/a: No such file or directory"
    assert reason_of(OSError(28, "No space left on device")) == "No space left on device"
    assert reason_of(SinkFault("it ended")) == "it ended"
    assert reason_of(ZeroDivisionError("x")) == "ZeroDivisionError('x')"


FORWARD = '[[sinks]]\ntype = "forward"\nname = "a"\n'


def test_a_table_of_servers(tmp_path: Path) -> None:
    """All keys, and the defaults of those that are not given."""
    lines = (
        'servers = ["log.example:24224", "[::1]:24224"]', 'shared_key_file = "/k"', "tls = true", 'tls_ca = "/a"',
        'tls_cert = "/c"', 'tls_key = "/p"', 'tls_name = "log"', 'compress = "zstd"', 'message_size = "1MiB"',
        'timeout = "5s"', 'failover = "1m"',
    )  # fmt: skip
    (table,) = config_of(tmp_path, FORWARD + "\n".join(lines)).sinks
    assert isinstance(table, Forward)
    assert (table.destination, table.has_tls, table.failover) == ("log.example:24224, [::1]:24224", True, 60.0)
    assert (table.tls_name, table.compress, table.message_size, table.timeout) == ("log", "zstd", 1 << 20, 5.0)
    (table,) = config_of(tmp_path, FORWARD + 'servers = ["/run/other.sock"]').sinks
    assert isinstance(table, Forward)
    assert (table.has_tls, table.compress, table.message_size, table.timeout) == (False, None, 5 << 20, 30.0)
    (table,) = config_of(tmp_path, FORWARD + 'servers = ["a:1"]\ntls_name = "b"').sinks
    assert isinstance(table, Forward)
    assert table.has_tls


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ("servers = []", "1 to 16 different servers"), ('servers = ["a:1", "a:1"]', "different servers"),
        ('servers = ["a"]', "not a server"), ('servers = ["/s"]\ntls = true', "leave them out for a Unix socket"),
        ('servers = ["/s", "a:1"]\nshared_key_file = "/k"', "leave them out for a Unix socket"),
        ('servers = ["a:1"]\ntls_key = "/k"', "both tls_cert and tls_key"),
        ('servers = ["a:1"]\nmessage_size = 1', "too small"),
    ],
)  # fmt: skip
def test_servers_that_cannot_be(tmp_path: Path, lines: str, words: str) -> None:
    """Each error says what would be right."""
    with pytest.raises(ConfigError, match=words):
        config_of(tmp_path, FORWARD + lines)


@pytest.mark.parametrize(
    ("key", "path", "words"),
    [
        ('files = ["/srv/*.log"]', "/srv/{tag}.log", r"a source of this hub follows: /srv/\*\.log"),
        ('[[sources]]\ntype = "files"\npaths = ["/srv/**/a.log"]', "/srv/x/a.log", "a source of this hub follows"),
        ('journal = "/srv/journal"', "/srv/journal/a.log", "into the folder of the journal"),
        ('journal = "/srv/journal"', "/srv/{tag}/a.log", "into the folder of the journal"),
    ],
)
def test_files_stay_out_of_the_way_of_the_hub(tmp_path: Path, key: str, path: str, words: str) -> None:
    """What it would read again would grow for ever; its journal is its own."""
    row = '\n[[sinks]]\ntype = "file"\nname = "a"\npath = "{}"\n'
    with pytest.raises(ConfigError, match=words):
        config_of(tmp_path, key + row.format(path))
    assert len(config_of(tmp_path, key + row.format("/srv/other/{tag}.txt")).sinks) == 1


@pytest.mark.parametrize(
    ("server", "key"),
    [("{folder}/hub.sock", 'socket = "{folder}/hub.sock"'), ("127.0.0.1:24224", 'tcp = ["127.0.0.1:24224"]')],
)
def test_a_hub_does_not_forward_to_itself(tmp_path: Path, server: str, key: str) -> None:
    """Each message would come back as another one, for ever."""
    text = key.format(folder=tmp_path) + "\n" + FORWARD + f'servers = ["{server.format(folder=tmp_path)}"]'
    with pytest.raises(ConfigError, match="the sink a leads back to this hub"):
        config_of(tmp_path, text)


@pytest.mark.parametrize(
    ("keys", "leads_back"),
    [
        ("", True),
        ('subject = "mpsr"\nformat = "blocks"', True),
        ('stream = "OTHER"', False),
        ('subject = "other"', False),
        ('format = "json"', False),
    ],
)
def test_a_hub_does_not_ship_to_the_stream_that_it_collects_from(tmp_path: Path, keys: str, leads_back: bool) -> None:
    """With three such hubs, messages would go round for ever. One server in common is enough."""
    source = '[[sources]]\ntype = "jetstream"\nservers = ["nats://a", "nats://b"]\n'
    sink = f'[[sinks]]\ntype = "jetstream"\nname = "a"\nservers = ["nats://c", "nats://b:4222"]\n{keys}\n'
    if leads_back:
        with pytest.raises(ConfigError, match="the sink a leads back to this hub: a source reads nats://a:4222,"):
            config_of(tmp_path, source + sink)
    else:
        assert len(config_of(tmp_path, source + sink).sinks) == 1


OTLP = '[[sinks]]\ntype = "otlp"\nname = "a"\n'


def test_a_table_of_a_collector(tmp_path: Path) -> None:
    """All keys, and the defaults of those that are not given."""
    lines = (
        'url = "https://a"', 'headers = ["A: b"]', 'headers_file = "/h"', 'tls_ca = "/a"', 'tls_cert = "/c"',
        'tls_key = "/k"', 'compress = "none"', 'timeout = "5s"',
    )  # fmt: skip
    (table,) = config_of(tmp_path, OTLP + "\n".join(lines)).sinks
    assert isinstance(table, Otlp)
    assert (table.destination, table.headers[0].value, table.compress) == ("https://a/v1/logs", "b", "none")
    (table,) = config_of(tmp_path, OTLP + 'url = "http://a:1/x"').sinks
    assert isinstance(table, Otlp)
    assert (table.destination, table.compress, table.timeout, table.headers) == ("http://a:1/x", "gzip", 30.0, ())
    for lines_of, words in (
        ('url = "https://a"\ntls_key = "/k"', "both tls_cert and tls_key"), ('url = "a"', "not a URL"),
        ('url = "http://a"\ntls_ca = "/k"', "does not use TLS"), ('url = "http://a"\nheaders = ["x"]', "not a header"),
    ):  # fmt: skip
        with pytest.raises(ConfigError, match=words):
            config_of(tmp_path, OTLP + lines_of)


def test_a_library_that_is_not_there_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the extra that brings it; also when the sink would start."""
    monkeypatch.setitem(MODULES, "otlp", ("no_such_package.proto",))
    (table,) = config_of(tmp_path, OTLP + 'url = "http://a"').sinks
    with pytest.raises(SinkFault, match=r"pip install 'mpsr\[otlp\]'"):
        check_sink(table)
    host = Alone()
    with pytest.raises(SinkFault, match=r"pip install 'mpsr\[otlp\]'"):
        make(table, host)


@pytest.mark.parametrize(("command", "words"), [("[]", "an absolute path"), ('["ship"]', "an absolute path")])
def test_a_command_has_a_path(tmp_path: Path, command: str, words: str) -> None:
    """A service does not have the search path of a user."""
    row = '[[sinks]]\ntype = "exec"\nname = "a"\ncommand = {}\n'
    with pytest.raises(ConfigError, match=words):
        config_of(tmp_path, row.format(command))
    (table,) = config_of(tmp_path, row.format('["/bin/cat", "a b"]')).sinks
    assert (table.destination, type_of(table)) == ("/bin/cat 'a b'", "exec")


STREAM = '[[sinks]]\ntype = "jetstream"\nname = "{}"\nservers = ["nats://a", "nats://b:4333"]\n'


def test_a_table_of_a_stream(tmp_path: Path) -> None:
    """What the subjects begin with follows from the format, unless it is given."""
    for lines, where in (
        ("", "LOGS/mpsr"),
        ('format = "json"', "LOGS/LOGS"),
        ('format = "json"\nstream = "J"\nsubject = "eu.logs"', "J/eu.logs"),
        ('subject = "mpsr.eu"', "LOGS/mpsr.eu"),
    ):
        (table,) = config_of(tmp_path, STREAM.format("a") + lines).sinks
        assert table.destination == f"nats://a:4222,nats://b:4333/{where}"
    with pytest.raises(ConfigError, match="servers"):
        config_of(tmp_path, STREAM.format("a").replace("nats://a", "a"))
    with pytest.raises(ConfigError, match="both user and password_file"):
        config_of(tmp_path, STREAM.format("a") + 'user = "u"')


def test_two_sinks_do_not_ship_to_one_subject(tmp_path: Path) -> None:
    """Each would take the other one's blocks for its own."""
    with pytest.raises(ConfigError, match="two sinks ship blocks to nats://a:4222,nats://b:4333/LOGS/mpsr"):
        config_of(tmp_path, STREAM.format("a") + STREAM.format("b"))
    assert len(config_of(tmp_path, STREAM.format("a") + STREAM.format("b") + 'format = "json"').sinks) == 2


def test_a_library_that_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The sentence names the extra."""
    (table,) = config_of(tmp_path, STREAM.format("a")).sinks
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(SinkFault, match=r"pip install 'mpsr\[nats\]'"):
        check_sink(table)
    host = Alone()
    with pytest.raises(SinkFault, match=r"pip install 'mpsr\[nats\]'"):
        make(table, host)
