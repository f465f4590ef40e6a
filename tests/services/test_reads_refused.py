"""While the database answers no reads, whatever reads it again and again goes on asking: no server ends by it (H17)."""

from functools import partial
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from signal_gateway.domain.errors import DatabaseDown, DiskFull
from signal_gateway.domain.events import SettingsChanged
from signal_gateway.domain.phone_settings import PhoneSettings
from signal_gateway.storage import tokens
from signal_gateway.testing.world import open_world
from tests.websocket.talk import hear, phone_headers
from tests.websocket.test_commands import log_of, patient, sms, submit, told


@pytest.mark.parametrize("refusal", [DatabaseDown, DiskFull])
async def test_what_is_read_again_and_again_is_known_once_the_database_answers(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch, refusal: type[DatabaseDown | DiskFull]
):
    """Lanes of commands, their sweeps, and tokens that another process revokes."""
    asked: list[Any] = []

    async def refuse(work: Any, *, timeout_s: float | None = None) -> Any:
        asked.append(work)
        await trio.lowlevel.checkpoint()
        raise refusal

    async with open_world(patient()) as world, world.dial("/ws", phone_headers()) as phone:
        await hear(phone)
        await submit(world, sms(sim_slot=0))
        await submit(world, sms(sim_slot=0, message="again"))
        first = await told(phone)
        with monkeypatch.context() as patched:
            patched.setattr(world.database, "read", refuse)
            world.bus.publish(SettingsChanged("phone-1", PhoneSettings(), 2))  # its lane is read again
            assert (await hear(phone))["type"] == "connection_established"
            await world.database.write(partial(tokens.revoke, token_id="t1", subject="", expires_at=2**50, actor="cli", now_ms=1))
            await trio.sleep(10)
            assert len(asked) > 20
            assert not world.gateway.operators.is_revoked("t1")
        await trio.sleep(3)
        assert world.gateway.operators.is_revoked("t1")
        await log_of(phone, first)
        assert ((await told(phone, 60)) or {})["data"]["message"] == "again"
