"""
The keys of the configuration as users meet them: the flag, the variable, the help, and the example file.

The key ``journal_size`` is the flag ``--journal-size``, the variable ``MPSR_JOURNAL_SIZE`` and the line
``journal_size = "2GiB"`` of the file.

The keys ``sources``, ``sinks``, ``alerts``, ``limits``, ``retain`` and ``access``, lists of tables, have neither
flag nor variable. Each type of source has a key that is short for a table with a path, or an address.

Not here: types, defaults and what a reload can change (hub.service.config), reading (hub.service.settings).
"""

from __future__ import annotations

from typing import NamedTuple

from hub.access import Right
from hub.service.config import FIELDS, LOG_LEVELS
from hub.service.misfit import as_toml
from hub.service.tables import written
from hub.sinks.table import SINKS
from hub.sources.table import SOURCES

PREFIX = "MPSR_"
_OWN = "the hub's own user and root"


class Key(NamedTuple):
    """
    One key. *default* describes the default if its value is not enough; *sample* is the value in the example file.
    """

    name: str
    metavar: str
    help: str
    default: str = ""
    sample: str | tuple[str, ...] | bool = ""

    @property
    def flag(self) -> str:
        return "--" + self.name.replace("_", "-")

    @property
    def variable(self) -> str:
        return PREFIX + self.name.upper()

    @property
    def default_text(self) -> str:
        """The default for people; empty if there is none."""
        default = written(FIELDS[self.name].make_default())
        return self.default or ("" if default == [] else str(default).lower() if default is False else str(default))


def _rule_keys(right: Right, deed: str, default: str) -> tuple[Key, Key]:
    rules = "uid:1000, user:NAME, gid:33, group:NAME, comm:NAME or all"
    sample = ("group:adm", "uid:1000")
    return (
        Key(f"{right}_allow", "RULE", f"Peers that may {deed}: {rules}.", default, sample),
        Key(f"{right}_deny", "RULE", f"Peers that may not {deed}, even if {right}_allow names them.", "nobody", sample),
    )


def _source_keys() -> tuple[Key, ...]:
    return tuple(
        Key(name, "", row.help, sample=True)
        if row.is_switch
        else Key(name, row.metavar, row.help, sample=(row.sample.format(name),))
        for name, row in SOURCES.items()
    )


KEYS: tuple[Key, ...] = (
    Key("socket", "PATH", "The hub's socket.", "per user", "/run/mpsr/hub.sock"),
    Key("mode", "MODE", "Permissions of the socket."),
    Key("group", "NAME", "Group of the socket, by name or number.", sample="adm"),
    Key("journal", "DIR", "The journal's folder.", "per user", "/var/lib/mpsr/journal"),
    Key("journal_size", "SIZE", "Maximum size of the journal. The oldest messages are deleted first."),
    Key("journal_age", "DURATION",
        "Delete messages at this age (1s or more), or up to about an eighth of it later: 90s, 12h, 7d. Rules by tag "
        "([[retain]]) can keep some for longer.", sample="30d"),
    Key("durability", "fsync|relaxed",
        "fsync: acknowledge only messages that are on disk. relaxed: a power cut may cost the last second."),
    Key("connections_max", "N", "Maximum simultaneous connections; more wait in the backlog."),
    Key("inbox_size", "SIZE", "Memory for messages that are not on disk yet."),
    Key("frame_size", "SIZE",
        "Maximum size of a client's frame; a larger one becomes a loss. At most an eighth of journal_size."),
    Key("stop_timeout", "DURATION", "How long a stop waits for producers and the disk."),
    Key("log_level", "|".join(LOG_LEVELS), "Minimum level of the hub's own log, on standard error."),
    *_rule_keys("send", "send messages", "everybody"),
    *_rule_keys("read", "read the counters", _OWN),
    *_rule_keys("control", "control the hub (reload, sinks, alerts, the page)", _OWN),
    *_source_keys(),
    Key("http_token_file", "PATH", "File with the token that requests to --http HOST:PORT must have.",
        sample="/etc/mpsr/token"),
)  # fmt: skip
BY_NAME = {key.name: key for key in KEYS}


