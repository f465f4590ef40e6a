"""Events of commands on their way to the database: applied in the order in which they were posted, those of a batch together."""

from collections.abc import Callable
from functools import partial

from signal_gateway.domain.command_rules import CommandEvent, CommandPolicy
from signal_gateway.domain.sim_limits import SimRules
from signal_gateway.services.device_directory import KnownDevice
from signal_gateway.storage.batch_writer import BatchWriter
from signal_gateway.storage.command_changes import Applied, Item, apply


class CommandPosts:
    """`rules_of` gives the rules of a device's SIMs as they are when the event is applied."""

    def __init__(self, writer: BatchWriter, policy: CommandPolicy, rules_of: Callable[[KnownDevice, int], SimRules]) -> None:
        self._writer = writer
        self._rules_of = rules_of
        self._apply = partial(apply, policy=policy)  # one object: jobs of the same work are done together

    def post(
        self,
        event: CommandEvent,
        device: KnownDevice | None,
        done: Callable[[Applied], None],
        failed: Callable[[], None] | None = None,
    ) -> bool:
        """Have an event applied; False when there is no room. What fails is counted and logged by the writer; `failed` sets right what
        waits for it, in either case."""

        def tell(came: Applied | Exception) -> None:
            if isinstance(came, Applied):
                done(came)
            elif failed is not None:
                failed()

        is_taken = self._writer.post(self._apply, Item(event, None if device is None else partial(self._rules_of, device)), tell)
        if not is_taken and failed is not None:
            failed()
        return is_taken

    async def have_applied(self, event: CommandEvent, done: Callable[[Applied], None]) -> Applied:
        """The same of one that somebody waits for; on disk when this returns. Raises DatabaseDown, DiskFull."""
        applied: Applied = await self._writer.have_done(self._apply, Item(event), done)
        return applied
