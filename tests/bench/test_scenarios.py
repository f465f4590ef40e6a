"""What is promised is measured: every bar, against a case that is there, and in turns."""

from functools import partial

import pytest

from bench.bars import Bar
from bench.build import Unmeasured
from bench.load import Figures
from bench.messages import HEARTBEAT, PHONE_HEARTBEAT, asking, padded
from bench.run import Outcome, all_reached, measure, runs_of
from bench.scenarios import C_ECHO, EMPTY_HANDLER, GATEWAY, IDLE_LINKS, PICOWS, SCENARIOS, TRIO, WS, Case, Pace, Scenario
from bench.servers import CONFIG

PROMISED = {
    "heartbeat-1000x1": {
        Bar(GATEWAY, against=C_ECHO, times=2.2),
        Bar(GATEWAY, against=PICOWS, times=1.4),
        Bar(GATEWAY, against=WS, times=1.0, is_strict=True),
    },
    "heartbeat-100x10": {Bar(GATEWAY, against=PICOWS, times=0.6)},
    "tls": {Bar("gateway, TLS", against=GATEWAY, plus=4)},
    "json-heartbeat": {Bar(GATEWAY, against=C_ECHO, times=3)},
    "connect": {Bar(GATEWAY, against=TRIO, times=1.4)},
    "idle": {Bar(GATEWAY, "link_kib", limit=26)},
    "saturated": {Bar("slices of 0.1 ms of pure Python", "worst_ms", limit=50)},
    "send-sms": {Bar("SQLite, power", "each_us", limit=1e6 / 12_000), Bar("SQLite, power", "p99_ms", limit=20)},
    "post-send-sms": {Bar(GATEWAY, against=EMPTY_HANDLER, times=1 / 0.7)},
    "sms-round-trip": {Bar(GATEWAY, "trip_ms", EMPTY_HANDLER, times=10), Bar(GATEWAY, "lost", limit=0)},
    "backlog": {
        *(Bar(GATEWAY, name, limit=0) for name in ("lost", "doubled", "misplaced")),
        Bar(GATEWAY, "times_alone", limit=2, is_strict=True),
        Bar(GATEWAY, "grown_mib", limit=256),
    },
    "kill": {Bar(GATEWAY, name, limit=0) for name in ("lost", "doubled", "backward", "breaches")},
    "relay-1": {Bar(GATEWAY, against="NATS", times=1.1)},
    "relay-10": {Bar(GATEWAY, against="NATS", times=3)},
    "fan-out": {Bar(GATEWAY, against="NATS", times=1.0), Bar(GATEWAY, against="Socket.IO", times=1.0)},
    "room-cycle": {Bar(GATEWAY, against="gateway, one relay", times=20)},
    "idle-rooms": {Bar(GATEWAY, "link_kib", limit=30)},
    "crowd": {Bar("gateway, 10,000 idle beside", figure, GATEWAY, times=1.25) for figure in ("cpu_us", "p99_ms")},
}


def test_every_bar_that_is_promised_is_in_the_scenarios():
    assert {scenario.name: set(scenario.bars) for scenario in SCENARIOS if scenario.bars} == PROMISED
    assert IDLE_LINKS == 10_000


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
def test_every_bar_is_of_cases_that_take_part_in_every_round(scenario: Scenario):
    always = {case.name for case in scenario.cases if case.rounds_max >= 5}
    assert {name for bar in scenario.bars for name in (bar.of, bar.against) if name} <= always


def test_cases_have_names_of_their_own_and_so_have_scenarios():
    for names in ([each.name for each in SCENARIOS], *([case.name for case in each.cases] for each in SCENARIOS)):
        assert len(names) == len(set(names))


def test_a_heartbeat_has_48_bytes_and_a_phone_s_600():
    assert len(HEARTBEAT) == 48
    assert len(padded(PHONE_HEARTBEAT, 600)) == len(padded(asking(PHONE_HEARTBEAT), 600)) == 600
    with pytest.raises(ValueError, match="too many"):
        padded(PHONE_HEARTBEAT, 100)


def test_no_limit_of_the_gateway_is_switched_off():
    limits = [line for line in CONFIG.splitlines() if line.endswith(" = 0") and not line.startswith("port")]
    assert limits == []
    assert "rate_limit_enabled" not in CONFIG


def scenario_of(measured: list[str], **cases: float | None) -> Scenario:
    """A scenario whose cases measure these figures at once, or cannot be measured."""

    def once(name: str, value: float | None, pace: Pace) -> Figures:
        measured.append(name)
        if value is None:
            raise Unmeasured("there is none")
        return {"cpu_us": value}

    all_cases = [Case(name, partial(once, name, value)) for name, value in cases.items()]
    return Scenario("made-up", "made up", all_cases, [Bar("ours", against="theirs", times=2)])


def run(scenario: Scenario, rounds: int) -> Outcome:
    return measure(scenario, rounds, Pace(), lambda *_: None)


def test_cases_take_turns_round_after_round():
    measured: list[str] = []
    outcome = run(scenario_of(measured, ours=3, theirs=2), 3)
    assert measured == ["ours", "theirs"] * 3
    assert outcome.runs["ours"] == [{"cpu_us": 3.0}] * 3
    assert all_reached([outcome])


def test_a_missing_peer_is_asked_for_once_and_is_a_missed_bar():
    measured: list[str] = []
    outcome = run(scenario_of(measured, ours=3, theirs=None), 3)
    assert measured == ["ours", "theirs", "ours", "ours"]
    assert outcome.unmeasured == {"theirs": "there is none"}
    assert not all_reached([outcome])


def test_what_has_no_bar_is_missed_too_when_it_is_missing_unless_it_is_optional():
    missing = scenario_of([], ours=3, theirs=2, beside=None)
    assert not all_reached([run(missing, 1)])
    cases = [Case(case.name, case.measure, is_optional=case.name == "beside") for case in missing.cases]
    assert all_reached([run(Scenario("made-up", "made up", cases, missing.bars), 1)])


def test_a_case_takes_part_in_so_many_rounds_as_it_says():
    cases = [Case("ours", lambda _: {}), Case("beside", lambda _: {}, rounds_max=1)]
    order = [(number, case.name) for number, case in runs_of(Scenario("made-up", "made up", cases, rounds_max=2), 5)]
    assert order == [(1, "ours"), (1, "beside"), (2, "ours")]
