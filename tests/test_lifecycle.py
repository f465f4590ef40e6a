"""Stages and signals: who starts before whom, who ends after whom, and what ends all."""

import os
import signal
import threading
from functools import partial

import pytest
import trio

from signal_gateway import lifecycle
from signal_gateway.lifecycle import Stop, stage


class Diary:
    """Loops that write down when they are ready and when they end."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    async def loop(self, name: str, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        await trio.lowlevel.checkpoint()
        self.lines.append(f"{name} ready")
        task_status.started()
        try:
            await trio.sleep_forever()
        finally:
            self.lines.append(f"{name} ended")

    async def failing(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        task_status.started()
        await trio.lowlevel.checkpoint()
        raise RuntimeError("the loop is broken")


async def test_loops_are_ready_in_order_and_a_lower_stage_ends_after_the_higher_one():
    diary = Diary()
    async with stage(partial(diary.loop, "storage")), stage(partial(diary.loop, "hub"), partial(diary.loop, "lane")):
        assert diary.lines == ["storage ready", "hub ready", "lane ready"]
    assert set(diary.lines[3:5]) == {"hub ended", "lane ended"}
    assert diary.lines[5] == "storage ended"


async def test_a_loop_that_fails_ends_the_whole():
    diary = Diary()
    with pytest.RaisesGroup(RuntimeError, flatten_subgroups=True):
        async with stage(partial(diary.loop, "storage")), stage(diary.failing):
            await trio.sleep_forever()
    assert diary.lines == ["storage ready", "storage ended"]


@pytest.fixture
def exits(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """What the process would have ended with, had it really ended."""
    codes: list[int] = []
    monkeypatch.setattr(os, "_exit", codes.append)
    monkeypatch.setattr(lifecycle, "AT_ONCE_S", 0.0)
    return codes


async def until(condition: trio.Event) -> None:
    with trio.fail_after(10):
        await condition.wait()


async def test_the_first_signal_asks_and_the_second_ends_everything(nursery: trio.Nursery, exits: list[int]):
    stop, everything = Stop(lambda: None), trio.CancelScope()
    stop.is_serving = True
    await nursery.start(stop.watch_signals, everything)
    os.kill(os.getpid(), signal.SIGTERM)
    await until(stop.asked)
    assert not everything.cancel_called
    os.kill(os.getpid(), signal.SIGINT)
    with trio.fail_after(10), everything:
        await trio.sleep_forever()
    assert stop.at_once
    for thread in threading.enumerate():
        if isinstance(thread, threading.Timer):
            await trio.to_thread.run_sync(thread.join)
    assert exits == [1]


async def test_a_signal_during_the_start_ends_it(nursery: trio.Nursery, exits: list[int]):
    stop, everything = Stop(lambda: None), trio.CancelScope()
    await nursery.start(stop.watch_signals, everything)
    os.kill(os.getpid(), signal.SIGTERM)
    with trio.fail_after(10), everything:
        await trio.sleep_forever()
    assert stop.at_once
    assert not stop.asked.is_set()


async def test_sighup_reloads_and_ends_nothing(nursery: trio.Nursery):
    reloaded = trio.Event()
    stop, everything = Stop(reloaded.set), trio.CancelScope()
    stop.is_serving = True
    await nursery.start(stop.watch_signals, everything)
    os.kill(os.getpid(), signal.SIGHUP)
    await until(reloaded)
    assert not stop.asked.is_set()
    assert not everything.cancel_called
    nursery.cancel_scope.cancel()
