"""The peer `websockets` on uvloop: echoes every message. Prints its URL and serves until killed."""

# pyright: reportMissingImports=false
# The peers live in an environment of their own: the checker does not see uvloop.

import asyncio

import uvloop
from websockets.asyncio.server import ServerConnection, serve


async def echo(connection: ServerConnection) -> None:
    """Send every message back."""
    async for message in connection:
        await connection.send(message)


async def main() -> None:
    """Serve on a free port, without compression; asyncio's transports set TCP_NODELAY themselves."""
    async with serve(echo, "127.0.0.1", 0, compression=None, backlog=4096) as server:
        print(f"ws://127.0.0.1:{next(iter(server.sockets)).getsockname()[1]}/", flush=True)
        await asyncio.Future[None]()


if __name__ == "__main__":
    uvloop.run(main())
