"""Lateness of the loop, the process."""

from importlib.metadata import version

import trio

from signal_gateway.observe.loop_health import LoopHealth, tell_process
from signal_gateway.observe.metrics import Metrics


def value_of(metrics, name):
    (line,) = [line for line in metrics.text().decode().splitlines() if line.startswith(name + " ")]
    return float(line.split()[-1])


async def test_the_histogram_and_the_worst_since_the_last_scrape_tell_how_late_a_task_woke():
    metrics = Metrics()
    health = LoopHealth(metrics)
    for woke_at in (10.0, 10.5, 10.125):
        health.slept(due_at=10.0, woke_at=woke_at)
    assert value_of(metrics, "signal_gateway_loop_lag_worst_seconds") == 0.5
    assert value_of(metrics, "signal_gateway_loop_lag_worst_seconds") == 0
    assert value_of(metrics, "signal_gateway_loop_lag_seconds_count") == 3
    assert value_of(metrics, "signal_gateway_loop_lag_seconds_sum") == 0.625


async def test_it_measures_four_times_a_second(nursery, autojump_clock):
    metrics = Metrics()
    await nursery.start(LoopHealth(metrics).run)
    await trio.sleep(10.1)
    assert value_of(metrics, "signal_gateway_loop_lag_seconds_count") == 40


async def test_each_task_of_the_loop_is_counted_while_it_lives(autojump_clock):
    metrics = Metrics()
    LoopHealth(metrics)
    before = value_of(metrics, "signal_gateway_loop_tasks")
    async with trio.open_nursery() as nursery:
        for _ in range(7):
            nursery.start_soon(trio.sleep, 1)
        assert value_of(metrics, "signal_gateway_loop_tasks") == before + 7
    assert value_of(metrics, "signal_gateway_loop_tasks") == before


def test_memory_cpu_open_files_and_version_stand_on_the_page():
    metrics = Metrics()
    tell_process(metrics)
    text = metrics.text().decode()
    assert f'version="{version("signal-gateway")}"' in text
    assert value_of(metrics, "process_resident_memory_bytes") > 1_000_000
    assert value_of(metrics, "process_open_fds") >= 3
    assert "process_cpu_seconds_total" in text
