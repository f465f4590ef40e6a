"""What one request came to, on its way to disk, and what is compared when the same one comes again."""

from collections.abc import Callable, Sequence
from hashlib import sha256

import msgspec
import trio

from signal_gateway.domain.access import Operator
from signal_gateway.domain.command import Command, CommandRequest
from signal_gateway.domain.errors import IdTaken, InvalidCommand, KeyReused
from signal_gateway.storage.commands import Kept, KeptFanOut

FAN_OUT_TOO_LARGE = "fan_out_too_large"
ID_BITS_OF_COUNTER = 20


class CommandIds:
    """Ids in the order in which they are made: milliseconds since 1970 above, a counter below. `floor` is the highest given before."""

    def __init__(self, wall_ms: Callable[[], int], floor: int = 0) -> None:
        self._wall_ms = wall_ms
        self.newest = floor

    def next(self) -> int:
        """The next id, above all that were given, whatever the wall clock does."""
        self.newest = max(self.newest + 1, self._wall_ms() << ID_BITS_OF_COUNTER)
        return self.newest


class Keeping:
    """What one request came to, given to the writer. `settled` hears of it as soon as it is on disk, whoever still waits.

    `key_id` is made of the idempotency key, if there is one, which `is_alone` where it stands for no other request.
    """

    __slots__ = ("_came", "_is_there", "_settled", "is_alone", "key_id", "message_id", "request")

    def __init__(
        self, request: CommandRequest, message_id: str, key_id: str | None, is_alone: bool, settled: Callable[[Kept | KeptFanOut], None]
    ) -> None:
        self.request = request
        self.message_id = message_id
        self.key_id = key_id
        self.is_alone = is_alone
        self._settled = settled
        self._came: Kept | KeptFanOut | Exception | None = None
        self._is_there = trio.Event()

    @property
    def own_key_id(self) -> str | None:
        """What stands for the key, where whatever is kept under it must be what this request asks for."""
        return self.key_id if self.is_alone else None

    def done(self, came: Kept | KeptFanOut | Exception) -> None:
        """The writer has an answer; after a commit of unknown outcome it may have another one later."""
        if self._came is None:
            self._came = came
            self._is_there.set()
        if not isinstance(came, Exception):
            self._settled(came)

    async def result(self) -> Kept | KeptFanOut:
        """What the writer answered. Raises DatabaseDown, DiskFull."""
        await self._is_there.wait()
        assert self._came is not None  # noqa: S101 - set before the event
        if isinstance(self._came, Exception):
            raise self._came
        return self._came


def check_fits(commands: int, room: int) -> None:
    """Refuse what is for every phone of a group where that is none, or more than `room`. Raises InvalidCommand."""
    if commands == 0:
        raise InvalidCommand("group_empty", "there is no phone in this group that you may command", "to")
    if commands > room:
        message = f"it is for more phones than the {room} that are left of commands.fan_out_max: name fewer groups in one call, or devices"
        raise InvalidCommand(FAN_OUT_TOO_LARGE, message, "to")


def within(operator: Operator, commands: Sequence[Command]) -> tuple[Command, ...]:
    """Those of which this operator may know: an id that another one gave may stand for more. Raises InvalidCommand where that is none."""
    seen = tuple(command for command in commands if operator.scope.allows(command.device_id or "", command.device_group))
    check_fits(len(seen), len(seen))
    return seen


def check_is_the_same(known: Sequence[Command], keeping: Keeping) -> None:
    """Refuse an id or key that stands for something else. Raises IdTaken, KeyReused."""
    asked, first = digest(keeping.request), known[0]
    is_known = keeping.message_id in (first.message_id, first.fan_out_id)
    if is_known and all(command.digest == asked for command in known):
        return
    is_of_key = keeping.key_id is not None and first.key_id == keeping.key_id
    raise KeyReused if is_of_key or keeping.request.message_id is None else IdTaken


def digest(request: CommandRequest) -> bytes:
    """Of what is asked for, whatever it is called: SHA-256."""
    bare = msgspec.structs.replace(request, message_id=None, idempotency_key=None)
    return sha256(msgspec.json.encode(bare, order="sorted")).digest()
