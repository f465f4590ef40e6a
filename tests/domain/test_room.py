"""Who may come into a room, who stays, and to whom a signal goes (S-25, S-28, C-07, C-12, H35)."""

import pytest

from signal_gateway.domain.errors import AlreadyInRoom, Forbidden, InvalidRole, MemberNotFound, RoomFull, TooManySignals
from signal_gateway.domain.room import Room, RoomRole, RoomRules, RoomState, Seat
from signal_gateway.domain.signals import Routed, SignalKind, route, welcome

RULES = RoomRules(receivers_max=2, grace_s=20, empty_s=300, life_s=1000, signals_held_max=3)
OFFER, ANSWER, CANDIDATE = SignalKind.OFFER, SignalKind.ANSWER, SignalKind.CANDIDATE


def room_of(*clients: str) -> Room:
    """The first sends, the others receive; client "a" came by link 1 of its own, and so on."""
    room = Room("room", 0, clients[0] if clients else "boss", 100.0)
    for number, client_id in enumerate(clients):
        role = RoomRole.RECEIVER if number else RoomRole.SENDER
        room.sit(Seat(client_id, role, f"stay-{client_id}", f"session-{client_id}", 0, 1, 1))
    return room


def newcomer(room: Room, client_id: str) -> Seat:
    seat = Seat(client_id, RoomRole.RECEIVER, "stay", "session", 0, 1, 1)
    room.sit(seat)
    return seat


def say(
    room: Room, client_id: str, kind: SignalKind, signal: str, to: str | None = None
) -> tuple[list[str], list[tuple[str, object]], int]:
    routed = route(room, room.seats[client_id], kind, to, signal, RULES, 100.0)
    return routed.at_once, routed.after, routed.held


@pytest.mark.parametrize(
    ("client_id", "role", "generation", "refusal"),
    [
        ("new", "receiver", 1, None),
        ("new", "Receiver", 1, None),
        ("new", "sender", 1, InvalidRole),  # there is one
        ("new", "speaker", 1, InvalidRole),
        ("b", "receiver", 1, AlreadyInRoom),
        ("b", "receiver", 2, None),  # by another link: it comes back
        ("b", "sender", 2, InvalidRole),
        ("a", "sender", 2, None),
        ("banned", "receiver", 1, Forbidden),
    ],
)
def test_who_may_come_in(client_id: str, role: str, generation: int, refusal: type[Exception] | None):
    room = room_of("a", "b")
    room.banned.add("banned")
    if refusal is None:
        assert room.admit(client_id, role, generation, RULES) is RoomRole(role.lower())
    else:
        with pytest.raises(refusal):
            room.admit(client_id, role, generation, RULES)


def test_a_room_has_room_for_so_many_receivers():
    room = room_of("a", "b", "c")
    with pytest.raises(RoomFull):
        room.admit("d", "receiver", 1, RULES)
    room.rise("c")
    assert room.admit("d", "receiver", 1, RULES) is RoomRole.RECEIVER
    room.rise("a")
    assert room.admit("d", "sender", 1, RULES) is RoomRole.SENDER


@pytest.mark.parametrize(
    ("clients", "senderless_since_s", "over_at_s"), [((), None, 400.0), (("a",), None, 1100.0), (("a", "b"), 150.0, 170.0)]
)
def test_when_time_ends_a_room(clients: tuple[str, ...], senderless_since_s: float | None, over_at_s: float):
    room = room_of(*clients)
    room.senderless_since_s = senderless_since_s
    assert room.over_at_s(RULES) == over_at_s
    assert room.state is (RoomState.ACTIVE if clients else RoomState.PENDING)


def test_a_seat_is_kept_for_the_grace():
    room = room_of("a", "b")
    room.seats["b"].lost_at_s = 200.0
    assert room.lost_for_good(219.9, RULES) == []
    assert [seat.client_id for seat in room.lost_for_good(220.0, RULES)] == ["b"]


