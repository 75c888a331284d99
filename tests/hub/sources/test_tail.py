"""hub.sources.tail: lines of log files, each once, through rotations and kills."""

from __future__ import annotations

import os
from pathlib import Path

from tests.hub.clients import Run, both_loops, until
from tests.hub.sources.logfiles import Site, following


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
