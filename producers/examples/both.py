"""
A hub and five producers in one program. `mpsr demo` runs this; it follows the combined tokio example.

    python -m producers.examples.both
"""

import asyncio
import tempfile

from hub import Hub
from producers import AsyncProducer


async def serve(hub: Hub) -> None:
    async for message in hub:
        print(f"[Server] Got: {message.record['message']}", flush=True)


async def produce(number: int, path: str) -> None:
    async with AsyncProducer(path, tag="demo") as producer:
        await producer.send({"message": f"Message from producer {number}"})
        print(f"[Producer {number}] Sent.", flush=True)


async def main() -> None:
    with tempfile.TemporaryDirectory(prefix="mpsr-demo-") as folder:
        async with Hub(f"{folder}/hub.sock") as hub, asyncio.TaskGroup() as server:
            print("[Server] Listening...", flush=True)
            server.create_task(serve(hub))
            async with asyncio.TaskGroup() as producers:
                for number in range(5):
                    producers.create_task(produce(number, hub.path))
            await hub.stop()  # handles everything sent before


if __name__ == "__main__":
    asyncio.run(main())
