"""
Messages to Kafka, from the standard input of a child of the sink `exec`. It needs `pip install confluent-kafka`.

    kafka.py broker.example:9092 logs

The tag is the key: the messages of one tag keep their order. After a fault, some messages are there twice; the headers
`host` and `sequence` identify them.
"""

import json
import os
import socket
import sys
from collections.abc import Iterator

from confluent_kafka import KafkaError, KafkaException, Message, Producer

HOST = socket.gethostname()


def main(servers: str, topic: str) -> None:
    producer = Producer({"bootstrap.servers": servers, "enable.idempotence": True, "linger.ms": 5})
    for lines in batches():
        failed: list[KafkaError] = []

        def note(error: KafkaError | None, _: Message, failed: list[KafkaError] = failed) -> None:
            if error is not None:
                failed.append(error)

        for line in lines:
            message = json.loads(line)
            headers = {"host": HOST, "sequence": str(message["sequence"])}
            try:
                producer.produce(topic, line, key=message["tag"], headers=headers, on_delivery=note)
            except KafkaException as error:
                if error.args[0].code() != KafkaError.MSG_SIZE_TOO_LARGE:
                    raise
                print("refused", message["sequence"], error.args[0].str(), flush=True)
        if producer.flush(30) or failed:
            sys.exit(f"not delivered: {failed[:1]}")
        print(message["sequence"], flush=True)


def batches() -> Iterator[list[bytes]]:
    """Yield the lines that are there, as soon as there are some."""
    rest = b""
    while data := os.read(0, 1 << 20):
        *lines, rest = (rest + data).split(b"\n")
        if lines:
            yield lines


if __name__ == "__main__":
    main(*sys.argv[1:])
