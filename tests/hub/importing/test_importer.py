"""hub.importing.importer: every line of a file is stored once, whatever ends in between, against a real hub."""

from __future__ import annotations

import contextlib
import itertools
import random
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from hub.importing import importer
from hub.importing.contents import Contents
from hub.importing.delivery import Broken, Delivery
from hub.importing.importer import Importer, Result, Stalled
from producers import NotConnected
from producers import call as ask
from tests.hub.importing.test_contents import PLAIN
from tests.hub.wire.test_containerlogs import part, whole
from tests.hub.wire.test_journalexport import export
from tests.support import PATIENCE_S, HubProcess

serial = itertools.count(1)


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HubProcess]:
    """One hub for all tests of this file: each has a tag and lines of its own."""
    with HubProcess(tmp_path_factory.mktemp("hub")) as hub:
        yield hub


@pytest.fixture
def tag() -> str:
    return f"tag.{next(serial)}"


def lines_of(tag: str, count: int, size: int = 100) -> list[str]:
    return [f"{tag} {number} ".ljust(size, "x") for number in range(count)]


def text_of(lines: list[str]) -> bytes:
    return "".join(f"{line}\n" for line in lines).encode()


def run(hub: HubProcess, path: Path, tag: str, **options: Any) -> Result:
    with Contents(str(path)) as contents:
        return Importer(hub.socket, tag=tag, **{"timeout": PATIENCE_S, **options}).run(contents)


def stored(hub: HubProcess, tag: str) -> list[str]:
    return [message.record["message"] for message in hub.messages(tag)]


def test_a_second_run_adds_nothing(hub: HubProcess, tag: str, tmp_path: Path) -> None:
    """Under another name, with another tag, compressed or not."""
    lines = lines_of(tag, 6000)
    done = run(hub, saved(tmp_path, "a.log", text_of(lines)), tag)
    assert (done.messages, done.bytes, done.known_bytes, done.fault) == (6000, len(text_of(lines)), 0, "")
    for kind, compress in PLAIN.items():
        done = run(hub, saved(tmp_path, kind, compress(text_of(lines))), f"{tag}.other")
        assert (done.messages, done.bytes, done.known_bytes) == (0, 0, len(text_of(lines)))
    assert stored(hub, tag) == lines
    assert stored(hub, f"{tag}.other") == []


def saved(folder: Path, name: str, data: bytes) -> Path:
    path = folder / name
    path.write_bytes(data)
    return path


def test_a_log_that_has_grown(hub: HubProcess, tag: str, tmp_path: Path) -> None:
    """Only what was added is stored, also after a half line, also in a short file."""
    path = saved(tmp_path, "a.log", f"{tag}\none\nha".encode())
    assert run(hub, path, tag).messages == 3
    with path.open("ab") as file:
        file.write(b"lf\ntwo\n")
    assert run(hub, path, tag).messages == 2
    assert stored(hub, tag) == [tag, "one", "ha", "lf", "two"]
    saved(tmp_path, "empty", b"")
    assert vars(run(hub, tmp_path / "empty", tag)) == vars(Result())


def test_logs_that_begin_alike(hub: HubProcess, tag: str, tmp_path: Path) -> None:
    """Each of them is stored whole, also one that is shorter, and each is known again."""
    contents = [f"{tag}\n{'same' * 500}\n{number}\n" for number in (1, 2, 3)] + [f"{tag}\n"]
    paths = [saved(tmp_path, f"{number}.log", content.encode()) for number, content in enumerate(contents)]
    assert [run(hub, path, tag).messages for path in paths] == [3, 3, 3, 1]
    assert [run(hub, path, tag).messages for path in paths] == [0, 0, 0, 0]
    expected = [line for content in contents for line in content.splitlines()]
    assert stored(hub, tag) == expected


def test_more_rows_than_one_answer_has(hub: HubProcess, tag: str, tmp_path: Path) -> None:
    """All of them are looked at."""
    for number in range(305):
        assert run(hub, saved(tmp_path, "a.log", f"{tag}\n{number}\n".encode()), tag).messages == 2
    assert run(hub, saved(tmp_path, "b.log", f"{tag}\n0\n".encode()), tag).messages == 0
    assert run(hub, saved(tmp_path, "b.log", f"{tag}\n304\nmore\n".encode()), tag).messages == 1


class Killed(BaseException):
    """What ends the importing program: nothing of it goes on."""


