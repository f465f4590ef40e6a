"""What one batch does inside its transaction: rows in few statements, calls in their savepoints, poison set apart (DESIGN.md §5).

Plain functions over a Connection; nothing here waits, counts or tells anybody. The writer does that, once the commit has held.
"""

from collections import Counter
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

import outcome
import trio
from sqlalchemy import Connection

from signal_gateway.storage.direct import run
from signal_gateway.storage.faults import refusal_of
from signal_gateway.storage.rows import Row
from signal_gateway.storage.statements import Group, Planned, execute, plan


@dataclass(eq=False, slots=True)
class Put:
    """Rows that somebody gave at `at` (seconds of Trio's clock), and whom to tell how they fared."""

    rows: Sequence[Row]
    at: float
    on_durable: Callable[[], None] | None = None
    on_failed: Callable[[], None] | None = None


@dataclass(eq=False, slots=True)
class Call:
    """A function that somebody waits for since `at`. `waiting` is their task, until it is answered or stops waiting."""

    work: Callable[[Connection], Any]
    at: float
    waiting: trio.lowlevel.Task | None


JobWork = Callable[[Connection, Sequence[Any]], Sequence[Any]]
"""Takes the items of several jobs, in order, and returns a result for each."""


@dataclass(eq=False, slots=True)
class Job:
    """An item that `work` is to see to, together with those of its neighbours, and whom to tell what came of it."""

    work: JobWork
    item: Any
    at: float
    on_done: Callable[[Any], None]
    lasts: bool = True
    """Whether it is tried again until the database has taken it; else `on_done` hears the error, as a caller would."""
    makes: bool = False
    """Whether it makes what other jobs may be about: it is done before them, whichever was given first."""


Entry = Put | Call | Job


@dataclass(slots=True)
class Written:
    """How a batch fared; good only if its commit holds."""

    answers: dict[Call, outcome.Outcome[Any]] = field(default_factory=dict[Call, outcome.Outcome[Any]])
    failed: set[Put] = field(default_factory=set[Put])
    done: dict[Job, outcome.Outcome[Any]] = field(default_factory=dict[Job, outcome.Outcome[Any]])
    poison: Counter[tuple[str, str]] = field(default_factory=Counter[tuple[str, str]])
    """Rows refused by the database, by table and class of error; never their values."""


def write_batch(entries: Sequence[Entry], connection: Connection) -> Written:
    """Write all of `entries`: rows and calls in order, so that a call sees what was put before it; then the jobs, which see all of them.

    Jobs of the same work are done at once, in their order, where the first of them stands; those that make something before all others.
    Raises only what concerns the database as a whole.
    """
    written = Written()
    jobs = sorted((entry for entry in entries if isinstance(entry, Job)), key=_makes_nothing)
    for _, neighbours in groupby((entry for entry in entries if not isinstance(entry, Job)), type):
        some = list(neighbours)
        _write_rows(connection, [entry for entry in some if isinstance(entry, Put)], written)
        for entry in some:
            if isinstance(entry, Call):
                written.answers[entry] = _answer(connection, entry)
    by_work: dict[JobWork, list[Job]] = {}
    for job in jobs:
        by_work.setdefault(job.work, []).append(job)
    for alike in by_work.values():
        _do_jobs(connection, alike, written)
    return written


def _makes_nothing(job: Job) -> bool:
    return not job.makes


def _do_jobs(connection: Connection, jobs: Sequence[Job], written: Written) -> None:
    """Do them at once; where that fails, one by one, so that only the offender fails."""
    try:
        with _savepoint(connection):
            results = jobs[0].work(connection, [job.item for job in jobs])
    except Exception as error:
        if refusal_of(error) is not None:
            raise
        if len(jobs) == 1:
            written.done[jobs[0]] = outcome.Error(error)
        else:
            for job in jobs:
                _do_jobs(connection, [job], written)
        return
    for job, result in zip(jobs, results, strict=True):
        written.done[job] = outcome.Value(result)


def _answer(connection: Connection, call: Call) -> outcome.Outcome[Any]:
    try:
        with _savepoint(connection):
            return outcome.Value(call.work(connection))
    except Exception as error:  # what the work raises is its caller's business
        if refusal_of(error) is not None:
            raise
        return outcome.Error(error)


def _write_rows(connection: Connection, puts: Sequence[Put], written: Written) -> None:
    if not puts:
        return
    groups = plan((put, row) for put in puts for row in put.rows)
    try:
        with _savepoint(connection):
            for group in groups:
                execute(connection, group.shape, group.rows)
    except Exception as error:
        if refusal_of(error) is not None:
            raise
        for group in groups:
            _write_bisecting(connection, group, group.rows, written)


def _write_bisecting(connection: Connection, group: Group, rows: Sequence[Planned], written: Written) -> None:
    """Write what can be written of `rows`: the half that fails is halved again, down to the offender."""
    try:
        with _savepoint(connection):
            execute(connection, group.shape, rows)
    except Exception as error:
        if refusal_of(error) is not None:
            raise
        if len(rows) > 1:
            middle = len(rows) // 2
            _write_bisecting(connection, group, rows[:middle], written)
            _write_bisecting(connection, group, rows[middle:], written)
        elif len(rows[0].sources) > 1:
            _write_apart(connection, rows[0], written)
        else:
            written.poison[rows[0].table.name, type(getattr(error, "orig", None) or error).__name__] += 1
            written.failed.add(rows[0].sources[0][0])


def _write_apart(connection: Connection, merged: Planned, written: Written) -> None:
    """Several rows of one key were merged, and one of them is poison: write each by itself, in order."""
    for source in merged.sources:
        for group in plan([source]):
            _write_bisecting(connection, group, group.rows, written)


@contextmanager
def _savepoint(connection: Connection) -> Generator[None, None, None]:
    """Undo what is inside, if it fails. Not where the database itself is the cause: SQLite has then undone the whole transaction, and
    a failing ROLLBACK TO would hide why."""
    run(connection, "SAVEPOINT part")  # SQLAlchemy's own costs ten times as much
    try:
        yield
    except Exception as error:
        if refusal_of(error) is None:
            run(connection, "ROLLBACK TO SAVEPOINT part")
            run(connection, "RELEASE SAVEPOINT part")
        raise
    run(connection, "RELEASE SAVEPOINT part")
