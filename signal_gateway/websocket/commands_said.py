"""Which command a frame's UUID stands for: an answer carries that of its question (CONTRACT.md §2)."""

from collections import OrderedDict

COMMANDS_MAX = 64
"""Commands of one link that are known so. One for each SIM and one without are on their way at a time; the others are tries before."""


class CommandsSaid:
    """The newest commands that were said on one link in frames."""

    def __init__(self) -> None:
        self._message_ids: OrderedDict[bytes, str] = OrderedDict()

    def note(self, uuid: bytes, message_id: str) -> None:
        """This one was said in the frame of this UUID."""
        self._message_ids[uuid] = message_id
        if len(self._message_ids) > COMMANDS_MAX:
            self._message_ids.popitem(last=False)

    def find(self, uuid: bytes) -> str | None:
        """The `message_id` of the command that was said so; None where none was."""
        return self._message_ids.get(uuid)
