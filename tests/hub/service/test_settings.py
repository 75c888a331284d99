"""hub.service.settings: every key, from every origin, and the errors for wrong ones."""

import os
from pathlib import Path

import pytest

from hub.address import Address
from hub.errors import ConfigError
from hub.paths import AbsolutePath, SocketPath
from hub.quantities import Duration, Mode
from hub.service.config import FIELDS, JournalSize
from hub.service.keys import KEYS
from hub.service.settings import load
from hub.service.tables import type_of
from hub.sources.kinds import FileTable, Http, Tcp
from hub.sources.table import SOURCES

GIVEN = {
    "socket": "/run/a.sock", "mode": "0600", "group": "root", "journal": "/var/a", "journal_size": "8MiB",
    "journal_age": "7d", "durability": "relaxed", "connections_max": "5", "inbox_size": "1MiB", "frame_size": "2KiB",
    "stop_timeout": "3s", "log_level": "debug", "http_token_file": "/a/token",
}  # fmt: skip
VALUES = {**GIVEN, "mode": 0o600, "journal_size": 8 << 20, "journal_age": 604_800.0, "connections_max": 5,
          "inbox_size": 1 << 20, "frame_size": 2048, "stop_timeout": 3.0}  # fmt: skip
ENTRANCES = [*SOURCES]
PATHS = [name for name, row in SOURCES.items() if issubclass(row.table, FileTable)]
TCP = '[[sources]]\ntype = "tcp"\naddress = '
TABLES = {"sources", "sinks", "alerts", "limits", "access", "retain", "web"}
RULES = [field.name for field in FIELDS.values() if field.is_list and field.name not in (*ENTRANCES, *TABLES)]


@pytest.fixture
def written(tmp_path: Path) -> Path:
    path = tmp_path / "hub.toml"
    path.write_text("".join(f'{name} = "{text}"\n' for name, text in GIVEN.items()))
    return path


def test_the_table_has_every_key() -> None:
    """These tests cover every key."""
    assert {*GIVEN, *RULES, *ENTRANCES} == {key.name for key in KEYS} == FIELDS.keys() - TABLES


@pytest.mark.parametrize("name", GIVEN)
def test_each_key_comes_from_a_flag_a_variable_or_the_file(name: str, written: Path) -> None:
    """The first of them that sets the key counts, and is named as its origin."""
    variable = "MPSR_" + name.upper()
    by_file = load(file=str(written), environ={})
    by_variable = load(file=os.devnull, environ={variable: GIVEN[name]})
    by_flag = load({name: GIVEN[name]}, file=os.devnull, environ={variable: "nonsense"})
    for found, origin in ((by_file, str(written)), (by_variable, variable), (by_flag, "--" + name.replace("_", "-"))):
        assert getattr(found.config, name) == VALUES[name]
        assert found.values[name].origin == origin
    assert load(file=os.devnull, environ={variable: ""}).values[name].origin == "default"


@pytest.mark.parametrize("name", RULES)
def test_rules_are_lists(name: str, tmp_path: Path) -> None:
    """Rules are repeated flags, a list in the file, and separated by commas in the variable."""
    path = tmp_path / "hub.toml"
    path.write_text(f'{name} = ["uid:1", "all"]')
    found = [
        load(file=str(path), environ={}),
        load(file=os.devnull, environ={"MPSR_" + name.upper(): "uid:1, all"}),
        load({name: ("uid:1", "all")}, file=os.devnull, environ={}),
    ]
    for each in found:
        assert [rule.text for rule in getattr(each.config, name)] == ["uid:1", "all"]


