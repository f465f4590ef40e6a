"""The least that the operator's API could cost: a FastAPI handler that does nothing, on the same HTTP server. Run as a program."""

import sys
from typing import Any

import trio
from fastapi import FastAPI
from hypercorn.config import Config
from hypercorn.trio import serve
from hypercorn.utils import parse_socket_addr

app = FastAPI()


@app.post("/api/devices/{device_id}/send-sms", status_code=202)
async def nothing(device_id: str) -> dict[str, str]:
    """Answer as the gateway does, without having done anything."""
    return {"status": "queued", "message_id": device_id}


async def main() -> None:
    """Serve on a port of the system's choice, and print where."""
    config = Config()
    config.bind = ["127.0.0.1:0"]
    config.accesslog = config.errorlog = None
    config.keep_alive_max_requests = 10**9
    sockets = config.create_sockets()
    for each in sockets.insecure_sockets:
        each.listen(config.backlog)  # whoever reads the port below may come before `serve` does this
    config.create_sockets = lambda: sockets  # the port is known before it is served
    address: Any = parse_socket_addr(sockets.insecure_sockets[0].family, sockets.insecure_sockets[0].getsockname())
    print(f"http://127.0.0.1:{address[1]}", flush=True)
    await serve(app, config)  # pyright: ignore[reportArgumentType] FastAPI is an ASGI application


if __name__ == "__main__":
    sys.exit(trio.run(main))
