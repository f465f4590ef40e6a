"""The peer trio-websocket, alone: echoes every message, or greets.

    python trio_echo.py              echoes
    python trio_echo.py GREETING     says one text of so many bytes, and waits for the close

Prints its URL and serves until killed. Trio sets TCP_NODELAY itself; trio-websocket knows no compression.
"""

import sys

import trio
from trio_websocket import ConnectionClosed, WebSocketConnection, WebSocketRequest, serve_websocket

greeting = "x" * int(sys.argv[1]) if len(sys.argv) > 1 else ""


async def echo(request: WebSocketRequest) -> None:
    """One connection until its end."""
    connection = await request.accept()
    try:
        if greeting:
            await connection.send_message(greeting)
        await speak(connection)
    except ConnectionClosed:
        pass


async def speak(connection: WebSocketConnection) -> None:
    """Send every message back."""
    while True:
        await connection.send_message(await connection.get_message())


async def main() -> None:
    """Serve on a free port."""
    async with trio.open_nursery() as nursery:
        server = await nursery.start(serve_websocket, echo, "127.0.0.1", 0, None)
        print(f"ws://127.0.0.1:{server.port}/", flush=True)


if __name__ == "__main__":
    trio.run(main)
