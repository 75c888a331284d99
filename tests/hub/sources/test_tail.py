"""hub.sources.tail: lines of log files, each once, through rotations and kills."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hub.access import Access, Rule, Rules
from hub.journal.journal import Journal
from hub.limits import Limit, Limits
from hub.sources import tail, watching
from hub.sources.following import Following
from hub.sources.source import Lag
from hub.sources.values import TagTemplate
from tests.hub.clients import Run, both_loops, until
from tests.hub.sources.logfiles import Site, following
from tests.users import ALICE, MALLORY, NEEDS_ROOT


@both_loops
def test_lines_are_followed(run: Run, tmp_path: Path) -> None:
    """What is there, and what is appended, is stored; half a line waits for its end."""

    async def main() -> None:
        async with following(tmp_path) as site:
            site.write("app.log", "one\ntwo\nthr")
            await site.has("one", "two")
            site.write("app.log", "ee\r\n\nfive\n")
            await site.has("one", "two", "three", "", "five")
            assert {message.tag for message in site.messages} == {
                f"files.{str(site.logs)[1:].replace('/', '.')}.app.log"
            }
            (peer,) = {message.peer for message in site.messages}
            assert (peer.uid, peer.comm, peer.verified) == (os.geteuid(), "files", False)

    run(main())


@both_loops
def test_a_rotated_file_is_read_to_its_end(run: Run, tmp_path: Path) -> None:
    """Lines that are written before, during and after a rename are stored once, the older file's first."""

    async def main() -> None:
        async with following(tmp_path) as site:
            site.write("app.log", "1\n2\n")
            await site.has("1", "2")
            with open(site.logs / "app.log", "ab") as writer:
                os.rename(site.logs / "app.log", site.logs / "app.log.1")
                site.write("app.log", "4\n")
                writer.write(b"3\n")
            await until(lambda: len(site.texts) == 4)
            assert sorted(site.texts) == ["1", "2", "3", "4"]

    run(main())


@both_loops
def test_a_killed_hub_goes_on(run: Run, tmp_path: Path) -> None:
    """After a kill, lines go on where the journal ends; also in a file that was renamed meanwhile."""

    async def main() -> None:
        site = Site(tmp_path)
        site.write("app.log", "1\n2\n")
        await site.start()
        await site.has("1", "2")
        await site.kill()
        site.write("app.log", "3\n")
        os.rename(site.logs / "app.log", site.logs / "app.log.1")
        site.write("app.log", "4\n")
        await site.start()
        await site.has("1", "2", "3", "4")
        await site.stop()
        assert site.losses == []

    run(main())


@both_loops
def test_generations_that_nobody_saw(run: Run, tmp_path: Path) -> None:
    """Files that were created, filled and renamed while no hub ran are read, the oldest first."""

    async def main() -> None:
        site = Site(tmp_path)
        site.write("app.log", "1\n")
        await site.start()
        await site.has("1")
        await site.kill()
        for n in (2, 4, 6):
            site.write("app.log", f"{n}\n")
            for old in (3, 2, 1):
                if (site.logs / f"app.log.{old}").exists():
                    os.rename(site.logs / f"app.log.{old}", site.logs / f"app.log.{old + 1}")
            os.rename(site.logs / "app.log", site.logs / "app.log.1")
            site.write("app.log", f"{n + 1}\n")
        await site.start()
        await site.has("1", "2", "3", "4", "5", "6", "7")
        await site.stop()
        assert site.losses == []

    run(main())


def own(path: Path, uid: int) -> None:
    """Give the file at *path* to a user."""
    os.chown(path, uid, uid)


@NEEDS_ROOT
def test_each_owner_has_an_intake(tmp_path: Path) -> None:
    """The writer is the owner of the file; a file that changes its owner goes on."""

    async def main() -> None:
        site = Site(tmp_path)
        for name, uid in (("a.log", ALICE), ("m.log", MALLORY)):
            site.write(name, f"{name}\n")
            own(site.logs / name, uid)
        await site.start()
        await until(lambda: len(site.texts) == 2)
        assert {message.record["message"]: message.peer.uid for message in site.messages} == {
            "a.log": ALICE,
            "m.log": MALLORY,
        }
        own(site.logs / "a.log", MALLORY)
        site.write("a.log", "given away\n")
        await until(lambda: len(site.texts) == 3)
        own(site.logs / "a.log", ALICE)
        site.write("a.log", "and back\n")
        await until(lambda: len(site.texts) == 4)
        await site.stop()
        await site.start()
        assert len(site.texts) == 4
        await site.stop()

    asyncio.run(main())


