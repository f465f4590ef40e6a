"""How many may come at once, and who must go (H07, H28)."""

import pytest
import trio
from trio.testing import MockClock

from signal_gateway.observe.metrics import Metrics
from signal_gateway.websocket.admission import Admission, SecuritySettings, Ticket
from signal_gateway.websocket.request_head import Refused


def nobody() -> None:
    """Ends no connection."""


def admission(connections_max: int = 1000, max_connections_per_ip: int = 64, max_unauthenticated: int = 512) -> Admission:
    settings = SecuritySettings(max_connections_per_ip=max_connections_per_ip, max_unauthenticated=max_unauthenticated)
    return Admission(settings, connections_max, Metrics())


async def test_an_address_may_have_sixty_four_strangers_and_another_is_not_hindered():
    door = admission()
    tickets = [door.enter("192.0.2.1", nobody, counts_by_address=True) for _ in range(64)]
    with pytest.raises(Refused) as caught:
        door.enter("192.0.2.1", nobody, counts_by_address=True)
    assert caught.value.status == 429
    assert 2 <= int(caught.value.headers["Retry-After"]) <= 10
    door.enter("192.0.2.2", nobody, counts_by_address=True)
    door.leave(tickets[0])
    door.enter("192.0.2.1", nobody, counts_by_address=True)


async def test_two_hundred_authenticated_devices_may_share_one_address():
    """Phones behind a carrier's address (H28)."""
    door = admission(connections_max=200)
    for _ in range(200):
        ticket = door.enter("192.0.2.1", nobody, counts_by_address=True)
        door.check_connections()
        door.authenticated(ticket)
        assert ticket.authenticated
    door.enter("192.0.2.1", nobody, counts_by_address=True)
    with pytest.raises(Refused):
        door.check_connections()


async def test_behind_a_proxy_the_client_counts_and_not_the_proxy():
    door = admission(max_connections_per_ip=2)
    for _ in range(2):
        door.move(door.enter("10.0.0.1", nobody, counts_by_address=False), "203.0.113.1")
    ticket = door.enter("10.0.0.1", nobody, counts_by_address=False)
    with pytest.raises(Refused):
        door.move(ticket, "203.0.113.1")
    door.move(ticket, "203.0.113.2")


async def test_whose_place_is_taken_before_its_head_is_read_is_counted_nowhere(autojump_clock: MockClock):
    """It is cancelled, but runs until its next checkpoint, and reads there from where it came through the proxy."""
    door = admission(max_unauthenticated=1)
    first = door.enter("10.0.0.1", nobody, counts_by_address=False)
    await trio.sleep(2)
    second = door.enter("10.0.0.1", nobody, counts_by_address=False)
    with pytest.raises(Refused) as caught:
        door.move(first, "203.0.113.9")
    assert caught.value.status == 503
    assert door._waiting_by_address == {"": 1}
    door.leave(first)
    door.leave(second)
    assert not door._waiting_by_address


@pytest.mark.parametrize("is_proxied", [False, True])
async def test_the_addresses_of_one_ipv6_network_count_as_one(is_proxied: bool):
    """A host has its whole /64 (RFC 4291 §2.5.4), and would take a new address for each connection."""
    door = admission()

    def come(address: str) -> None:
        ticket = door.enter("10.0.0.1" if is_proxied else address, nobody, counts_by_address=not is_proxied)
        if is_proxied:
            door.move(ticket, address)

    for number in range(64):
        come(f"2001:db8::{number:x}:1")
    with pytest.raises(Refused) as caught:
        come("2001:db8::ffff:1")
    assert caught.value.status == 429
    come("2001:db8:0:1::1")


async def test_an_ipv6_network_that_lost_a_place_takes_none_from_others_by_another_address(autojump_clock: MockClock):
    door = admission(max_unauthenticated=2)
    for address in ("2001:db8::1", "192.0.2.1"):
        door.enter(address, nobody, counts_by_address=True)
    await trio.sleep(2)
    door.enter("192.0.2.2", nobody, counts_by_address=True)
    with pytest.raises(Refused) as caught:
        door.enter("2001:db8::2", nobody, counts_by_address=True)
    assert caught.value.status == 503


async def test_when_strangers_are_too_many_the_oldest_goes(autojump_clock: MockClock):
    door = admission(max_unauthenticated=3)
    evicted: list[int] = []
    for number in range(3):
        door.enter(f"192.0.2.{number}", lambda number=number: evicted.append(number), counts_by_address=True)
    await trio.sleep(0.9)
    with pytest.raises(Refused) as caught:
        door.enter("192.0.2.9", nobody, counts_by_address=True)
    assert caught.value.status == 503
    await trio.sleep(0.2)
    door.enter("192.0.2.9", nobody, counts_by_address=True)
    assert evicted == [0]


