"""Commands: 100 rounds of ping and pong, then `end` closes. A malformed frame ends only its own connection."""

import asyncio
import tempfile

from hub import CloseConnection, Hub


def end(*_: object) -> None:
    raise CloseConnection("bye")


async def serve(hub: Hub) -> None:
    async for message in hub:
        print(f"[Server] {message.tag}: {message.record['reason']}")


async def main() -> None:
    with tempfile.TemporaryDirectory(prefix="mpsr-ping-") as folder:
        async with Hub(f"{folder}/hub.sock", commands={"ping": lambda *_: "pong", "end": end}) as hub:
            server = asyncio.create_task(serve(hub))
            reader, writer = await asyncio.open_unix_connection(hub.path)
            bad_reader, bad_writer = await asyncio.open_unix_connection(hub.path)
            bad_writer.write(b"\x93\xa3app\xc1 this is no message")
            assert await bad_reader.read() == b""  # closed
            bad_writer.close()
            for number in range(100):
                writer.write(b'{"jsonrpc": "2.0", "id": %d, "method": "ping"}\n' % number)
                assert b'"pong"' in await reader.readline()
            writer.write(b'{"jsonrpc": "2.0", "id": 100, "method": "end"}\n')
            print(f"[Client] 100 rounds, then {(await reader.read()).decode().strip()}")
            writer.close()
            await hub.stop()
            await server


if __name__ == "__main__":
    asyncio.run(main())
