"""
Messages to Elasticsearch or OpenSearch, from the standard input of a child of the sink `exec`.

    elasticsearch.py http://elastic.example:9200 logs

Each document has an id made of host and sequence: a message that comes again is there once.
"""

import json
import os
import socket
import sys
import time
import urllib.request
from collections.abc import Iterator
from typing import Any

HOST = socket.gethostname()
EXISTS, TOO_MANY, FAULTS = 409, 429, range(500, 600)


def main(url: str, index: str) -> None:
    for messages in batches():
        last = messages[-1]["sequence"]
        while messages := bulk(f"{url}/{index}/_bulk", messages):
            time.sleep(1)
        print(last, flush=True)


def batches() -> Iterator[list[dict[str, Any]]]:
    """Yield the messages that are there, as soon as there are some."""
    rest = b""
    while data := os.read(0, 1 << 20):
        *lines, rest = (rest + data).split(b"\n")
        if lines:
            yield [json.loads(line) for line in lines]


def bulk(url: str, messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Send *messages*, and read the status of each. Return those to send again."""
    lines = []
    for message in messages:
        lines.append(json.dumps({"create": {"_id": f"{HOST}-{message['sequence']}"}}))
        document = {"@timestamp": message["time"], "tag": message["tag"], "host": HOST, "record": message["record"]}
        lines.append(json.dumps(document, ensure_ascii=False))
    headers = {"Content-Type": "application/x-ndjson"}
    request = urllib.request.Request(url, "".join(f"{line}\n" for line in lines).encode(), headers)
    with urllib.request.urlopen(request, timeout=30) as response:
        items = json.load(response)["items"]
    again = []
    for message, item in zip(messages, items, strict=True):
        status = item["create"]["status"]
        if status == TOO_MANY or status in FAULTS:
            again.append(message)
        elif status >= 400 and status != EXISTS:
            print("refused", message["sequence"], json.dumps(item["create"].get("error"))[:200], flush=True)
    return again


main(*sys.argv[1:])
