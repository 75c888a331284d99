"""
Five concurrent clients of one hub. A client that cannot connect reports it; the others continue.

    python -m producers.examples.clients /tmp/mpsr.sock
"""

import asyncio
import sys

from producers import AsyncProducer, ProducerError


async def produce(number: int, path: str) -> None:
    text = f"Hello from producer {number}"
    try:
        async with AsyncProducer(path, tag="example") as producer:
            await producer.connect(timeout=1)
            await producer.send({"message": text})
            await producer.flush(timeout=5)
        print(f"[Producer {number}] Sent: {text}", flush=True)
    except ProducerError as error:
        print(f"[Producer {number}] Failed to connect: {error}", file=sys.stderr, flush=True)


async def main(path: str) -> None:
    async with asyncio.TaskGroup() as group:
        for number in range(5):
            group.create_task(produce(number, path))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else "/tmp/mpsr.sock"))
