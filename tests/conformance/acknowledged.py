"""
Sends as fluent-logger-golang 1.9.0 does with RequestAck, and with it Docker's fluentd driver: a frame in the form that
recordings.py has of both, wait for its acknowledgement, and send the same frame again on a new connection if that ends.

    python acknowledged.py SOCKET    texts on standard input, a JSON string a line; prints each acknowledged one
"""

from __future__ import annotations

import base64
import json
import os
import socket
import struct
import sys
import time

import msgpack


def frame_of(text: str) -> tuple[bytes, str]:
    """Return the frame of *text*, and its chunk id: the second, and a random number, as base64."""
    now = int(time.time())
    chunk_id = base64.b64encode(struct.pack("<q", now) + os.urandom(8)).decode()
    packed = [msgpack.packb(each) for each in ("shop.web", {"message": text}, {"chunk": chunk_id})]
    return b"\x94" + packed[0] + b"\xd2" + struct.pack(">i", now) + packed[1] + packed[2], chunk_id


def main(path: str) -> None:
    client: socket.socket | None = None
    for line in sys.stdin:
        frame, chunk_id = frame_of(json.loads(line))
        while True:
            try:
                if client is None:
                    client = socket.socket(socket.AF_UNIX)
                    client.connect(path)
                client.sendall(frame)
                reply = client.recv(4096)
            except OSError:
                reply = b""
            if reply:
                break
            if client is not None:
                client.close()
                client = None
            time.sleep(0.01)
        assert msgpack.unpackb(reply) == {"ack": chunk_id}
        print(line, end="", flush=True)
    if client is not None:
        client.close()


if __name__ == "__main__":
    main(sys.argv[1])
