"""Looks now and then at what a gateway takes its devices to be busy with, and whether that is on its way at all."""

import trio

from signal_gateway.storage import commands as kept
from signal_gateway.testing.world import World

LOOK_S = 20.0
"""Between two looks: one may come between a commit and its news, which a slow database holds back for seconds, but not two."""

Held = set[tuple[str, str]]


class LaneWatch:
    """Outlives its gateways."""

    def __init__(self) -> None:
        self.found: Held = set()
        """Device and id of each command that had ended and still held its device at the next look."""

    async def look(self, world: World) -> None:
        """Look on until cancelled."""
        before: Held = set()
        while True:
            await trio.sleep(LOOK_S)
            held = _held(world)
            self.found |= held & before
            before = held


def _held(world: World) -> Held:
    """What is held by commands that are on their way no more."""
    held: Held = set()
    with world.database.engine.connect() as connection:
        for device_id, lane in world.gateway.dispatcher.lanes.items():
            taken = {*lane.busy.values(), *lane.on_way} - lane.claiming
            if taken:
                on_way = {each.message_id for each in kept.on_their_way(connection, device_id)}
                held |= {(device_id, message_id) for message_id in taken - on_way}
    return held
