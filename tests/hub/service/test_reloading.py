"""hub.service.reloading: what a reload changes, in which order, and what it says. Real hubs: test_configuration."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import msgspec
import pytest

from hub import log
from hub.errors import JournalUnavailable, MpsrError, SocketError
from hub.paths import AbsolutePath
from hub.quantities import Mode
from hub.service.config import Config
from hub.service.reloading import Reloader
from hub.service.settings import LoadedConfig, load
from hub.sinks.kinds import File
from hub.sinks.sink import SinkFault
from hub.sinks.values import SinkName, Template
from hub.sources.kinds import Fifo

NO_FAULTS: Mapping[str, MpsrError] = MappingProxyType({})


@pytest.fixture(autouse=True)
def _same_level(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give the log its level back: a reload sets it."""
    monkeypatch.setattr("hub.log._level", logging.ERROR)


class Parts:
    """Endpoint, its access rules, journal and spools in one: records the calls, or raises *faults*."""

    def __init__(self, faults: Mapping[str, MpsrError] = NO_FAULTS, *, is_inherited: bool = False) -> None:
        self.is_inherited = is_inherited
        self.access = self
        self.calls: list[str] = []
        self._faults = faults

    def _call(self, name: str) -> None:
        if name in self._faults:
            raise self._faults[name]
        self.calls.append(name)

    def permit(self, mode: int, group: str | None) -> None:
        self._call(f"permit {mode:o}")

    def retain(self, retain_bytes: int, retain_s: float | None, seal_s: float | None) -> None:
        self._call(f"retain {retain_bytes >> 20}")

    def limit(self, *, connections_max: int, frame_bytes_max: int) -> None:
        self._call(f"limit {connections_max} {frame_bytes_max >> 10}")

    def change(self, rules: object, grants: object) -> None:
        self._call("rules")

    async def follow_socket(self) -> None:
        self._call("follow")

    async def follow_sources(self, new: Config) -> None:
        self._call(f"sources {len(new.all_sources)}")

    async def follow_sinks(self, new: Config) -> None:
        self._call(f"sinks {len(new.sinks)}")

    async def follow_web(self, new: Config) -> None:
        self._call(f"web {new.web is not None and new.web.address}")

    async def expire(self) -> int:
        self._call("expire")
        return 0


def config(**more: str) -> Config:
    return load({"socket": "/s", "journal": "/j", **more}, environ={}).config


def reloader(parts: Any, new: Config) -> Reloader:
    return Reloader(config(), lambda: LoadedConfig(new, {}, "/f"), parts, parts, **followers(parts))


def followers(parts: Any) -> Any:
    emit = getattr(parts, "emit", lambda *_: None)
    follow_sinks = getattr(parts, "follow_sinks", None)
    return {
        "follow_socket": parts.follow_socket,
        "follow_sources": parts.follow_sources,
        "follow_sinks": follow_sinks,
        "follow_web": getattr(parts, "follow_web", None),
        "check_sinks": getattr(parts, "check_sinks", lambda _: None),
        "emit": emit,
    }


def test_the_page(tmp_path: Path) -> None:
    """A page that could not be opened changes nothing; another one is followed, and so are the links of the alerts."""
    file, token = tmp_path / "f", tmp_path / "token"
    alert = '[[alerts]]\nname = "a"\n'

    def loaded(web: str) -> LoadedConfig:
        file.write_text(f'{web}\n{alert}[web]\naddress = "127.0.0.1:1"\ntoken_file = "{token}"\n' if web else alert)
        return load({"socket": "/s", "journal": "/j"}, file=str(file), environ={})

    parts = Parts()
    reloading = Reloader(loaded("").config, lambda: loaded("#"), parts, parts, **followers(parts))  # type: ignore[arg-type]
    with pytest.raises(MpsrError, match="No such file"):
        asyncio.run(reloading.reload())
    assert parts.calls == []
    token.write_text("secret")
    token.chmod(0o600)
    assert asyncio.run(reloading.reload())["changed"] == ["web"]
    assert parts.calls[-2:] == ["sinks 0", "web 127.0.0.1:1"]
    assert [getattr(table, "link", "") for table in reloading.config.all_readers] == ["http://127.0.0.1:1/"]


def test_everything_that_changes() -> None:
    """What can fail comes first; what follows from the changes comes last. The frame limit follows the journal."""
    parts = Parts()
    reloading = reloader(parts, config(mode="0600", journal_size="8MiB", connections_max="5", frame_size="1KiB"))
    assert asyncio.run(reloading.reload()) == {
        "file": "/f",
        "changed": ["mode", "journal_size", "connections_max"],
        "needs_restart": ["frame_size"],
    }
    assert parts.calls == ["permit 600", "retain 8", "limit 5 1024", "rules", "follow", "expire"]
    assert (reloading.config.mode, reloading.config.frame_size) == (0o600, 64 << 20)
    assert log._level == logging.INFO


def test_a_reload_that_fails_changes_nothing() -> None:
    """When the permissions cannot be changed, nothing else has been, and a second reload tries the same again."""
    error = SocketError("/s", "not permitted")
    parts = Parts({"permit 600": error})
    reloading = reloader(parts, config(mode="0600", journal_size="8MiB"))
    for _ in range(2):
        with pytest.raises(SocketError, match="not permitted"):
            asyncio.run(reloading.reload())
        assert (parts.calls, reloading.config) == ([], config())


