"""
Messages to S3 or a server that speaks its protocol, from the standard input of a child of the sink `exec`. It needs
`pip install obstore`. The credentials are in the environment, as `AWS_ACCESS_KEY_ID` and `AWS_SECRET_ACCESS_KEY`.

    s3.py https://s3.example bucket

An object is named after the host and its first sequence. After a kill, two objects may have some messages in common;
their sequences identify them. For large objects, use the sink `file`, and upload the files that it has finished.
"""

import gzip
import json
import os
import socket
import sys
from collections.abc import Iterator

import obstore
from obstore.store import S3Store


def main(endpoint: str, bucket: str) -> None:
    options = {"allow_http": endpoint.startswith("http://")}
    store = S3Store(bucket, endpoint=endpoint, region="us-east-1", client_options=options)
    for lines in batches():
        first, last = (json.loads(line)["sequence"] for line in (lines[0], lines[-1]))
        name = f"{socket.gethostname()}/{first:016d}.json.gz"
        obstore.put(store, name, gzip.compress(b"".join(line + b"\n" for line in lines), mtime=0))
        print(last, flush=True)


def batches() -> Iterator[list[bytes]]:
    """Yield the lines that are there, as soon as there are some."""
    rest = b""
    while data := os.read(0, 1 << 20):
        *lines, rest = (rest + data).split(b"\n")
        if lines:
            yield lines


if __name__ == "__main__":
    main(*sys.argv[1:])