@NEEDS_ROOT
def test_a_user_who_may_not_send(tmp_path: Path) -> None:
    """The files of such a user are not read, until the rules change; those of others are."""

    async def main() -> None:
        site = Site(tmp_path)
        for name, uid in (("a.log", ALICE), ("m.log", MALLORY)):
            site.write(name, f"{name}\n")
            own(site.logs / name, uid)
        site.access = Access({"send": Rules(deny=(Rule.parse(f"uid:{MALLORY}"),))})
        await site.start()
        await site.has("a.log")
        await until(lambda: site.losses)
        assert "may not send" in site.losses[0]["reason"]
        site.access.change({"send": Rules()})
        await site.has("a.log", "m.log")
        await site.stop()

    asyncio.run(main())


@NEEDS_ROOT
def test_a_user_at_the_limit_holds_up_nobody(tmp_path: Path) -> None:
    """The files of a user over a rate limit wait; those of others do not. A stop lets through what was read."""

    async def main() -> None:
        site = Site(tmp_path)
        site.write("a.log", "a\n" * 10)
        site.write("m.log", "m\n" * 400_000)
        own(site.logs / "a.log", ALICE)
        own(site.logs / "m.log", MALLORY)
        await site.start(Limits([Limit("*", MALLORY, 0.001, None, "block")]))
        await until(lambda: site.texts.count("a") == 10)
        assert site.texts.count("m") < 400_000
        await site.stop()

    asyncio.run(main())


@both_loops
def test_what_a_limit_drops_is_not_read_again(run: Run, tmp_path: Path) -> None:
    """Its place is committed, and it is reported."""

    async def main() -> None:
        site = Site(tmp_path)
        site.write("app.log", "1\n")
        await site.start(Limits([Limit("*", None, 0.001, None, "drop")]))
        await site.has("1")
        site.write("app.log", "2\n3\n")
        await until(lambda: site.losses)
        assert site.losses[0]["count"] == 2
        await site.stop()
        await site.start()
        site.write("app.log", "4\n")
        await site.has("1", "4")
        await site.stop()

    run(main())