async def test_an_address_that_lost_a_place_takes_none_from_others_for_five_seconds(autojump_clock: MockClock):
    """Else a client that comes again at once would push out the next, whose client does the same (H07)."""
    door = admission(max_unauthenticated=2)
    evicted: list[str] = []
    for address in ("192.0.2.1", "192.0.2.2"):
        door.enter(address, lambda address=address: evicted.append(address), counts_by_address=True)
    await trio.sleep(2)
    door.enter("192.0.2.3", nobody, counts_by_address=True)
    for _ in range(2):
        with pytest.raises(Refused) as caught:
            door.enter("192.0.2.1", nobody, counts_by_address=True)
        assert caught.value.status == 503
        await trio.sleep(2.4)
    assert evicted == ["192.0.2.1"]
    await trio.sleep(0.3)
    door.enter("192.0.2.1", nobody, counts_by_address=True)
    assert evicted == ["192.0.2.1", "192.0.2.2"]


async def test_of_one_address_the_oldest_goes_however_often_it_has_gone_before(autojump_clock: MockClock):
    """All strangers come from one address: who is honest there is let in as if nobody had lost a place."""
    door, evicted = admission(max_unauthenticated=2), list[int]()
    for number in range(6):
        door.enter("192.0.2.1", lambda number=number: evicted.append(number), counts_by_address=True)
        await trio.sleep(1.1)
    assert evicted == [0, 1, 2, 3]


async def test_where_there_is_room_an_address_that_lost_a_place_comes_in_at_once(autojump_clock: MockClock):
    door = admission(max_unauthenticated=1)
    door.enter("192.0.2.1", nobody, counts_by_address=True)
    await trio.sleep(2)
    second = door.enter("192.0.2.2", nobody, counts_by_address=True)
    assert list(door._evicted_at) == ["192.0.2.1"]
    door.leave(second)
    third = door.enter("192.0.2.1", nobody, counts_by_address=True)
    assert list(door._waiting) == [third]


async def test_of_addresses_that_lost_a_place_no_more_are_remembered_than_there_may_be_strangers(autojump_clock: MockClock):
    door = admission(max_unauthenticated=3)
    for number in range(20):
        door.enter(f"192.0.2.{number}", nobody, counts_by_address=True)
        await trio.sleep(1.1)
    assert list(door._evicted_at) == ["192.0.2.14", "192.0.2.15", "192.0.2.16"]


async def test_connections_over_the_limit_get_503_and_room_comes_back():
    door = admission(connections_max=2)
    tickets: list[Ticket] = []
    for _ in range(2):
        ticket = door.enter("192.0.2.1", nobody, counts_by_address=True)
        door.check_connections()
        door.authenticated(ticket)
        tickets.append(ticket)
    third = door.enter("192.0.2.1", nobody, counts_by_address=True)
    with pytest.raises(Refused) as caught:
        door.check_connections()
    assert caught.value.status == 503
    door.leave(third)
    door.leave(tickets[0])
    door.leave(tickets[0])
    door.enter("192.0.2.1", nobody, counts_by_address=True)
    door.check_connections()


async def test_an_evicted_connection_leaves_once(autojump_clock: MockClock):
    door = admission(connections_max=1, max_unauthenticated=1)
    first = door.enter("192.0.2.1", nobody, counts_by_address=True)
    await trio.sleep(2)
    second = door.enter("192.0.2.2", nobody, counts_by_address=True)
    door.authenticated(first)
    assert not first.authenticated
    door.leave(first)
    door.authenticated(second)
    door.leave(second)
    third = door.enter("192.0.2.1", nobody, counts_by_address=True)
    door.check_connections()
    door.authenticated(third)
    assert third.authenticated


async def test_an_address_over_its_own_limit_pushes_nobody_out(autojump_clock: MockClock):
    door = admission(max_connections_per_ip=2, max_unauthenticated=3)
    evicted: list[str] = []
    door.enter("192.0.2.1", lambda: evicted.append("honest"), counts_by_address=True)
    for _ in range(2):
        door.enter("192.0.2.66", nobody, counts_by_address=True)
    await trio.sleep(2)
    with pytest.raises(Refused) as caught:
        door.enter("192.0.2.66", nobody, counts_by_address=True)
    assert caught.value.status == 429
    assert evicted == []