@pytest.mark.parametrize("name", PATHS)
def test_paths_of_sources_are_lists(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each type of source has a key for paths alone: repeated flags, a list in the file, commas in the variable."""
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "hub.toml"
    path.write_text(f'{name} = ["/a", "/b"]')
    found = [
        load(file=str(path), environ={}),
        load(file=os.devnull, environ={"MPSR_" + name.upper(): "/a, /b"}),
        load({name: ("/a", "../../../../../../../../../b")}, file=os.devnull, environ={}),
    ]
    for each in found:
        sources = each.config.all_sources
        assert [(type_of(source), source.where) for source in sources] == [(name, "/a"), (name, "/b")]
        assert [source.mode for source in sources if isinstance(source, FileTable)] == [0o660, 0o660]


def test_addresses_of_sources_are_lists(tmp_path: Path) -> None:
    """The key of the type `tcp` has addresses."""
    path = tmp_path / "hub.toml"
    path.write_text('tcp = ["127.0.0.1:1", "[::1]:2"]')
    found = [
        load(file=str(path), environ={}),
        load(file=os.devnull, environ={"MPSR_TCP": "localhost:1, [0:0::1]:2"}),
        load({"tcp": ("127.0.0.1:1", "[::1]:2")}, file=os.devnull, environ={}),
    ]
    for each in found:
        assert each.config.all_sources == (Tcp(address=Address("127.0.0.1:1")), Tcp(address=Address("[::1]:2")))


@pytest.mark.parametrize("name", [name for name, row in SOURCES.items() if row.is_switch])
def test_switches_of_sources(name: str, tmp_path: Path) -> None:
    """Of what there is one of, the key is true or false; a flag has no value, and no second table is accepted."""
    path = tmp_path / "hub.toml"
    path.write_text(f"{name} = true")
    variable = "MPSR_" + name.upper()
    found = [
        load(file=str(path), environ={}),
        load(file=os.devnull, environ={variable: "true"}),
        load({name: "true"}, file=os.devnull, environ={variable: "false"}),
    ]
    for each in found:
        assert [type_of(source) for source in each.config.all_sources] == [name]
        assert each.values[name].text == "true"
    assert load(file=str(path), environ={variable: "false"}).config.all_sources == ()
    assert load(file=os.devnull, environ={}).values[name].text == "false"
    with pytest.raises(ConfigError, match=name):
        load(file=os.devnull, environ={variable: "maybe"})
    path.write_text(f'{name} = true\n[[sources]]\ntype = "{name}"')
    with pytest.raises(ConfigError, match=r"two sources read .* \(leave one of them out\)"):
        load(file=str(path), environ={})


def test_a_folder_of_a_journal_is_read_once(tmp_path: Path) -> None:
    """However its path is written: both would store each entry."""
    path = tmp_path / "mpsr.toml"
    tables = [f'[[sources]]\ntype = "journald"\ndirectory = "{folder}"\n' for folder in ("/srv/logs", "/srv//logs/")]
    path.write_text("".join(tables))
    with pytest.raises(ConfigError, match=r"two sources read /srv/logs \(leave one of them out\)"):
        load(file=str(path), environ={})


def test_places_of_http(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The key of the type `http` has paths and addresses; an address has the token of its own key, or of its table."""
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "hub.toml"
    token = AbsolutePath("/t")
    path.write_text('http = ["/a", "127.0.0.1:1"]\nhttp_token_file = "/t"')
    found = [
        load(file=str(path), environ={}),
        load(file=os.devnull, environ={"MPSR_HTTP": "/a, localhost:1", "MPSR_HTTP_TOKEN_FILE": "/t"}),
        load({"http": ("/a", "127.0.0.1:1"), "http_token_file": "/t"}, file=os.devnull, environ={}),
    ]
    for each in found:
        assert each.config.all_sources == (
            Http(path=AbsolutePath("/a"), mode=Mode(0o660)),
            Http(address=Address("127.0.0.1:1"), token_file=token, mode=Mode(0o660)),
        )
    by_flag = load({"http": ("web",), "http_token_file": "token"}, file=os.devnull, environ={}).config
    assert [source.where for source in by_flag.all_sources] == [str(tmp_path / "web")]
    assert by_flag.http_token_file == str(tmp_path / "token")
    path.write_text('[[sources]]\ntype = "http"\naddress = "127.0.0.1:1"\ntoken_file = "/t"\ntag = "web"')
    (source,) = load(file=str(path), environ={}).config.all_sources
    assert (source.where, source.tag) == ("127.0.0.1:1", "web")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('http = ["127.0.0.1:1"]', "HTTP needs a token_file there"),
        ('http = ["web"]', "neither an absolute path nor an address"),
        ('[[sources]]\ntype = "http"', "a path or an address"),
        ('[[sources]]\ntype = "http"\npath = "/a"\naddress = "127.0.0.1:1"', "a path or an address"),
        ('[[sources]]\ntype = "http"\naddress = "0.0.0.0:1"', "HTTP needs a token_file there"),
        ('fifo = ["/a"]\nhttp = ["/a"]', "another path"),
    ],
)
def test_wrong_places_of_http(text: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / "hub.toml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=said):
        load(file=str(path), environ={})


@pytest.mark.parametrize("flag", ["127.0.0.1:99999", ":8080", "host.example:80", "@name"])
def test_what_looks_like_an_address_is_no_path(flag: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A mistake in an address is said, and makes no socket of that name; with a slash in it, it is a path."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match="neither an absolute path nor an address"):
        load({"http": (flag,)}, file=os.devnull, environ={})
    by_path = load({"http": (f"./{flag}",)}, file=os.devnull, environ={}).config
    assert [source.where for source in by_path.all_sources] == [str(tmp_path / flag)]


def test_sources_are_tables(tmp_path: Path) -> None:
    """Each table has a type and a path; permissions that it does not name are those of the socket."""
    path = tmp_path / "hub.toml"
    path.write_text("""
        mode = "0600"
        group = "root"
        fifo = ["/c"]
        [[sources]]
        type = "fifo"
        path = "/a"
        tag = "app"
        [[sources]]
        type = "fifo"
        path = "/b"
        mode = "0620"
        group = "5"
    """)
    config = load(file=str(path), environ={}).config
    found = [
        (source.where, source.tag, source.mode, source.group)
        for source in config.all_sources
        if isinstance(source, FileTable)
    ]
    assert found == [("/a", "app", 0o600, "root"), ("/b", None, 0o620, "5"), ("/c", None, 0o600, "root")]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('[[sources]]\ntype = "fifo"', "sources[0].path is missing"),
        ('[[sources]]\npath = "/a"', "sources[0].type is missing (one of datagram, fifo, pickle"),
        ('[[sources]]\ntype = "fifoo"\npath = "/a"', 'sources[0].type = "fifoo": not one of datagram'),
        ('[[sources]]\ntype = "fifo"\npath = "a"', "sources[0].path = \"a\": not an absolute path: 'a'"),
        ('[[sources]]\ntype = "fifo"\npath = "/a"\ntag = ""', 'sources[0].tag = "": not a tag: a text of 1 to 4096'),
        ('[[sources]]\ntype = "fifo"\npath = "/a"\nmode = 1', "sources[0].mode = 1: a mode is written in quotation"),
        ('[[sources]]\ntype = "fifo"\npath = "/a"\nport = 1', "there is no key sources[0].port (it is 1; "),
        ('[sources]\ntype = "fifo"', "sources: not a list of tables (write the heading of each as [[sources]])"),
        ('fifo = "/a"', 'fifo = "/a": not a list (write it in brackets: ["/a"])'),
        ('fifo = ["a"]', "fifo[0] = \"a\": not an absolute path: 'a'"),
        ('fifo = ["/a", "/a"]', "a source has the path of another source: /a (choose another path)"),
        ('socket = "/s"\nfifo = ["/s"]', "a source has the path of the hub's socket: /s (choose another path)"),
        ('tcp = ["a:1"]', "tcp[0] = \"a:1\": not an address: 'a:1' (write it like 127.0.0.1:24224, [::1]:24224 or"),
        (
            'tcp = ["[::1]:1", "[0::1]:1"]',
            "a source has the address of another source: [::1]:1 (choose another address)",
        ),
        (
            'tcp = ["0.0.0.0:1"]',
            "other hosts can reach 0.0.0.0:1: add a shared_key_file, or tls_cert, tls_key and tls_",
        ),
        (f'{TCP}"[::]:1"', "sources[0]: other hosts can reach [::]:1: add a shared_key_file, or tls_cert, tls_key"),
        (f'{TCP}"[::1]:1"\ntls_cert = "/a"', "sources[0]: TLS needs both tls_cert and tls_key"),
        (f'{TCP}"[::1]:1"\ntls_client_ca = "/a"', "sources[0]: tls_client_ca needs TLS: add tls_cert and tls_key"),
        (f'{TCP}"[::]:1"\ntls_cert = "/a"\ntls_key = "/b"', "sources[0]: other hosts can reach [::]:1: add a shared"),
        (f'{TCP}"[::1]:1"\nmode = "0600"', 'there is no key sources[0].mode (it is "0600"; '),
        (f"fifo = {[f'/{n}' for n in range(65)]}", "there are 65 sources (at most 64)"),
    ],
)
def test_a_wrong_source_is_named(line: str, said: str, tmp_path: Path) -> None:
    """The error names the place, and what would be right. Keys that do not fit together have no one origin."""
    path = tmp_path / "hub.toml"
    path.write_text(line)
    with pytest.raises(ConfigError) as raised:
        load(file=str(path), environ={})
    assert str(raised.value).split(": ", 1)[1].startswith(said)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('journal_szie = "1GiB"', 'there is no key journal_szie (it is "1GiB"; did you mean journal_size?)'),
        ("zzz = 1", "there is no key zzz (it is 1; see `mpsr config --example`)"),
        ("[hub]\nsocket = '/a'", "there is no key hub (it is a table; see `mpsr config --example`)"),
        ("journal_size = 12.5", "journal_size = 12.5: not a size: 12.5 (write it like 64MiB"),
        ('journal_size = "12 apples"', "journal_size = \"12 apples\": not a size: '12 apples' (write it like 64MiB"),
        ('journal_size = "1MiB"', "journal_size = \"1MiB\": '1MiB' is too small (at least 4MiB)"),
        ("mode = 0o660", 'mode = 432: a mode is written in quotation marks, like "0660"'),
        ('mode = "9"', "mode = \"9\": not a file mode: '9' (write it like 0660)"),
        ('socket = "a/b"', "socket = \"a/b\": not an absolute path: 'a/b'"),
        ("durability = true", "durability = true: not one of fsync, relaxed"),
        ('durability = "never"', 'durability = "never": not one of fsync, relaxed'),
        ("journal_age = 30", "journal_age = 30: not a duration: 30 (write it like 90s"),
        (
            "journal_age = 0",
            "journal_age = 0: not a duration: 0 (write it like 90s, 10m, 1h30m, 7d; leave it out for no limit)",
        ),
        ('journal_age = "0d"', "journal_age = \"0d\": '0d' is too short (at least 1s; leave it out for no limit)"),
        ('journal_age = "1ms"', "journal_age = \"1ms\": '1ms' is too short (at least 1s; leave it out for no limit)"),
        ('log_level = "loud"', 'log_level = "loud": not one of debug, info, warning, error'),
        ("connections_max = 0", "connections_max = 0: not a whole number from 1 to 1000000"),
        ('connections_max = "many"', 'connections_max = "many": not a whole number from 1 to 1000000'),
        ("group = 5", 'group = 5: not a text (write it in quotation marks: "5")'),
        ('send_allow = "uid:1"', 'send_allow = "uid:1": not a list (write it in brackets: ["uid:1"])'),
        ('send_allow = ["uid:1", 2]', "send_allow[1] = 2: not a rule: 2 (write it like uid:1000,"),
        ('read_deny = ["group:no-such"]', "read_deny[0] = \"group:no-such\": no such group: 'no-such'"),
        ("socket", "not TOML: "),
        ('socket = "\xff"', "not TOML: "),
    ],
)
def test_a_wrong_line_is_named_with_what_would_be_right(line: str, said: str, tmp_path: Path) -> None:
    """One line names file, key, value and a remedy."""
    path = tmp_path / "hub.toml"
    path.write_bytes(line.encode("latin-1"))
    with pytest.raises(ConfigError) as raised:
        load(file=str(path), environ={})
    assert str(raised.value).startswith(f"{path}: {said}")
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("flags", "environ", "said"),
    [
        ({"mode": "x"}, {}, "--mode: mode = \"x\": not a file mode: 'x'"),
        ({}, {"MPSR_JOURNAL_AGE": "soon"}, "MPSR_JOURNAL_AGE: journal_age = \"soon\": not a duration: 'soon'"),
        ({"send_allow": ("all", "x")}, {}, "--send-allow: send_allow[1] = \"x\": not a rule: 'x' (write it like"),
        (
            {},
            {"MPSR_READ_DENY": "uid:x"},
            "MPSR_READ_DENY: read_deny[0] = \"uid:x\": not a number: 'x' (or write user:x",
        ),
        ({}, {"MPSR_CONFIG": "/no/such"}, "/no/such: No such file or directory (name a file that can be read"),
    ],
)
def test_a_wrong_flag_or_variable_is_named(flags: dict[str, str], environ: dict[str, str], said: str) -> None:
    """The error names the flag or the variable."""
    with pytest.raises(ConfigError) as raised:
        load(flags, environ=environ)
    assert str(raised.value).startswith(said)


