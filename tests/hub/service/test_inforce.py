"""hub.service.inforce: what is in force, without secrets."""

from __future__ import annotations

import tomllib
from pathlib import Path

import msgspec

from hub.service.config import FIELDS, Config
from hub.service.inforce import HIDDEN, in_force
from hub.service.tables import read_table
from producers import call
from tests.support import HubProcess

TEXT = """
journal_size = "2GiB"
stop_timeout = "90s"
mode = "0600"
send_allow = ["uid:1000"]
http = ["127.0.0.1:8514"]
http_token_file = "/etc/mpsr/token"
[[sources]]
type = "files"
paths = ["/var/log/*.log"]
[[limits]]
tag = "debug.*"
messages_per_s = 100
[[access]]
allow = ["uid:7"]
read = ["app.*"]
"""


def test_values_as_they_are_written() -> None:
    """Every key is there, in the form of the file; JSON can hold it."""
    shown = in_force(read_table(tomllib.loads(TEXT), Config))
    assert [*shown] == [*FIELDS]
    assert (shown["journal_size"], shown["mode"], shown["send_allow"]) == ("2GiB", "0600", ["uid:1000"])
    assert shown["http_token_file"] == "/etc/mpsr/token"
    (source,) = shown["sources"]
    assert (source["type"], source["paths"]) == ("files", ["/var/log/*.log"])
    assert shown["access"] == [{"allow": ["uid:7"], "read": ["app.*"]}]
    assert msgspec.json.decode(msgspec.json.encode(shown)) == shown


def test_what_may_be_a_secret() -> None:
    """Of headers, the names alone are shown."""
    text = '[[sinks]]\ntype = "otlp"\nname = "o"\nurl = "http://127.0.0.1:4318"\nheaders = ["X-Key: a secret"]\n'
    shown = in_force(read_table(tomllib.loads(text), Config))
    assert shown["sinks"][0]["headers"] == [f"X-Key: {HIDDEN}"]
    assert "a secret" not in repr(shown)


def test_a_running_hub(tmp_path: Path) -> None:
    """The method returns what is in force after a reload."""
    config = tmp_path / "hub.toml"
    config.write_text('journal_size = "128MiB"\n')
    with HubProcess(tmp_path, "--config", str(config)) as hub:
        assert call("config", path=hub.socket)["journal_size"] == "128MiB"
        config.write_text('journal_size = "256MiB"\n')
        call("reload", path=hub.socket)
        assert call("config", path=hub.socket)["journal_size"] == "256MiB"