def example() -> str:
    """Return a complete file: each key with a comment, and commented out."""
    lines = ["# Configuration of `mpsr hub`: /etc/mpsr/hub.toml or ~/.config/mpsr/hub.toml. No key is required.", ""]
    for key in KEYS:
        reload = "a reload changes it" if FIELDS[key.name].is_live else "needs a restart"
        default = f"; default: {key.default}" if key.default else ""
        line = f"#{key.name} = {as_toml(key.sample or written(FIELDS[key.name].make_default()))}"
        lines += [f"# {key.help}", f"# ({key.flag}, {key.variable}; {reload}{default})", line, ""]
    return "\n".join([*lines, *_SAMPLE_TABLES]) + "\n"


_SAMPLE_TABLES = (
    "# A source with more settings than its path. Repeat the heading for each; the keys above must stand before it.",
    "# (a reload adds, changes or removes it; default: none)",
    "#[[sources]]",
    f"#type = {as_toml(next(iter(SOURCES)))}  # {', '.join(SOURCES)}",
    '#path = "/run/mpsr/lines"',
    '#tag = "app"  # of messages that have no tag of their own',
    '#mode = "0660"  # permissions and group; default: those of the socket',
    '#group = "adm"',
    "",
    "# A port for other hosts: they need a shared key, or a certificate that tls_client_ca has signed.",
    "#[[sources]]",
    '#type = "tcp"',
    '#address = "0.0.0.0:24224"',
    '#shared_key_file = "/etc/mpsr/key"',
    '#tls_cert = "/etc/mpsr/cert.pem"',
    '#tls_key = "/etc/mpsr/key.pem"',
    '#tls_client_ca = "/etc/mpsr/clients.pem"',
    "",
    "# A destination besides the journal; its position is stored under `name`. Repeat the heading for each.",
    "# (a reload adds, changes or removes it; default: none)",
    "#[[sinks]]",
    f"#type = {as_toml(next(iter(SINKS)))}  # {', '.join(SINKS)}",
    '#name = "archive"',
    '#path = "/srv/logs/{tag}/{date}.log"  # also {hour}',
    '#tag = ["app.*", "!app.debug"]  # default: every tag',
    '#level = "info"  # default: all',
    '#rotate_size = "64MiB"',
    '#compress = "zstd"  # or "gzip"',
    '#retain = "30d"',
    '#when_full = "block"  # or "expire", the default: the oldest messages are deleted, and reported as lost',
    "",
    "# A report when enough messages match: to a web hook, to a command, or as a message in the journal.",
    "# (a reload adds, changes or removes it; default: none)",
    "#[[alerts]]",
    '#name = "disk"',
    '#level = "error"  # which messages: also tag, grep, where, comm, unit and others, as in mpsr logs',
    '#grep = "No space left"',
    "#count = 5  # default: 1",
    '#within = "1m"',
    '#pause = "10m"  # after each report; default: 5m',
    '#url = "https://hooks.example/T0/B0"  # or command = ["/usr/local/bin/page"]',
    '#template = "slack"  # or "ntfy", or "json", the default',
    "",
    "# How much a user may send per second under matching tags. The first limit that applies counts; default: none.",
    "# (a reload changes it)",
    "#[[limits]]",
    '#tag = "debug.*"  # default: every tag',
    '#user = "root"  # name or number; default: each user separately',
    "#messages_per_s = 100",
    '#bytes_per_s = "1MiB"',
    '#when = "drop"  # or "block", the default: its senders wait',
    "",
    "# How long messages are kept under matching tags. The first rule that matches applies; default: as all messages.",
    "# (a reload changes it)",
    "#[[retain]]",
    '#tag = "debug.*"',
    '#for = "1d"  # or size, or both; may be longer than journal_age',
    '#size = "200MiB"',
    "",
    "# Who may call methods, and read messages under some tags with query and tail, besides the hub's own user.",
    "# (a reload changes it)",
    "#[[access]]",
    '#allow = ["group:adm"]  # rules as above; or deny',
    '#read = ["app.*"]  # tags',
    '#methods = ["stats", "peers"]',
    "",
    "# The page for browsers, as long as the hub runs (`mpsr web` opens a temporary one).",
    "# (a reload changes it)",
    "#[web]",
    '#address = "127.0.0.1:8515"',
    '#token_file = "/etc/mpsr/web-token"  # its content follows #token= in the address',
    '#hosts = ["logs.example.org"]  # names under which a proxy serves it; default: only addresses and localhost',
    '#url = "https://logs.example.org/"  # where people open it, for links in alerts; default: the address',
    '#user = "nobody"  # the page has the rights of this user; default: the hub\'s own',
)
