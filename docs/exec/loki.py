"""
Messages to Grafana Loki, from the standard input of a child of the sink `exec`.

    loki.py http://loki.example:3100

The labels are few: host, tag and level. Loki stores an entry that comes again once: same labels, time and line.
"""

import json
import os
import socket
import sys
import urllib.error
import urllib.request
from collections import defaultdict
from collections.abc import Iterator
from datetime import datetime
from typing import Any


def main(url: str) -> None:
    for messages in batches():
        if (reason := push(url, messages)) is not None:  # one of them, or some: find out which
            for message in messages:
                if (reason := push(url, [message])) is not None:
                    print("refused", message["sequence"], reason, flush=True)
        print(messages[-1]["sequence"], flush=True)


def batches() -> Iterator[list[dict[str, Any]]]:
    """Yield the messages that are there, as soon as there are some."""
    rest = b""
    while data := os.read(0, 1 << 20):
        *lines, rest = (rest + data).split(b"\n")
        if lines:
            yield [json.loads(line) for line in lines]


def push(url: str, messages: list[dict[str, Any]]) -> str | None:
    """Send *messages*. Return why Loki refuses them, if it does. After any other fault, the child is started again."""
    streams = defaultdict(list)
    for message in messages:
        labels = (message["tag"], str(message["record"].get("level", "unknown")))
        streams[labels].append([nanoseconds(message), json.dumps(message["record"], ensure_ascii=False)])
    host = socket.gethostname()
    body = {
        "streams": [
            {"stream": {"host": host, "tag": tag, "level": level}, "values": values}
            for (tag, level), values in streams.items()
        ]
    }
    headers = {"Content-Type": "application/json"}
    request = urllib.request.Request(f"{url}/loki/api/v1/push", json.dumps(body).encode(), headers)
    try:
        urllib.request.urlopen(request, timeout=30).close()
    except urllib.error.HTTPError as error:
        if error.code != 400:
            raise
        return error.read(200).decode("utf-8", "replace").replace("\n", " ")
    return None


def nanoseconds(message: dict[str, Any]) -> str:
    """Return the time of a message; the sequence is its last digits, so that the order is kept."""
    milliseconds = int(datetime.fromisoformat(message["time"]).timestamp() * 1000)
    return str(milliseconds * 1_000_000 + message["sequence"] % 1_000_000)


main(sys.argv[1])
