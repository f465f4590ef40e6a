"""What arrives long after its sender gave it up."""

import pytest
import trio
from trio.testing import MockClock

from signal_gateway.config import Config
from signal_gateway.services.authentication import AuthSettings
from signal_gateway.testing.world import Transport, open_world
from tests.websocket.talk import closing, phone_headers
from tests.websocket.test_links import PHONE_HEAD

CONFIG = Config(auth=AuthSettings(enrolment_keys=("demo:demo-enrolment-key",)))


@pytest.mark.parametrize("transport", ["sockets", "tls"])
async def test_an_upgrade_that_its_phone_gave_up_does_not_end_the_link_that_followed(autojump_clock: MockClock, transport: Transport):
    """A request is held up on its way; its phone closes the connection, dials again, and has its link when the request arrives.

    The end of the connection stands right behind the request. The gateway takes it for the newer link and closes the living one with
    4500: the phone is told to stay away, for the sake of a connection that it closed itself.
    """
    async with open_world(CONFIG, transport=transport) as world, world.dial("/ws", phone_headers("raw-phone")) as phone:
        await phone.receive(5)
        late = world.connect()
        await late.send_all(PHONE_HEAD)
        await late.aclose()
        code = None
        with trio.move_on_after(30):
            code = await closing(phone)
    assert code is None
