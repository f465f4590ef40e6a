"""Buckets of clients, kept across their links."""

import gc
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from signal_gateway.observe.metrics import Metrics
from signal_gateway.services.limits import Limits, LimitsSettings


def spend(bucket: Any, tries: int) -> int:
    """How many of so many messages pass at once."""
    return sum(bucket.take(trio.current_time()) == 0.0 for _ in range(tries))


async def test_each_class_has_its_burst_and_its_rate(autojump_clock: MockClock):
    buckets = Limits(LimitsSettings(), Metrics()).client("a")

    assert [spend(bucket, 1000) for bucket in (buckets.data, buckets.control, buckets.signal)] == [200, 100, 100]
    await trio.sleep(1.25)
    assert [spend(bucket, 1000) for bucket in (buckets.data, buckets.control, buckets.signal)] == [125, 2, 6]


async def test_a_new_link_is_no_new_allowance_and_one_client_does_not_spend_anothers(autojump_clock: MockClock):
    limits = Limits(LimitsSettings(), Metrics())
    spend(limits.client("a").data, 200)

    assert spend(limits.client("a").data, 1) == 0
    assert spend(limits.client("b").data, 1) == 1


async def test_a_rate_of_zero_is_unlimited(autojump_clock: MockClock):
    limits = Limits(LimitsSettings(data_per_s=0), Metrics())

    assert spend(limits.client("a").data, 10_000) == 10_000


async def test_full_buckets_are_forgotten_and_owing_ones_are_not(autojump_clock: MockClock, nursery: trio.Nursery):
    metrics = Metrics()
    limits = Limits(LimitsSettings(signal_burst=600), metrics)
    await nursery.start(limits.run)
    limits.client("idle")
    spend(limits.client("busy").signal, 600)  # full again after two minutes

    await trio.sleep(61)
    assert "clients_limited 1.0" in metrics.text().decode()
    await trio.sleep(120)
    assert "clients_limited 0.0" in metrics.text().decode()


async def test_buckets_that_a_link_still_holds_are_found_again_after_they_were_forgotten(autojump_clock: MockClock, nursery: trio.Nursery):
    limits = Limits(LimitsSettings(), Metrics())
    await nursery.start(limits.run)
    held = limits.client("a")
    await trio.sleep(61)

    spend(held.data, 200)
    assert limits.client("a") is held


async def test_the_table_is_bounded(autojump_clock: MockClock):
    metrics = Metrics()
    limits = Limits(LimitsSettings(clients_kept=10), metrics)
    for number in range(100):
        spend(limits.client(f"client-{number}").data, 200)
    gc.collect()

    assert "clients_limited 10.0" in metrics.text().decode()
    assert metrics.limits.value("limits.clients_kept") == 90
    assert spend(limits.client("client-99").data, 1) == 0


@pytest.mark.parametrize("wrong", [{"data_per_s": -1}, {"control_burst": 0}, {"frames_burst": 0.5}, {"clients_kept": 0}])
def test_settings_that_make_no_sense_are_refused(wrong: dict[str, Any]):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        LimitsSettings(**wrong)
