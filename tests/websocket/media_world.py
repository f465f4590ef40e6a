"""A gateway whose rooms stand on the stand-in of Cloudflare, all of it over real sockets."""

from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

import msgspec
import trio

from signal_gateway.bridges.cloudflare_settings import CloudflareSettings
from signal_gateway.config import Config
from signal_gateway.services.authentication import AuthSettings
from signal_gateway.services.room_settings import RoomsSettings
from signal_gateway.services.turn import MediaSettings
from signal_gateway.storage.database import InlineDatabase
from signal_gateway.testing.fake_cloudflare import FakeCloudflare
from signal_gateway.testing.world import World, open_world
from tests.bridges.cloudflare_made import APP_ID, APP_SECRET, SETTINGS

from .members import Member

CLIENTS = ("a", "b", "c", "d")
WITHIN_S = 10.0


class MediaWorld:
    """The gateway and what stands behind its rooms."""

    def __init__(self, world: World, fake: FakeCloudflare) -> None:
        self.world = world
        self.fake = fake
        self.rooms = world.gateway.rooms

    async def until(self, condition: Callable[[], Any]) -> None:
        """Wait until what the backend was asked has made this true."""
        with trio.fail_after(WITHIN_S):
            while not condition():
                await self.fake.asked.wait()
                await trio.lowlevel.checkpoint()

    async def closed(self, *session_ids: str) -> None:
        """Wait until these sessions were asked for and have no tracks that are open."""
        await self.until(lambda: all(self.is_closed(session_id) for session_id in session_ids))

    def is_closed(self, session_id: str) -> bool:
        """Whether it was looked at to be closed, and nothing of it is open."""
        looked = any(seen.method == "GET" and seen.path.endswith(session_id) for seen in self.fake.seen)
        return looked and not self.fake.open_tracks(session_id)

    @property
    def session_ids(self) -> list[str]:
        """Of all sessions ever made, oldest first."""
        return list(self.fake.sessions)


def configured(cloudflare: CloudflareSettings, rooms: Mapping[str, Any] | None = None) -> Config:
    """A gateway whose rooms stand on this backend."""
    return Config(
        auth=AuthSettings(api_keys=tuple(f"{client}:token-{client}" for client in CLIENTS)),
        rooms=RoomsSettings(**(rooms or {})),
        media=MediaSettings(mode="cloudflare"),
        cloudflare=cloudflare,
    )


@asynccontextmanager
async def media_world(
    rooms: Mapping[str, Any] | None = None, database: InlineDatabase | None = None, fake: FakeCloudflare | None = None, **cloudflare: Any
) -> AsyncGenerator[MediaWorld, None]:
    """One attempt for each operation, unless `cloudflare` says otherwise; `fake` goes on from world to world."""
    async with trio.open_nursery() as nursery:
        fake = fake or FakeCloudflare(APP_ID, APP_SECRET)
        port = urlsplit(await nursery.start(fake.run)).port
        chosen = {"attempts_max": 1, "failures_max": 100, **cloudflare}
        config = configured(msgspec.structs.replace(SETTINGS, base_url=f"http://127.0.0.1:{port}/v1", **chosen), rooms)
        async with open_world(config, database=database, transport="sockets") as world:
            yield MediaWorld(world, fake)
        nursery.cancel_scope.cancel()


async def hears(member: Member, name: str) -> Any:
    """The payload of what is said next, which must be of this name."""
    heard, payload = await member.hear()
    assert heard == name, (heard, payload)
    return payload


async def hears_nothing_more(member: Member) -> None:
    """Fail if anything was said to it before the answer to a question that it asks now."""
    await member.say("webrtc_room_leave", client_id=member.client_id, room_id="none")
    assert (await member.hear())[0] == "webrtc_room_leave_ack"
