"""Every live link of this process, and which one speaks for which client (DESIGN.md §4, §7).

A client has one link. When it comes again the newer link wins: the older one is fenced at once - nothing of it is heard or said any more -
and closed with a code that tells it to stay away.
"""

from collections import Counter
from collections.abc import Callable
from math import ceil
from typing import Protocol

import trio

from protocol.close_codes import CloseCode
from signal_gateway.bus.local import Bus
from signal_gateway.domain.events import CredentialRevoked
from signal_gateway.domain.principal import LinkKind, Principal
from signal_gateway.observe.logs import logger
from signal_gateway.observe.metrics import Metrics
from signal_gateway.websocket.commands_said import CommandsSaid
from signal_gateway.websocket.outbox import Outbox

LOOK_EVERY_S = 1.0
"""Seconds between two looks at the links whose time it is: the precision of every deadline of a link."""
LOOKS_APART_MAX = 5
"""Looks of the hub after which a link is looked at in any case: what begins in between, as a message that drags, is noticed so late."""

log = logger("websocket")


class LiveLink(Protocol):
    """What the hub must know of a link."""

    commands_said: CommandsSaid | None
    """Of an agent that speaks frames, once it was told a command."""

    @property
    def kind(self) -> LinkKind:
        """Whose table of handlers it has."""
        ...

    @property
    def principal(self) -> Principal | None:
        """Whom it speaks for; None before authentication."""
        ...

    @property
    def outbox(self) -> Outbox:
        """What waits for its peer."""
        ...

    @property
    def is_fenced(self) -> bool:
        """Whether nothing of it is heard any more, and nothing but a goodbye is said."""
        ...

    @property
    def encoding(self) -> tuple[bool, int]:
        """In which it is spoken to: whether in text, and the payload kind of frames."""
        ...

    def new_uuid_bytes(self) -> bytes:
        """For a frame that we start."""
        ...

    def put_frame(self, frame: bytes, payload_bytes: int, name: str) -> None:
        """Send one whole message that is in its WebSocket frame already."""
        ...

    def look_after(self, now: float) -> float:
        """Keep its deadlines; `now` is in Trio seconds, and so is the answer: when to look again, as far as it knows."""
        ...

    def say(self, message: object, name: str, uuid: bytes | None = None) -> None:
        """Say something that it did not ask for, in the encoding that it came with; `uuid` is that of its frame, where it matters."""
        ...

    def close_soon(self, code: int, reason: str, retry_after_s: float | None = None) -> None:
        """Fence it at once, and close it."""
        ...


