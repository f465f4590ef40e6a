"""Ready, not ready, draining."""

import pytest

from signal_gateway.observe.health import Health


def test_without_checks_it_is_ready():
    assert Health().report() == (True, {"status": "ready", "checks": {}})


def test_a_check_that_fails_says_why_and_the_others_still_count():
    health = Health()
    health.add("storage", lambda: "the writer is behind")
    health.add("listener", lambda: None)
    assert health.report() == (False, {"status": "not_ready", "checks": {"storage": "the writer is behind", "listener": "ok"}})


def test_checks_are_asked_each_time():
    health, answers = Health(), iter(["not yet", None])
    health.add("listener", lambda: next(answers))
    assert [health.report()[0], health.report()[0]] == [False, True]


def test_draining_is_not_ready_though_all_is_fine():
    health = Health()
    health.add("storage", lambda: None)
    health.draining = True
    assert health.report() == (False, {"status": "draining", "checks": {"storage": "ok"}})


def test_a_name_is_added_once():
    health = Health()
    health.add("storage", lambda: None)
    with pytest.raises(ValueError, match="storage"):
        health.add("storage", lambda: None)


def test_a_check_that_does_not_decide_is_told_and_leaves_the_gateway_ready():
    health = Health()
    health.add("media", lambda: "left alone", decides=False)
    assert health.report() == (True, {"status": "ready", "checks": {"media": "left alone"}})
    health.add("storage", lambda: "the writer is behind")
    assert health.report() == (
        False,
        {"status": "not_ready", "checks": {"media": "left alone", "storage": "the writer is behind"}},
    )