def test_the_longest_here_is_promoted():
    room = room_of("a", "b", "c")
    room.rise("a")
    promoted = room.promote()
    assert promoted is not None
    assert (promoted.client_id, promoted.role) == ("b", RoomRole.SENDER)


@pytest.mark.parametrize(("lost", "promoted"), [("b", "c"), ("c", "b"), ("bc", "d"), ("bcd", "b")])
def test_one_who_has_a_link_is_promoted_before_those_who_have_none(lost: str, promoted: str):
    """An absent one would let all others wait for its grace, and the room end with it."""
    room = room_of("a", "b", "c", "d")
    for client_id in lost:
        room.seats[client_id].lost_at_s = 200.0
    room.rise("a")
    seat = room.promote()
    assert seat is not None
    assert (seat.client_id, seat.role) == (promoted, RoomRole.SENDER)


def test_a_signal_goes_to_one_or_to_all_others():
    room = room_of("a", "b", "c")
    assert say(room, "a", OFFER, "o") == (["b", "c"], [], 0)
    assert say(room, "b", ANSWER, "x", to="a") == (["a"], [], 0)
    assert say(room, "a", CANDIDATE, "1", to="c") == (["c"], [], 0)


@pytest.mark.parametrize("to", ["nobody", "b"])
def test_a_signal_for_nobody_is_never_silently_lost(to: str):
    with pytest.raises(MemberNotFound):
        say(room_of("a", "b"), "b", ANSWER, "x", to=to)


def test_a_receiver_that_is_alone_is_told_so():
    room = room_of("a", "b")
    room.rise("a")
    with pytest.raises(MemberNotFound):
        say(room, "b", OFFER, "o")


def test_candidates_that_overtake_their_description_wait_for_it_in_order():
    room = room_of("a", "b")
    assert say(room, "a", CANDIDATE, "1", to="b") == ([], [], 1)
    assert say(room, "a", CANDIDATE, "2", to="b") == ([], [], 1)
    assert say(room, "a", OFFER, "o", to="b") == (["b"], [("b", "1"), ("b", "2")], 0)
    assert say(room, "a", CANDIDATE, "3", to="b") == (["b"], [], 0)
    assert say(room, "b", CANDIDATE, "4", to="a") == ([], [], 1)  # the answer is still to come


def test_what_the_sender_says_to_all_is_there_for_who_comes_later():
    room = room_of("a")
    assert say(room, "a", OFFER, "old") == ([], [], 0)
    assert say(room, "a", CANDIDATE, "of the old") == ([], [], 0)
    assert say(room, "a", OFFER, "o") == ([], [], 0)
    assert say(room, "a", CANDIDATE, "1") == ([], [], 0)
    late = newcomer(room, "b")
    assert welcome(room, late, 100.0) == Routed(["b"], [("b", "1")])
    assert room.offer == "o"
    assert say(room, "a", CANDIDATE, "2") == (["b"], [], 0)
    assert welcome(room, room.seats["a"], 100.0) == Routed()


@pytest.mark.parametrize("to", ["b", None])
def test_candidates_to_all_wait_for_what_their_sender_offers_to_one_who_comes_later(to: str | None):
    """Its first offer may be for each who comes, and never for all."""
    room = room_of("a")
    assert [say(room, "a", CANDIDATE, each) for each in "12"] == [([], [], 0)] * 2
    b = newcomer(room, "b")
    assert welcome(room, b, 100.0) == Routed(held=2)
    assert say(room, "a", CANDIDATE, "3") == ([], [], 1)
    assert say(room, "a", OFFER, "o", to) == (["b"], [("b", "1"), ("b", "2"), ("b", "3")], 0)
    c = newcomer(room, "c")
    assert welcome(room, c, 200.0).held == (3 if to else 0)
    assert c.overdue(199.0) == []
    assert c.overdue(200.0) == ([["1", "2", "3"]] if to else [])


