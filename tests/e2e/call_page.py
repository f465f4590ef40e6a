"""The page of calls of a real server, as tests use it."""

import json
import os
import urllib.request
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import trio

from tests.bridges.cloudflare_made import APP_ID, APP_SECRET

from .chromium import Browser, Page
from .ports import free_ports
from .server import Server, command, running

MEDIA = f"""
[media]
mode = "cloudflare"
[cloudflare]
app_id = "{APP_ID}"
app_secret = "{APP_SECRET}"
base_url = "{{base_url}}/v1"
attempts_max = 1
failures_max = 1000
"""
"""Rooms on the stand-in of a media backend, at `base_url`."""
CONNECTED = "document.querySelectorAll('figure[data-state=connected]').length"
MOVES = """(async () => {
    const video = document.querySelector('figure[data-state=connected] video');
    const before = video.currentTime;
    await new Promise((resolve) => setTimeout(resolve, 700));
    return video.currentTime > before && video.videoWidth > 0 && video.srcObject.getAudioTracks().length === 1;
})()"""
FRAMES_SHOWN = "document.querySelector('figure[data-state=connected] video').getVideoPlaybackQuality().totalVideoFrames"

KEEPS_CONNECTIONS = """
const Connection = RTCPeerConnection;
window.connections = [];
window.RTCPeerConnection = class extends Connection {
    constructor(...how) {
        super(...how);
        connections.push(this);
    }
};
"""
"""Said before a page is loaded: `connections` are all that it has made."""


class Place:
    """A folder and ports that stay the same when the server is started again; `more` is said in its configuration."""

    def __init__(self, folder: Path, more: str = "") -> None:
        self.folder = folder
        self.more = more
        self.port, self.http_port, self.way_port = free_ports(3)
        self.is_behind_a_way = False

    @contextmanager
    def served(self) -> Generator[Server]:
        """The server, for a while."""
        public_url = f'public_url = "ws://127.0.0.1:{self.way_port}/ws"' if self.is_behind_a_way else ""
        with running(self.folder, port=self.port, http_port=self.http_port, drain_s=0.2, more=self.more, server=public_url) as server:
            yield server

    @property
    def call(self) -> str:
        """Where the page is."""
        return f"http://127.0.0.1:{self.http_port}/call"


class Way:
    """The way of pages to the server of a place, which can be interrupted."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self._links: list[trio.CancelScope] = []
        self._is_open = True
        place.is_behind_a_way = True

    async def run(self, *, task_status: trio.TaskStatus[Any] = trio.TASK_STATUS_IGNORED) -> None:
        """Pass on what comes, until cancelled."""
        await trio.serve_tcp(self._pass_on, self._place.way_port, host="127.0.0.1", task_status=task_status)

    def close(self, links: slice = slice(None)) -> None:
        """Cut these links, of those that are there in the order in which they came, and let nobody through."""
        self._is_open = False
        for link in self._links[links]:
            link.cancel()

    def open(self) -> None:
        """Let everybody through again."""
        self._is_open = True

    async def _pass_on(self, near: trio.SocketStream) -> None:
        if not self._is_open:
            return
        async with await trio.open_tcp_stream("127.0.0.1", self._place.port) as far, trio.open_nursery() as nursery:
            self._links.append(nursery.cancel_scope)
            for source, target in ((near, far), (far, near)):
                nursery.start_soon(self._pump, source, target, nursery.cancel_scope)
        self._links.remove(nursery.cancel_scope)

    async def _pump(self, source: trio.SocketStream, target: trio.SocketStream, link: trio.CancelScope) -> None:
        with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            async for data in source:
                await target.send_all(data)
        link.cancel()


async def start(page: Page, place: Place) -> str:
    """Start a call there; its link."""
    await page.open(place.call)
    await page.until("!document.getElementById('begin').hidden")
    await page.run("document.getElementById('start').click()")
    await page.until("!document.getElementById('call').hidden")
    return await link_of(page)


async def follow(page: Page, link: str) -> None:
    """Come into a call by its link."""
    await page.open(link)
    await page.until("!document.getElementById('begin').hidden")
    await page.run("document.getElementById('start').click()")


@asynccontextmanager
async def two_in_a_call(browser: Browser, place: Place) -> AsyncGenerator[tuple[Page, Page], None]:
    """One starts a call, the other comes by its link; both see each other."""
    host, guest = await browser.page(), await browser.page()
    link = await start(host, place)
    assert "#room=" in link
    await follow(guest, link)
    for page in (host, guest):
        await page.until(f"{CONNECTED} === 1")
    yield host, guest


async def write(writer: Page, text: str) -> None:
    """Write to all others."""
    await writer.run(f"document.getElementById('text').value = {json.dumps(text)}; document.querySelector('#write button').click()")


async def reads(reader: Page, text: str) -> None:
    """Wait until this is read."""
    line = json.dumps(f"Them: {text}")
    await reader.until(f"[...document.querySelectorAll('#texts li')].some((line) => line.textContent === {line})")


async def can_write(writer: Page) -> None:
    """Wait until what is written would arrive."""
    await writer.until("document.getElementById('state').textContent.includes('write')")


async def write_to_each_other(host: Page, guest: Page, text: str) -> None:
    """Both write, and both read."""
    for writer, reader in ((host, guest), (guest, host)):
        await can_write(writer)
        await write(writer, text)
        await reads(reader, text)


async def told(page: Page, words: str) -> None:
    """Wait until the page says this, is in no call, and offers to begin or to come in."""
    await page.until(f"document.getElementById('call').hidden && document.body.innerText.includes({json.dumps(words)})")
    await page.until("!document.getElementById('begin').hidden && !document.getElementById('start').disabled")
    assert await page.run("document.getElementById('own').srcObject") is None


async def picture(page: Page, folder: Path, name: str) -> None:
    """How it looks, on a desk and on a phone: kept where CALL_PICTURES says."""
    folder = Path(os.environ.get("CALL_PICTURES", folder))
    await page.picture(folder / f"{name}.png")
    await page.picture(folder / f"{name}-phone.png", width=390, height=844)
    assert await page.run("document.documentElement.scrollWidth <= innerWidth")


class Operator:
    """Somebody who may do all there, while it is served."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self._token = command(place.folder, "token", "issue", "--subject", "boss", "--role", "admin").stdout.splitlines()[-1]

    def ask(self, method: str, path: str) -> Any:
        """The answer of the API."""
        url = f"http://127.0.0.1:{self._place.http_port}/api{path}"
        request = urllib.request.Request(url, method=method, headers={"Authorization": f"Bearer {self._token}"})
        with urllib.request.urlopen(request, timeout=5) as answer:
            return json.loads(answer.read() or b"null")

    def receiver(self, room_id: str) -> str:
        """Who receives in this room."""
        return next(member["client_id"] for member in self.ask("GET", f"/rooms/{room_id}")["members"] if member["role"] == "receiver")


def room_of(link: str) -> str:
    """The room that this link leads to."""
    return parse_qs(urlsplit(link).fragment)["room"][0]


async def link_of(page: Page) -> str:
    """The link of the call that this page is in."""
    return str(await page.run("document.getElementById('link').value"))
