"""Headless Chromium, driven over its DevTools protocol: pages that are real, with cameras and microphones that are not."""

import base64
import json
import subprocess
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path
from typing import Any

import trio
from trio_websocket import WebSocketConnection, open_websocket_url

FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--use-fake-device-for-media-stream",
    "--use-fake-ui-for-media-stream",
    "--allow-loopback-in-peer-connection",
    "--autoplay-policy=no-user-gesture-required",
    "--remote-debugging-port=0",
    "about:blank",
)
STARTS_WITHIN_S = 30.0
MESSAGE_BYTES_MAX = 16 * 2**20
QUEUE_MAX = 1000


class Page:
    """One tab."""

    def __init__(self, browser: "Browser", session_id: str) -> None:
        self._browser = browser
        self._session_id = session_id

    async def call(self, method: str, **parameters: Any) -> Any:
        """One command of the DevTools protocol."""
        return await self._browser.call(method, self._session_id, **parameters)

    async def open(self, url: str) -> None:
        """Go there."""
        await self.call("Page.navigate", url=url)

    async def run(self, script: str) -> Any:
        """The value of an expression, or of the promise that it is. Raises AssertionError for what it throws."""
        answer = await self.call("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True, userGesture=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    async def until(self, condition: str, within_s: float = 20.0) -> None:
        """Wait until an expression is true; a page that is being loaded says nothing meanwhile."""
        with trio.move_on_after(within_s):
            while True:
                try:
                    if await self.run(f"Boolean({condition})"):
                        return
                except (AssertionError, RuntimeError):
                    pass
                await trio.sleep(0.1)
        raise AssertionError(f"not within {within_s} s: {condition}; the page says: {await self.run('document.body.innerText')}")

    async def picture(self, path: Path, width: int = 1000, height: int = 800) -> None:
        """What it looks like, as a PNG of this width."""
        await self.call("Page.bringToFront")  # a tab behind another may never be drawn
        await self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600)
        shot = await self.call("Page.captureScreenshot", format="png")
        await trio.Path(path).write_bytes(base64.b64decode(shot["data"]))


class Browser:
    """A running Chromium."""

    def __init__(self, connection: WebSocketConnection) -> None:
        self._connection = connection
        self._numbers = count(1)
        self._asked: dict[int, trio.MemorySendChannel[Any]] = {}
        self.said: list[Any] = []
        """Events: what pages log and throw among them."""

    async def call(self, method: str, session_id: str | None = None, **parameters: Any) -> Any:
        """One command; its result. Raises RuntimeError for one that is refused."""
        number = next(self._numbers)
        answers, answer = trio.open_memory_channel[Any](1)
        self._asked[number] = answers
        message = {"id": number, "method": method, "params": parameters}
        await self._connection.send_message(json.dumps(message if session_id is None else {**message, "sessionId": session_id}))
        with trio.fail_after(30):
            heard = await answer.receive()
        if "error" in heard:
            raise RuntimeError(heard["error"]["message"])
        return heard["result"]

    async def page(self) -> Page:
        """A new tab."""
        target = await self.call("Target.createTarget", url="about:blank")
        attached = await self.call("Target.attachToTarget", targetId=target["targetId"], flatten=True)
        page = Page(self, attached["sessionId"])
        for domain in ("Page", "Runtime", "Log"):
            await page.call(f"{domain}.enable")
        return page

    async def listen(self) -> None:
        """Read what it says, for ever."""
        while True:
            message = json.loads(await self._connection.get_message())
            asked = self._asked.pop(message.get("id"), None)
            if asked is not None:
                asked.send_nowait(message)
            else:
                self.said.append(message)

    @property
    def faults(self) -> list[str]:
        """What pages threw, or were refused by their policy."""
        thrown = [said["params"]["exceptionDetails"]["text"] for said in self.said if said.get("method") == "Runtime.exceptionThrown"]
        logged = [said["params"]["entry"] for said in self.said if said.get("method") == "Log.entryAdded"]
        return thrown + [entry["text"] for entry in logged if entry["source"] == "security"]


@asynccontextmanager
async def chromium(folder: Path) -> AsyncGenerator[Browser, None]:
    """Chromium with a profile in `folder`, killed at the end."""
    command = ["chromium", *FLAGS[:-1], f"--user-data-dir={folder}", FLAGS[-1]]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # noqa: ASYNC220 - it only starts
    try:
        port_file = trio.Path(folder) / "DevToolsActivePort"
        with trio.fail_after(STARTS_WITHIN_S):
            while not await port_file.exists() or len((await port_file.read_text()).splitlines()) < 2:  # noqa: ASYNC110 - a file tells nobody
                await trio.sleep(0.05)
        port, path = (await port_file.read_text()).splitlines()
        url = f"ws://127.0.0.1:{port}{path}"
        opened = open_websocket_url(url, max_message_size=MESSAGE_BYTES_MAX, message_queue_size=QUEUE_MAX)
        async with opened as connection, trio.open_nursery() as nursery:
            browser = Browser(connection)
            nursery.start_soon(browser.listen)
            yield browser
            nursery.cancel_scope.cancel()
    finally:
        process.kill()
        process.wait()