def test_a_disk_that_cannot_expire_does_not_undo_it() -> None:
    """The limits are in force then; the next segment that is begun expires the old ones."""
    parts = Parts({"expire": JournalUnavailable("/j", "it is closed")})
    reloading = reloader(parts, config(journal_size="8MiB"))
    assert asyncio.run(reloading.reload())["changed"] == ["journal_size"]
    assert reloading.config.journal_size == 8 << 20


def test_an_inherited_socket() -> None:
    """Its mode and group are said to be the socket unit's, at each reload; the rest changes."""
    parts = Parts(is_inherited=True)
    reloading = reloader(parts, config(mode="0600", group="0", connections_max="5"))
    for changed in ["connections_max"], []:
        result = asyncio.run(reloading.reload())
        assert (result["changed"], result["set_by_socket_unit"]) == (changed, ["mode", "group"])
    assert parts.calls == ["retain 1024", "limit 5 65536", "rules"] * 2
    assert (reloading.config.mode, reloading.config.group) == (0o660, None)


def test_sinks_follow() -> None:
    """Sinks follow their own key, and nothing else."""
    parts = Parts()
    sink = File(name=SinkName("a"), path=Template("/srv/a.log"))
    reloading = reloader(parts, msgspec.structs.replace(config(), sinks=(sink,)))
    for changed in ["sinks"], []:
        assert asyncio.run(reloading.reload())["changed"] == changed
    assert [call for call in parts.calls if call.startswith("sinks")] == ["sinks 1"]


def test_a_sink_that_could_not_deliver_is_refused() -> None:
    """As by --check; nothing changes then. One that runs already is not checked: its fault is no news."""
    one, two = (File(name=SinkName(name), path=Template(f"/srv/{name}.log")) for name in "ab")
    parts: Any = Parts()
    checked: list[list[str]] = []

    def check(sinks: Sequence[File]) -> None:
        checked.append([str(sink.name) for sink in sinks])
        if two in sinks:
            raise SinkFault("sink b: /srv: No such file or directory")

    parts.check_sinks = check
    reloading = reloader(parts, msgspec.structs.replace(config(), sinks=(one,)))
    asyncio.run(reloading.reload())
    calls = list(parts.calls)
    new = msgspec.structs.replace(config(), sinks=(one, two), connections_max=5)
    reloading._load = lambda: LoadedConfig(new, {}, "/f")
    with pytest.raises(SinkFault, match="sink b"):
        asyncio.run(reloading.reload())
    assert (checked, parts.calls) == ([["a"], ["b"]], calls)
    assert reloading.config.sinks == (one,)


def test_sources_follow() -> None:
    """Sources follow their own keys, and the permissions of the socket, which are their default; nothing else."""
    parts = Parts()
    new = msgspec.structs.replace(config(), fifo=(AbsolutePath("/p"),))
    reloading = reloader(parts, new)
    for changed in ["fifo"], []:
        assert asyncio.run(reloading.reload())["changed"] == changed
    assert [call for call in parts.calls if call.startswith("sources")] == ["sources 1"]
    new = msgspec.structs.replace(new, mode=Mode(0o600))
    reloading._load = lambda: LoadedConfig(new, {}, "/f")
    asyncio.run(reloading.reload())
    assert parts.calls[-2:] == ["follow", "sources 1"]
    assert reloading.config.all_sources == (Fifo(path=AbsolutePath("/p"), mode=Mode(0o600)),)


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    """Nothing is changed if the configuration is invalid."""
    parts: Any = Parts()
    (tmp_path / "f").write_text("nonsense")
    reloading = Reloader(config(), lambda: load(file=str(tmp_path / "f"), environ={}), parts, parts, **followers(parts))
    with pytest.raises(MpsrError, match="not TOML"):
        asyncio.run(reloading.reload())
    assert (parts.calls, reloading.config) == ([], config())


def test_a_slow_file_or_user_database_delays_nobody() -> None:
    """While the configuration is read, the loop goes on: here the reading waits for the loop."""
    going_on = threading.Event()

    def slow_load() -> LoadedConfig:
        assert going_on.wait(60)
        return LoadedConfig(config(connections_max="5"), {}, "/f")

    async def scenario() -> None:
        parts: Any = Parts()
        reloading = Reloader(config(), slow_load, parts, parts, **followers(parts))
        asyncio.get_running_loop().call_soon(going_on.set)
        assert (await reloading.reload())["changed"] == ["connections_max"]

    asyncio.run(scenario())


def test_reloads_at_the_same_time_follow_each_other() -> None:
    """A reload reads the file after the reload before it is in force, so an older file never wins."""
    parts: Any = Parts()
    numbers = iter(("5", "6"))

    def next_load() -> LoadedConfig:
        parts.calls.append("load")
        return LoadedConfig(config(connections_max=next(numbers)), {}, "/f")

    async def scenario() -> None:
        reloading = Reloader(config(), next_load, parts, parts, **followers(parts))
        await asyncio.gather(reloading.reload(), reloading.reload())
        assert reloading.config.connections_max == 6

    asyncio.run(scenario())
    assert parts.calls == [
        "load",
        "retain 1024",
        "limit 5 65536",
        "rules",
        "load",
        "retain 1024",
        "limit 6 65536",
        "rules",
    ]
