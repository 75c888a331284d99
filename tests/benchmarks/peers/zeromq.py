"""
pyzmq: PUSH sockets of the producers, a PULL socket of the receiver, over ipc, each message one ZeroMQ message.

    python -m tests.benchmarks.peers.zeromq receive|receive-asyncio ADDRESS
    python -m tests.benchmarks.peers.zeromq send ORDERS

Both run in the environment of the peers. The receiver decodes each message with msgpack.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from pathlib import Path
from typing import Any

from tests.benchmarks.peer import PEERS, Missing, Peer, Work, module, output_of
from tests.benchmarks.tellcount import tell_count

BURST = 200
"""Messages before the producer looks at its clock, and goes on with its next socket."""


class ZeroMQ(Peer):
    """*how*: `receive`, blocking; `receive-asyncio`, one `await` for each message."""

    counts = "each message, decoded, in the receiver"
    package = "pyzmq (PyPI)"

    def __init__(self, name: str, how: str = "receive") -> None:
        super().__init__(name)
        self._how = how

    def version(self) -> str:
        text = "import zmq; print(f'{zmq.pyzmq_version()} (libzmq {zmq.zmq_version()})')"
        found = output_of(str(PEERS / "bin" / "python"), "-c", text)
        if "libzmq" not in found:
            raise Missing("pyzmq is not installed")
        return found.strip()

    def start(self, folder: Path, work: Work) -> None:
        self.begin(folder, module("peers.zeromq", self._how, f"ipc://{folder}/s", peers=True))
        self.await_line()

    def sender(self, work: Work, *, first: int, producers: int) -> list[str]:
        import msgpack

        from hub.bench.load import prepare_entry

        messages = [prepare_entry(number, work.size) for number in range(BURST)]
        path = self.folder / "messages"
        path.write_bytes(msgpack.packb(messages))
        orders = {
            "address": f"ipc://{self.folder}/s",
            "messages": str(path),
            "producers": producers,
            "seconds": work.seconds,
            "each": -(-work.messages // work.producers),
        }
        return module("peers.zeromq", "send", json.dumps(orders), peers=True)


def _receive(address: str, count: list[int]) -> None:
    import msgpack
    import zmq

    socket = zmq.Context().socket(zmq.PULL)
    socket.bind(address)
    threading.Thread(target=tell_count, args=(count,), daemon=True).start()
    receive, unpack = socket.recv, msgpack.unpackb
    while True:
        count[0] += "i" in unpack(receive())[1]


async def _receive_asyncio(address: str, count: list[int]) -> None:
    import msgpack
    import zmq.asyncio

    socket = zmq.asyncio.Context().socket(zmq.PULL)
    socket.bind(address)
    threading.Thread(target=tell_count, args=(count,), daemon=True).start()
    while True:
        count[0] += "i" in msgpack.unpackb(await socket.recv())[1]


def _send(orders: dict[str, Any]) -> None:
    import msgpack
    import zmq

    messages = msgpack.unpackb(Path(orders["messages"]).read_bytes())
    context = zmq.Context()
    sockets = [context.socket(zmq.PUSH) for _ in range(orders["producers"])]
    for socket in sockets:
        socket.connect(orders["address"])
    print("ready", flush=True)
    sys.stdin.readline()
    begun, sent, most = time.perf_counter(), 0, orders["each"] * len(sockets)
    while (sent < most) if most else (time.perf_counter() - begun < orders["seconds"]):
        send = sockets[sent // BURST % len(sockets)].send
        for message in messages:
            send(message)
        sent += BURST
    print(json.dumps({"messages": sent}), flush=True)
    sys.stdin.readline()


def main() -> None:
    what, argument = sys.argv[1:3]
    if what == "send":
        _send(json.loads(argument))
    elif what == "receive-asyncio":
        import asyncio

        asyncio.run(_receive_asyncio(argument, [0]))
    else:
        _receive(argument, [0])


if __name__ == "__main__":
    main()
