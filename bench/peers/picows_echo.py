"""The peer picows on uvloop, with its own defaults: echoes every message. Prints its URL and serves until killed."""

# pyright: reportMissingImports=false, reportMissingTypeStubs=false, reportUnknownParameterType=false, reportUntypedBaseClass=false
# The peers live in an environment of their own: the checker sees neither picows nor uvloop.

import uvloop
from picows import WSFrame, WSListener, WSMsgType, WSTransport, WSUpgradeRequest, ws_create_server


class Echo(WSListener):
    """One connection. picows answers pings itself."""

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        """Send a message back; answer a close and end."""
        if frame.msg_type == WSMsgType.CLOSE:
            transport.send_close(frame.get_close_code(), frame.get_close_message())
            transport.disconnect()
        elif frame.msg_type in (WSMsgType.BINARY, WSMsgType.TEXT):
            transport.send(frame.msg_type, frame.get_payload_as_memoryview())


def listen(request: WSUpgradeRequest) -> Echo:
    """Whoever comes, on whatever path."""
    return Echo()


async def serve() -> None:
    """Serve on a free port."""
    server = await ws_create_server(listen, "127.0.0.1", 0, backlog=4096)
    print(f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}/", flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(serve())