def test_a_program_that_is_killed_at_any_chunk(
    hub: HubProcess, tag: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next one continues, also while what the first has sent is still on its way."""
    monkeypatch.setattr("hub.importing.contents.BLOCK_BYTES", 2000)
    lines = lines_of(tag, 2000)
    path = saved(tmp_path, "a.log", text_of(lines))
    dice = random.Random(3)
    send = Delivery.send
    for _ in range(12):
        left = itertools.count(dice.randint(0, 15), -1)

        def send_some(self: Delivery, *args: Any, left: Iterator[int] = left) -> None:
            if next(left) == 0:
                raise Killed
            send(self, *args)

        monkeypatch.setattr(Delivery, "send", send_some)
        with pytest.raises(Killed):
            run(hub, path, tag)
    monkeypatch.setattr(Delivery, "send", send)
    done = run(hub, path, tag)
    assert done.known_bytes + done.bytes == len(text_of(lines))
    assert stored(hub, tag) == lines
    assert 0 < done.messages < len(lines)


def test_a_connection_that_breaks(hub: HubProcess, tag: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the hub has not got is sent once more, and counted once."""
    monkeypatch.setattr("hub.importing.contents.BLOCK_BYTES", 2000)
    lines = lines_of(tag, 500)
    send, number = Delivery.send, itertools.count()

    def send_or_break(self: Delivery, *args: Any) -> None:
        send(self, *args)
        if next(number) % 7 == 6:
            raise Broken("cut")

    monkeypatch.setattr(Delivery, "send", send_or_break)
    done = run(hub, saved(tmp_path, "a.log", text_of(lines)), tag)
    assert (done.messages, done.bytes) == (len(lines), len(text_of(lines)))
    assert stored(hub, tag) == lines


def test_a_hub_that_does_not_get_further(
    hub: HubProcess, tag: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is given up, and the reason is the last one."""

    def broken(self: Delivery, *args: Any) -> None:
        raise Broken("cut")

    path = saved(tmp_path, "a.log", text_of(lines_of(tag, 3)))
    with monkeypatch.context() as patched:
        patched.setattr(Delivery, "send", broken)
        with pytest.raises(Stalled, match="cut"):
            run(hub, path, tag, timeout=0.2)
        patched.setattr(Delivery, "send", lambda *args: None)
        with pytest.raises(Stalled, match="mpsr call losses"):
            run(hub, path, tag)
        patched.setattr("hub.importing.delivery.connected_socket", refuse)
        with pytest.raises(Stalled, match="the hub at "):
            run(hub, path, tag, timeout=0.2)
    assert run(hub, path, tag).messages == 3


def refuse(path: str) -> None:
    raise ConnectionRefusedError


def run_together(hub: HubProcess, paths: Sequence[Path], tag: str) -> list[Result]:
    """Import all *paths* at once, and return the results."""
    with ThreadPoolExecutor(len(paths)) as pool:
        return list(pool.map(lambda path: run(hub, path, tag), paths, timeout=PATIENCE_S))


def test_two_programs_at_once(hub: HubProcess, tag: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same file, and one that begins alike and has the same length: each line of both is stored once."""
    monkeypatch.setattr("hub.importing.contents.BLOCK_BYTES", 3000)
    one = lines_of(tag, 1500)
    two = [one[0], *(line.replace("x", "y") for line in one[1:])]
    paths = [saved(tmp_path, f"{number}.log", text_of(lines)) for number, lines in enumerate((one, one, two, two))]
    results = run_together(hub, paths, tag)
    found = stored(hub, tag)
    for lines, pair in ((one, results[:2]), (two, results[2:])):
        assert sum(result.messages for result in pair) == len(lines)
        assert sum(result.bytes for result in pair) == len(text_of(lines))
        assert all(result.bytes + result.known_bytes == len(text_of(lines)) for result in pair)
    assert sorted(found) == sorted(one + two)
    assert [line for line in found if "y" in line] == two[1:]
    assert [line for line in found if "y" not in line and line != one[0]] == one[1:]


def test_many_programs_at_once(hub: HubProcess, tag: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files that begin alike are all imported, however often another program takes the name first."""
    monkeypatch.setattr("hub.importing.contents.BLOCK_BYTES", 300)
    monkeypatch.setattr(importer, "STALLS_MAX", 2)
    contents = [[tag, *(f"{number} {line}" for line in range(100))] for number in range(12)]
    paths = [saved(tmp_path, f"{number}.log", text_of(lines)) for number, lines in enumerate(contents)]
    meet = threading.Barrier(len(paths))
    settle = Delivery.settle
    sent: list[int] = []

    def together(self: Delivery) -> None:
        with contextlib.suppress(threading.BrokenBarrierError):
            meet.wait(0.05)  # all have sent their first chunk under the same name
        settle(self)

    def send(self: Delivery, *args: Any, send: Any = Delivery.send) -> None:
        sent.append(1)
        send(self, *args)

    monkeypatch.setattr(Delivery, "settle", together)
    monkeypatch.setattr(Delivery, "send", send)
    results = run_together(hub, paths, tag)
    assert [result.messages for result in results] == [101] * 12
    assert sorted(stored(hub, tag)) == sorted(line for lines in contents for line in lines)
    # Beside what is stored, only first chunks: it is known after each whether the name is another's.
    chunks_of_a_file = -(-len(text_of(contents[-1])) // 300) + 1
    assert len(sent) <= 12 * chunks_of_a_file + 12 * 11 // 2


def test_a_hub_that_accepts_small_frames(tag: str, tmp_path: Path) -> None:
    """Chunks are as small as it requires; an entry that is too large is left out, and what follows it is imported."""
    lines = [*lines_of(tag, 3000), "x" * 30_000]
    entries = [export([(b"__CURSOR", b"c"), (b"MESSAGE", text)]) for text in (b"one", b"x" * 30_000, b"two")]
    with HubProcess(tmp_path, "--frame-size", "16KiB") as hub:
        assert run(hub, saved(tmp_path, "a.log", text_of(lines)), tag).messages == 3000 + 8
        assert "".join(stored(hub, tag)) == "".join(lines)
        done = run(hub, saved(tmp_path, "export", b"".join(entries)), f"{tag}.export")
        assert (done.messages, done.left_out) == (2, 1)
        assert stored(hub, f"{tag}.export") == ["one", "two"]
        assert list(hub.messages("mpsr.loss")) == []


@pytest.mark.parametrize("kind", ["cri", "docker"])
def test_parts_of_a_line_over_the_ends_of_chunks(
    kind: str, hub: HubProcess, tag: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are joined; the format is found, and is the tag without another one."""
    monkeypatch.setattr("hub.importing.contents.BLOCK_BYTES", 100)
    lines = [part(kind, tag), *(whole(kind, f"{number}", stream) for number in range(50) for stream in ("stderr",))]
    lines += [whole(kind, "end"), part(kind, "open")]
    with Contents(str(saved(tmp_path, "a.log", b"\n".join(lines)))) as contents:
        assert Importer(hub.socket, timeout=PATIENCE_S).run(contents).messages == 52
    found = [message.record for message in hub.messages(kind)]
    assert found[0] == {"message": f"{tag}end", "stream": "stdout"}
    assert found[-1] == {"message": "open", "stream": "stdout", "partial": True}


def test_a_file_that_is_damaged(hub: HubProcess, tag: str, tmp_path: Path) -> None:
    """The lines before the damage are stored, and when it is whole, only the rest."""
    lines = lines_of(tag, 30_000)
    packed = PLAIN["gzip"](text_of(lines))
    done = run(hub, saved(tmp_path, "a.gz", packed[: len(packed) // 2]), tag)
    assert (done.fault, 0 < done.messages < len(lines)) == ("it ends in the middle of gzip", True)
    assert stored(hub, tag) == lines[: done.messages]
    assert run(hub, saved(tmp_path, "a.gz", packed), tag).messages == len(lines) - done.messages
    assert stored(hub, tag) == lines
    assert run(hub, saved(tmp_path, "a.gz", packed[:-1]), tag).fault == "it ends in the middle of gzip"
    done = run(hub, saved(tmp_path, "b.gz", packed[:12]), tag)
    assert (done.fault, done.messages) == ("it ends in the middle of gzip", 0)


def test_a_log_that_grows_while_another_program_imports_it(
    hub: HubProcess, tag: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the other one has imported further is not sent as another file."""
    path = saved(tmp_path, "a.log", f"{tag}\none\n".encode())
    settle = Delivery.settle

    def late(self: Delivery) -> None:
        monkeypatch.setattr(Delivery, "settle", settle)
        with path.open("ab") as file:
            file.write(b"two\n")
        settle(self)
        assert run(hub, path, tag).messages == 1

    monkeypatch.setattr(Delivery, "settle", late)
    done = run(hub, path, tag)
    assert (done.messages, done.known_bytes) == (2, len("two\n"))
    assert stored(hub, tag) == [tag, "one", "two"]


def test_a_hub_that_is_away(hub: HubProcess, tag: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At the beginning it is an error at once; later it is waited for, in vain if it has ended."""
    path = saved(tmp_path, "a.log", text_of(lines_of(tag, 3)))
    with Contents(str(path)) as contents, pytest.raises(NotConnected):
        Importer(str(tmp_path / "nothing"), timeout=PATIENCE_S).run(contents)
    calls = itertools.count()

    def away(*args: Any, **options: Any) -> Any:
        if 0 < next(calls) < 4:
            raise NotConnected("s", "no hub at s")
        return ask(*args, **options)

    monkeypatch.setattr(importer, "call", away)
    assert run(hub, path, tag).messages == 3
    calls = itertools.count()
    monkeypatch.setattr("time.monotonic", itertools.count(0, 1000).__next__)
    running = Importer(hub.socket, tag=tag, timeout=1)
    with Contents(str(path)) as contents:
        assert running.run(contents).messages == 0
        with pytest.raises(NotConnected):
            running.run(contents)
