"""A guard: what the hub does for a message beyond copying it from a socket to a file stays within bounds."""

import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from hub.bench.load import prepare_entry
from hub.wire.chunkid import pack_own
from hub.wire.frame import encode_frame_head, encode_frame_tail
from tests.hub.clients import connect, read_acks
from tests.support import HubProcess, eventually

CHUNKS, CHUNK = 400, 1000
ROUNDS = 3
RATIO = 0.2
"""Measured: about 1. A Python object for each message would make it 0.1."""
COPY = """
import os, socket, sys

listener = socket.socket(socket.AF_UNIX)
listener.bind(sys.argv[1])
listener.listen()
while True:
    client, _ = listener.accept()
    with open(sys.argv[2], "wb", buffering=0) as file:
        while data := client.recv(1 << 18):
            file.write(data)
        os.fdatasync(file.fileno())
    client.send(b"done")
"""


def frames(session: str) -> bytes:
    payload = b"".join(prepare_entry(number, 130) for number in range(CHUNK))
    head = encode_frame_head(b"guard", len(payload))
    return b"".join(
        head + payload + encode_frame_tail(pack_own(session, counter + 1), CHUNK) for counter in range(CHUNKS)
    )


def copy_s(path: str, stream: bytes) -> float:
    """Return the seconds until the copy loop has all of it in its file."""
    with connect(path, timeout=60) as client:
        begun = time.perf_counter()
        client.sendall(stream)
        client.shutdown(1)
        assert client.recv(10) == b"done"
        return time.perf_counter() - begun


def hub_s(path: str, stream: bytes) -> float:
    """Return the seconds until the hub has acknowledged all of it."""
    with connect(path, timeout=60) as client:
        begun = time.perf_counter()
        sending = threading.Thread(target=client.sendall, args=(stream,))
        sending.start()
        assert len(read_acks(client, CHUNKS)) == CHUNKS
        seconds = time.perf_counter() - begun
        sending.join()
        return seconds


@pytest.mark.alone
def test_the_hub_is_not_far_from_a_copy_loop(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Checked, ordered, deduplicated, stored, synced, acknowledged: a fifth of the speed of mere copying, at least."""
    path = str(tmp_path / "copy")
    loop = subprocess.Popen([sys.executable, "-c", COPY, path, str(tmp_path / "copied")])
    try:
        with HubProcess(tmp_path) as hub:
            eventually(lambda: Path(path).exists(), "the copy loop's socket")
            ratios = []
            for number in range(ROUNDS):
                stream = frames(f"{number:s>22}")
                ratios.append(copy_s(path, stream) / hub_s(hub.socket, stream))
    finally:
        loop.kill()
        loop.wait()
    with capsys.disabled():
        print(f" {max(ratios):.2f} x", end="")
    assert max(ratios) >= RATIO, ratios
