"""Ends devices together with what is open for them, and has memory follow."""

from collections.abc import Callable
from functools import partial

from signal_gateway.domain.command_rules import CommandPolicy
from signal_gateway.storage.batch_writer import BatchWriter
from signal_gateway.storage.command_changes import Applied
from signal_gateway.storage.device_endings import Ended, Ending, end_devices


class DeviceEndings:
    """Deletes devices. `follow` is told of every command that has changed."""

    def __init__(self, writer: BatchWriter, policy: CommandPolicy, follow: Callable[[Applied], None]) -> None:
        self._writer = writer
        self._work = partial(end_devices, policy=policy)
        self._follow = follow

    async def end(self, device_id: str, actor: str, at: int) -> list[str] | None:
        """Withdraw all commands of a device that are open, page by page, and delete it with the last of them; on disk when this returns.

        Returns the ids of the keys that were its own and are revoked, or None when there is no such device. Raises DatabaseDown, DiskFull.
        """
        while True:
            ended: Ended = await self._writer.have_done(self._work, Ending(device_id, actor, at), self._follow_all)
            if ended.is_deleted:
                return ended.revoked

    def _follow_all(self, ended: Ended) -> None:
        for applied in ended.withdrawn:
            self._follow(applied)
