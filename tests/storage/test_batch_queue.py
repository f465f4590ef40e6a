"""What a batch takes of the queue: each kind in its order, and calls behind what was given before them."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from signal_gateway.storage.batch import Call, Entry, Job, Put
from signal_gateway.storage.batch_queue import BatchQueue

STEPS = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(["put", "job", "call"]), st.integers(0, 4)),
        st.tuples(st.sampled_from(["take", "lose"]), st.integers(1, 5)),
        st.tuples(st.just("give up calls"), st.just(0)),
    ),
    max_size=60,
)
CALLS_MAX = 2


def _nothing(*_: Any) -> Any:
    """Never done here."""


def _entry(kind: str, number: int, rows: int) -> Entry:
    """The `number`-th that is given, at second `number`."""
    if kind == "put":
        return Put([object()] * rows, number)  # type: ignore[list-item] - nobody looks at the rows
    return Job(_nothing, number, number, _nothing) if kind == "job" else Call(_nothing, number, None)


@given(steps=STEPS)
def test_each_is_taken_once_in_the_order_of_its_kind_and_a_call_never_before_what_was_given_before_it(steps: list[tuple[str, int]]):
    queue = BatchQueue()
    waiting: list[Entry] = []
    for number, (step, size) in enumerate(steps):
        if step in ("put", "job", "call"):
            queue.add(entry := _entry(step, number, size))
            waiting.append(entry)
        elif step == "give up calls":
            calls = queue.take_calls()
            assert calls == [entry for entry in waiting if isinstance(entry, Call)]
            waiting = [entry for entry in waiting if not isinstance(entry, Call)]
        else:
            taken = queue.take(size, CALLS_MAX)
            _is_as_it_should(taken, waiting, size, queue)
            if step == "lose":  # the database was down: calls are told, the rest comes again
                queue.give_back(entry for entry in taken if not isinstance(entry, Call))
            waiting = [entry for entry in waiting if entry not in taken or (step == "lose" and not isinstance(entry, Call))]
        assert bool(queue) == bool(waiting)
        assert queue.oldest_at == min((entry.at for entry in waiting), default=None)
        assert queue.askers == sum(not isinstance(entry, Put) for entry in waiting)
    assert queue.clear() == sorted(waiting, key=lambda entry: (isinstance(entry, Call), entry.at))
    assert not queue
    assert queue.askers == 0


def _is_as_it_should(taken: list[Entry], waiting: list[Entry], rows_max: int, queue: BatchQueue) -> None:
    """`taken` of `waiting`, which stands in the order in which it was given."""
    rows = [entry for entry in taken if not isinstance(entry, Call)]
    calls = [entry for entry in taken if isinstance(entry, Call)]
    others = [entry for entry in waiting if not isinstance(entry, Call)]
    assert taken == rows + calls
    assert rows == others[: len(rows)]
    assert len(rows) == len(others) or sum(len(entry.rows) if isinstance(entry, Put) else 1 for entry in rows) >= rows_max
    first_left = others[len(rows)].at if len(rows) < len(others) else float("inf")
    may_come = [entry for entry in waiting if isinstance(entry, Call) and entry.at < first_left]
    assert calls == may_come[:CALLS_MAX]
    assert queue.is_held_up() == (len(may_come) > CALLS_MAX)


def test_what_was_put_behind_a_call_may_pass_it():
    queue = BatchQueue()
    entries = [_entry(kind, number, 1) for number, kind in enumerate(("call", "call", "call", "put"))]
    for entry in entries:
        queue.add(entry)
    assert queue.take(10, CALLS_MAX) == [entries[3], *entries[:2]]
    assert queue.take(10, CALLS_MAX) == [entries[2]]