class Hub:
    """The table of links. `run` looks after their deadlines; `drain` says goodbye to all."""

    def __init__(self, bus: Bus, metrics: Metrics) -> None:
        self._links: dict[LiveLink, int] = {}  # and at which of the next looks it is looked at
        self._looks: list[dict[LiveLink, None]] = [{} for _ in range(LOOKS_APART_MAX + 1)]
        self._look = 0  # the number of the last one, which is the place of its links above
        self._by_client: dict[str, LiveLink] = {}
        self.link_of: Callable[[str], LiveLink | None] = self._by_client.get
        """The link that speaks for this client, if it has one here."""
        self._empty = trio.Event()
        self._errors = metrics.errors
        self.is_draining = False
        """Whether everybody is being told to come back later."""
        bus.subscribe(CredentialRevoked, self._end_revoked)
        metrics.gauge("links", "Open links, by kind.", self._count_by_kind, "kind")
        metrics.gauge("outbox_bytes", "Bytes that wait for peers to read them, over all links.", self._outbox_bytes)
        metrics.gauge("outbox_messages", "Messages that wait for peers to read them, over all links.", self._outbox_messages)

    def __len__(self) -> int:
        return len(self._links)

    def add(self, link: LiveLink) -> None:
        """A link has opened; it may not have said yet who it is."""
        self._look_again(link, 1)
        if self.is_draining:
            link.close_soon(CloseCode.RESTART, "the server restarts", retry_after_s=1.0)

    def remove(self, link: LiveLink) -> None:
        """A link has ended."""
        self._looks[self._links.pop(link, 0)].pop(link, None)
        if link.principal is not None and self._by_client.get(link.principal.client_id) is link:
            del self._by_client[link.principal.client_id]
        if not self._links:
            self._empty.set()

    def look_soon(self, link: LiveLink) -> None:
        """Its deadlines are others now: look at the next occasion."""
        place = self._links.get(link)
        if place is not None:
            del self._looks[place][link]
            self._look_again(link, 1)

    def claim(self, link: LiveLink, client_id: str) -> None:
        """From now on `link` speaks for the client; the link that did so is fenced and closed with 4500."""
        older = self._by_client.get(client_id)
        self._by_client[client_id] = link
        if older is not None and older is not link:
            older.close_soon(CloseCode.REPLACED, "replaced by a newer link")

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Once a second: pings for those we were silent to, an end for those who were silent to us.

        Each link tells when it is to be looked at again. Ten thousand in one go would hold up everybody for 17 ms, each second.
        """
        task_status.started()
        next_at = trio.current_time() + LOOK_EVERY_S
        while True:
            await trio.sleep_until(next_at)
            now = trio.current_time()
            next_at = max(next_at + LOOK_EVERY_S, now)
            self._look = (self._look + 1) % len(self._looks)
            for link in list(self._looks[self._look]):
                if link in self._links:  # those before it may have ended it
                    self._look_after(link, now)

    def _look_after(self, link: LiveLink, now: float) -> None:
        due_at = now
        try:
            due_at = link.look_after(now)
        except Exception:  # what is wrong with one link ends no other, and least of all the server
            self._errors.add("hub")
            log.exception("a link could not be looked after", kind=link.kind.value)
        if link in self._links:
            del self._looks[self._look][link]
            apart_s = min(due_at - now, LOOKS_APART_MAX * LOOK_EVERY_S)
            self._look_again(link, max(1, ceil(apart_s / LOOK_EVERY_S)))

    def _look_again(self, link: LiveLink, looks: int) -> None:
        """Look at it after so many looks of the hub, LOOKS_APART_MAX at most."""
        place = self._links[link] = (self._look + looks) % len(self._looks)
        self._looks[place][link] = None

    async def drain(self, seconds: float, close_s: float) -> None:
        """Close every link with 1012, evenly spread over `seconds`, so that the fleet does not come back as one herd (H25).

        Who comes while it lasts is told at its end. Returns when all have ended, a second after `close_s` at the latest.
        """
        self.is_draining = True
        links = list(self._links)
        log.info("draining", links=len(links), seconds=seconds)
        begun_at = trio.current_time()
        for place, link in enumerate(links):
            await trio.sleep_until(begun_at + seconds * place / len(links))
            link.close_soon(CloseCode.RESTART, "the server restarts", retry_after_s=1.0)
        with trio.move_on_after(close_s + LOOK_EVERY_S):
            while self._links:
                self._empty = trio.Event()
                await self._empty.wait()

    def _end_revoked(self, event: CredentialRevoked) -> None:
        for link in list(self._by_client.values()):
            if link.principal is not None and link.principal.credential_id == event.credential_id:
                if event.has_expired:
                    link.close_soon(CloseCode.TOKEN_EXPIRED, "the key has expired")
                else:
                    link.close_soon(CloseCode.UNAUTHORISED, "the key was revoked")

    def _count_by_kind(self) -> dict[str, float]:
        counts = Counter(link.kind for link in self._links)
        return {kind.value: counts[kind] for kind in LinkKind}

    def _outbox_bytes(self) -> float:
        return sum(link.outbox.bytes_waiting for link in self._links)

    def _outbox_messages(self) -> float:
        return sum(link.outbox.messages_waiting for link in self._links)