@both_loops
def test_killed_while_nothing_is_stored(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was read and not committed is read again, and once."""

    async def main() -> None:
        site = Site(tmp_path)
        append, may_append = Journal.append, asyncio.Event()
        site.write("app.log", "".join(f"{n}\n" for n in range(100_000)))

        async def wait(journal: Journal, batches: Any) -> Any:
            if any(batch.count for batch in batches):
                await may_append.wait()
            return await append(journal, batches)

        monkeypatch.setattr(Journal, "append", wait)
        await site.start()
        await until(lambda: site.endpoint.inbox.budget.queued_bytes > 100_000)
        await site.kill()
        may_append.set()
        await site.start()
        await until(lambda: site.journal.last_sequence >= 100_000)
        assert site.texts == [str(n) for n in range(100_000)]
        await site.stop()

    run(main())


@both_loops
def test_a_fault_is_raised_and_nothing_is_repeated(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An error of ours ends the source; one that is made again goes on."""

    async def main() -> None:
        site = Site(tmp_path)
        site.write("app.log", "1\n")
        await site.start()
        await site.has("1")
        step = Following.step
        monkeypatch.setattr(Following, "step", lambda *_: 1 / 0)
        site.write("app.log", "2\n")
        with pytest.raises(ZeroDivisionError):
            await asyncio.wait_for(site.running, 30)
        monkeypatch.setattr(Following, "step", step)
        await site.kill()
        await site.start()
        await site.has("1", "2")
        await site.stop()

    run(main())


@both_loops
def test_long_lines(run: Run, tmp_path: Path) -> None:
    """A line larger than a read is one message; one over the limit is a loss, and the next one follows."""

    async def main() -> None:
        site = Site(tmp_path)
        site.frame_bytes_max = 1 << 20
        site.write("app.log", "x" * 700_000 + "\n" + "y" * (1 << 20) + "y\nend\n")
        await site.start()
        await until(lambda: len(site.texts) == 2)
        assert [len(text) for text in site.texts] == [700_000, 3]
        assert [loss["bytes"] for loss in site.losses] == [(1 << 20) + 1]
        assert site.endpoint.inbox.budget.loose_bytes == 0
        await site.stop()

    run(main())


@both_loops
def test_folders_that_appear(run: Run, tmp_path: Path) -> None:
    """A folder that is made later, and files in it, are found by their events."""

    async def main() -> None:
        async with following(tmp_path, paths=[f"{tmp_path}/logs/**/*.log", f"{tmp_path}/later/sub/*.log"]) as site:
            for folder in ("logs/a/b", "later/sub"):
                (tmp_path / folder).mkdir(parents=True)
                (tmp_path / folder / "x.log").write_text(f"{folder}\n")
            await until(lambda: sorted(site.texts) == ["later/sub", "logs/a/b"])

    run(main())


@both_loops
def test_a_link_that_leads_to_another_folder(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The folder is watched as soon as the link is seen: what is written there is found without another look."""
    monkeypatch.setattr(tail, "LOOK_S", 3600.0)

    async def main() -> None:
        async with following(tmp_path) as site:
            texts: list[str] = []
            for folder in (tmp_path / "1", tmp_path / "2"):
                folder.mkdir()
                (tmp_path / "link").symlink_to(folder / "a")
                for text in (f"{folder.name} first", f"{folder.name} second"):
                    with (folder / "a").open("a") as file:
                        file.write(f"{text}\n")
                    if (tmp_path / "link").is_symlink():
                        (tmp_path / "link").rename(site.logs / "app.log")
                    texts.append(text)
                    await site.has(*texts)

    run(main())


@both_loops
def test_without_events(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the kernel reports nothing, everything is found a little later."""
    monkeypatch.setattr(watching, "_library", lambda: None)
    monkeypatch.setattr(tail, "POLL_FOLDERS_S", 0.05)
    monkeypatch.setattr(tail, "POLL_S", 0.02)

    async def main() -> None:
        async with following(tmp_path) as site:
            site.write("app.log", "1\n")
            await site.has("1")
            site.write("app.log", "2\n")
            os.rename(site.logs / "app.log", site.logs / "app.log.1")
            site.write("app.log", "3\n")
            await site.has("1", "2", "3")

    run(main())


@both_loops
def test_tags_and_formats(run: Run, tmp_path: Path) -> None:
    """The table's tag, joiner and format are used."""

    async def main() -> None:
        async with following(tmp_path, tag=TagTemplate.parse("{folder}.{name}"), parse="json") as site:
            site.write("app.log", '{"n": 1}\nx\n')
            await until(lambda: len(site.messages) == 2)
            assert {message.tag for message in site.messages} == {"logs.app"}
            assert [message.record for message in site.messages] == [{"n": 1}, {"message": "x"}]

    run(main())


@both_loops
def test_the_lag(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is what is not read yet, while nothing can be stored."""
    monkeypatch.setattr(tail, "TICK_S", 0.01)

    async def main() -> None:
        async with following(tmp_path) as site:
            assert site.source.lag == Lag(0)
            site.write("app.log", "1\n" * 5)
            await until(lambda: len(site.texts) == 5)
            await until(lambda: site.source.lag.bytes == 0)

    run(main())


@both_loops
def test_a_long_look(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is written to a file that is known is read while a look at many others goes on."""
    is_held, is_looking = True, False
    look = Following.look

    def long_look(self: Following, *, everything: bool = True) -> Iterator[None]:
        nonlocal is_looking
        is_looking = True
        while is_held:
            yield
        yield from look(self, everything=everything)

    async def check() -> None:
        nonlocal is_held
        async with following(tmp_path) as site:
            site.write("known.log", "1\n")
            await site.has("1")
            monkeypatch.setattr(Following, "look", long_look)
            try:
                site.write("other.log", "")
                await until(lambda: is_looking, "a look")
                site.write("known.log", "2\n")
                await site.has("1", "2")
            finally:
                is_held = False

    run(check())


@both_loops
def test_a_file_that_is_made_and_moved_away_between_two_looks(run: Run, tmp_path: Path) -> None:
    """Nobody can read it any more, so it is a loss; the file before it was open, and is read to its end."""
    pytest.importorskip("inotify_simple", reason="needs the library inotify-simple")

    async def main() -> None:
        (tmp_path / "away").mkdir()
        async with following(tmp_path) as site:
            site.write("app.log", "1\n")
            await site.has("1")
            await site.has_rested()
            for number in (2, 3):
                os.rename(site.logs / "app.log", tmp_path / "away" / f"{number}")
                site.write("app.log", f"{number}\n")
            await until(lambda: len(site.texts) == 2 and site.losses)
            assert site.texts == ["1", "3"]
            (loss,) = site.losses
            assert loss["tag"].endswith(".app.log")
            assert "before it was opened" in loss["reason"]
            site.write("app.log", "4\n")
            await site.has("1", "3", "4")
            assert len(site.losses) == 1

    run(main())


@both_loops
def test_a_file_that_is_made_and_moved_to_another_folder_of_the_source(run: Run, tmp_path: Path) -> None:
    """It is found there: nothing is lost."""
    pytest.importorskip("inotify_simple", reason="needs the library inotify-simple")

    async def main() -> None:
        old = tmp_path / "old"
        old.mkdir()
        async with following(tmp_path, paths=[f"{tmp_path}/logs/*.log", f"{old}/*"]) as site:
            site.write("app.log", "1\n")
            await site.has("1")
            await site.has_rested()
            for number in (2, 1):
                os.rename(site.logs / "app.log", old / f"app.log.{number}")
                site.write("app.log", f"{4 - number}\n")
            await site.has("1", "2", "3")
            site.write("app.log", "4\n")
            await site.has("1", "2", "3", "4")
            assert site.losses == []

    run(main())