def test_the_users_file_goes_before_the_systems(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One file counts, as a whole; none is needed; a named one must exist."""
    system = tmp_path / "etc.toml"
    monkeypatch.setattr("hub.paths.SYSTEM_CONFIG", str(system))
    environ = {"XDG_CONFIG_HOME": str(tmp_path)}
    assert load(environ=environ).file is None
    system.write_text('journal_age = "1d"')
    assert (load(environ=environ).file, load(environ=environ).config.journal_age) == (str(system), 86_400.0)
    own = tmp_path / "mpsr" / "hub.toml"
    own.parent.mkdir()
    own.write_text('mode = "0600"')
    found = load(environ=environ)
    assert (found.file, found.config.mode, found.config.journal_age) == (str(own), 0o600, None)
    named = tmp_path / "named.toml"
    named.write_text("")
    assert load(environ={**environ, "MPSR_CONFIG": str(named)}).file == str(named)


def test_a_flags_path_is_relative_to_where_one_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A path in a flag may be relative; a path in a file must be absolute."""
    monkeypatch.chdir(tmp_path)
    assert load({"journal": "j"}, file=os.devnull, environ={}).config.journal == str(tmp_path / "j")


def test_an_empty_text_is_no_value(tmp_path: Path) -> None:
    """A flag and a line of the file can take away the group and the age that another origin sets."""
    path = tmp_path / "hub.toml"
    path.write_text('journal_age = ""\ngroup = "root"')
    config = load({"group": ""}, file=str(path), environ={}).config
    assert (config.journal_age, config.group) == (None, None)
    with pytest.raises(ConfigError, match="--mode: mode = \"\": not a file mode: ''"):
        load({"mode": ""}, file=os.devnull, environ={})


@pytest.mark.parametrize("given", ["DEBUG", "debug", " Debug "])
def test_a_level_in_any_case(given: str) -> None:
    """The level of the hub's log is understood in any case, and by its short names."""
    assert load({"log_level": given}, file=os.devnull, environ={}).config.log_level == "debug"
    shorts = [load({"log_level": short}, file=os.devnull, environ={}).config.log_level for short in ("warn", "err")]
    assert shorts == ["warning", "error"]


def test_seconds_without_a_unit(tmp_path: Path) -> None:
    """A duration in a flag and in the file may be a number of seconds, except an age."""
    path = tmp_path / "hub.toml"
    path.write_text("stop_timeout = 5")
    assert load(file=str(path), environ={}).config.stop_timeout == 5.0
    assert load({"stop_timeout": "2.5"}, file=str(path), environ={}).config.stop_timeout == 2.5
    with pytest.raises(ConfigError, match=r"--journal-age: .*not a duration: '30'"):
        load({"journal_age": "30"}, file=str(path), environ={})


def test_an_empty_path_is_refused() -> None:
    """An empty flag is no path, and least of all the working directory."""
    for name in ("socket", "journal"):
        with pytest.raises(ConfigError, match=f"^--{name}: {name} = \"\": not an absolute path: ''"):
            load({name: ""}, file=os.devnull, environ={})


def test_values_are_typed() -> None:
    """Sizes, durations, modes, paths and rules have types of their own, from every origin and by default."""
    for flags in ({}, {"journal_size": "8MiB", "stop_timeout": "3s", "mode": "0600", "socket": "/s"}):
        config = load(flags, file=os.devnull, environ={}).config
        kinds = (type(config.journal_size), type(config.stop_timeout), type(config.mode), type(config.socket))
        assert kinds == (JournalSize, Duration, Mode, SocketPath)
