"""
A hub in your own program: receive messages and handle each. This is the receiving half of the tokio example.

    python -m producers.examples.server /tmp/mpsr.sock
"""

import asyncio
import sys

from hub import Hub


async def main(path: str) -> None:
    async with Hub(path) as hub:
        print(f"Server listening on {path}", flush=True)
        async for message in hub:
            print(f"[Server] Received: {message.record.get('message', message.record)}", flush=True)


if __name__ == "__main__":
    try:
        asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else "/tmp/mpsr.sock"))
    except KeyboardInterrupt:
        pass
