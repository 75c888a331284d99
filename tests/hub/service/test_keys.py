"""hub.service.keys: how the keys of the configuration look to users."""

from __future__ import annotations

import tomllib
from pathlib import Path

from hub.service.keys import KEYS, example
from hub.service.settings import load


def test_the_example_is_a_file_with_every_key(tmp_path: Path) -> None:
    """The example changes nothing; without its comment signs it is valid (except for groups of this host)."""
    text = example()
    assert tomllib.loads(text) == {}
    lines = [line.removeprefix("#") for line in text.splitlines() if line.startswith("#") and line[1] not in " ("]
    place = lines.index("[[sources]]")
    assert [line.partition(" = ")[0] for line in lines[:place]] == [key.name for key in KEYS]
    path = tmp_path / "hub.toml"
    path.write_text("\n".join(lines).replace('"adm"', '"root"').replace("group:adm", "group:root"))
    config = load(file=str(path), environ={}).config
    assert (config.journal_age, config.connections_max) == (30 * 86_400.0, 10_000)
    assert [rule.text for rule in config.read_deny] == ["group:root", "uid:1000"]
    assert [source.where for source in config.all_sources][:3] == [
        "/run/mpsr/lines",
        "0.0.0.0:24224",
        "/run/mpsr/datagram",
    ]


def test_the_example_names_flag_variable_default_and_reload() -> None:
    """The comment of a key says how else it can be set, and whether a reload changes it."""
    text = example()
    assert '# (--journal-size, MPSR_JOURNAL_SIZE; a reload changes it)\n#journal_size = "1GiB"\n' in text
    assert "\n#connections_max = 10000\n" in text  # a number, as a user would write it
    assert '\n#mode = "0660"\n' in text
    assert "# (--socket, MPSR_SOCKET; needs a restart; default: per user)\n" in text


def test_defaults_are_shown_as_they_are_written() -> None:
    """A default is in the form in which a user would set it, or in words."""
    shown = {key.name: key.default_text for key in KEYS}
    assert (shown["mode"], shown["journal_size"], shown["stop_timeout"]) == ("0660", "1GiB", "10s")
    assert (shown["connections_max"], shown["journal_age"], shown["socket"]) == ("10000", "", "per user")
    assert (shown["send_allow"], shown["send_deny"]) == ("everybody", "nobody")
