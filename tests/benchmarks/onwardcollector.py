"""
A server for the sink `otlp` that costs as little as it can: it parses each request with protobuf's own classes, counts
the log records, and answers each line of its standard input with their number.

    python -m tests.benchmarks.onwardcollector      prints its port
"""

from __future__ import annotations

import gzip
import os
import socket
import sys
import threading
from http.client import parse_headers

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: application/x-protobuf\r\nContent-Length: 0\r\n\r\n"


def serve(server: socket.socket, count: list[int]) -> None:
    """Answer one connection after the other."""
    while True:
        client, _ = server.accept()
        with client, client.makefile("rb") as requests:
            while requests.readline():
                headers = parse_headers(requests)
                body = requests.read(int(headers["Content-Length"]))
                if headers["Content-Encoding"] == "gzip":
                    body = gzip.decompress(body)
                request = ExportLogsServiceRequest.FromString(body)
                scopes = (scope for resource in request.resource_logs for scope in resource.scope_logs)
                count[0] += sum(len(scope.log_records) for scope in scopes)
                client.sendall(ANSWER)


def main() -> None:
    count = [0]
    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=serve, args=(server, count), daemon=True).start()
        print(server.getsockname()[1], flush=True)
        for _ in sys.stdin:
            print(count[0], flush=True)
    os._exit(0)  # the process that asked has ended


if __name__ == "__main__":
    main()
