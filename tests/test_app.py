"""The wiring: settings that reach where they belong."""

from trio.testing import MockClock

from signal_gateway.config import Config
from signal_gateway.testing.world import open_world
from signal_gateway.websocket.admission import SecuritySettings
from signal_gateway.websocket.server_settings import ServerSettings
from tests.websocket.talk import refusal


async def test_rate_limits_can_be_switched_off_as_seed_003_has_it(autojump_clock: MockClock):
    async with open_world(Config(security=SecuritySettings(rate_limit_enabled=False))) as world:
        buckets = world.gateway.limits.stranger()
        assert all(buckets.data.take(0.0) == 0 for _ in range(100_000))


async def test_any_origin_is_believed_on_loopback_or_where_insecurity_was_asked_for(autojump_clock: MockClock):
    security = SecuritySettings(allowed_origins=("*",))
    for host, insecure, status in (("127.0.0.1", False, None), ("0.0.0.0", True, None), ("0.0.0.0", False, 403)):
        async with open_world(Config(security=security, server=ServerSettings(host=host, insecure=insecure))) as world:
            if status is None:
                async with world.dial("/ws", {"Origin": "https://anything.example"}):
                    pass
            else:
                assert await refusal(world, "/ws", {"Origin": "https://anything.example"}) == status