def test_a_candidate_for_all_is_heard_however_many_are_kept_for_those_who_come_later():
    room = room_of("a", "b")
    say(room, "a", OFFER, "o", to="b")
    routed = [route(room, room.seats["a"], CANDIDATE, None, str(number), RULES, 100.0) for number in range(5)]
    assert [each.at_once for each in routed] == [["b"]] * 5
    assert [each.pushes_out for each in routed] == [False, False, False, True, True]
    assert room.candidates == ["2", "3", "4"]


def test_a_sender_who_is_alone_is_told_when_no_more_is_kept_for_those_who_come_later():
    """Nobody has heard what would have to go."""
    room = room_of("a")
    for number in range(3):
        say(room, "a", CANDIDATE, str(number))
    with pytest.raises(TooManySignals, match="still to come"):
        say(room, "a", CANDIDATE, "3")
    assert room.candidates == ["0", "1", "2"]
    say(room, "a", OFFER, "o")
    say(room, "a", OFFER, "another")
    assert room.candidates == []


def test_what_comes_for_a_member_whose_link_is_lost_is_kept_and_bounded():
    room = room_of("a", "b")
    room.seats["b"].lost_at_s = 200.0
    assert say(room, "a", OFFER, "o", to="b") == ([], [], 1)
    assert say(room, "a", CANDIDATE, "1", to="b") == ([], [], 1)
    assert say(room, "a", CANDIDATE, "2", to="b") == ([], [], 1)
    with pytest.raises(TooManySignals):
        say(room, "a", CANDIDATE, "3", to="b")
    assert room.seats["b"].held == ["o", "1", "2"]


def test_whose_line_is_full_is_named_when_a_signal_is_for_all():
    room = room_of("a", "b", "c")
    for client_id in ("b", "c"):
        say(room, "a", OFFER, "o", to=client_id)
    room.seats["b"].lost_at_s = 200.0
    for number in range(3):
        say(room, "a", CANDIDATE, str(number), to="b")
    routed = route(room, room.seats["a"], CANDIDATE, None, "3", RULES, 100.0)
    assert (routed.at_once, routed.held, routed.unheard) == (["c"], 0, ["b"])


def test_a_description_for_which_there_is_no_room_leaves_what_waits_for_it():
    """The candidates that overtook it wait on, and are passed on when their time is over."""
    room = room_of("a", "b")
    b = room.seats["b"]
    b.lost_at_s = 200.0
    for number in range(3):
        say(room, "a", CANDIDATE, str(number), to="b")
    with pytest.raises(TooManySignals):
        say(room, "a", OFFER, "o", to="b")
    assert (b.early, b.held, b.described_by) == ({"a": ["0", "1", "2"]}, [], set())
    assert b.overdue(100.0) == [["0", "1", "2"]]


def test_a_description_takes_no_second_place_for_the_candidates_that_overtook_it():
    room = room_of("a", "b")
    room.seats["b"].lost_at_s = 200.0
    say(room, "a", CANDIDATE, "0", to="b")
    say(room, "a", CANDIDATE, "1", to="b")
    assert say(room, "a", OFFER, "o", to="b") == ([], [], 3)
    assert (room.seats["b"].held, room.seats["b"].early) == (["o", "0", "1"], {})


def test_who_comes_back_by_a_new_link_begins_anew_for_all():
    room = room_of("a", "b")
    say(room, "a", OFFER, "o")
    say(room, "b", ANSWER, "x", to="a")
    room.sit_again(room.seats["b"], "new session", 2)
    assert say(room, "b", CANDIDATE, "1", to="a") == ([], [], 1)  # of an answer that a has not seen
    assert say(room, "a", CANDIDATE, "2", to="b") == ([], [], 1)
    assert room.offer == "o"
    room.sit_again(room.seats["a"], "new session", 2)
    assert room.offer is None


def test_nothing_of_one_who_has_left_stays():
    room = room_of("a", "b")
    say(room, "b", CANDIDATE, "1", to="a")
    room.rise("b")
    newcomer(room, "b")
    assert say(room, "b", OFFER, "o", to="a") == (["a"], [], 0)
