"""IMEI, IMSI and ICCID are never kept whole."""

import pytest

from signal_gateway.domain.device import SubscriberId
from signal_gateway.services import subscriber_ids
from signal_gateway.services.subscriber_ids import DIGESTS_MAX, SubscriberIds

IMEI = "490154203237518"


def test_an_id_is_kept_by_its_last_four_characters_and_a_digest_that_is_equal_for_equal_ids():
    ids = SubscriberIds(b"p" * 32)

    kept = ids.redact(IMEI)

    assert kept.last_four == "7518"
    assert len(kept.digest) == 64
    assert kept == ids.redact(IMEI)
    assert kept.digest != ids.redact("490154203237519").digest
    assert kept.digest != SubscriberIds(b"q" * 32).redact(IMEI).digest


def test_a_short_id_shows_nothing():
    assert SubscriberIds(b"p" * 32).redact("12345678").last_four == ""


def test_ids_are_redacted_however_deep_and_all_else_stays():
    ids = SubscriberIds(b"p" * 32)
    data = {
        "imei": IMEI,
        "battery": 5,
        "sim_cards": [{"ICCID": IMEI, "slot_index": 0, "imsi": None}],
        "more": {"imei": [IMEI, 490154203237518]},
    }

    kept = ids.redact_data(data)

    redacted = {"last_four": "7518", "digest": ids.redact(IMEI).digest}
    assert kept == {
        "imei": redacted,
        "battery": 5,
        "sim_cards": [{"ICCID": redacted, "slot_index": 0, "imsi": None}],
        "more": {"imei": [redacted, redacted]},
    }
    assert data["imei"] == IMEI


def test_what_is_remembered_of_ids_is_bounded_and_never_wrong(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(subscriber_ids, "GENERATION_IDS", 10)
    ids, fresh = SubscriberIds(b"p" * 32), SubscriberIds(b"p" * 32)
    for number in [*range(100), *range(100), 3, 3, 3]:
        text = f"49015420323{number:04d}"
        assert ids.redact(text) == fresh._redacted(text)
        assert len(ids._young) + len(ids._old) <= 20


def test_of_more_than_256_ids_in_one_object_the_rest_are_kept_by_nothing_at_all(monkeypatch: pytest.MonkeyPatch):
    """A digest costs 2 µs, and a message of 1 MiB may name 200,000 (H12)."""
    ids = SubscriberIds(b"p" * 32)
    digests = list[str]()
    redact = SubscriberIds.redact

    def count(self: SubscriberIds, text: str) -> SubscriberId:
        digests.append(text)
        return redact(self, text)

    monkeypatch.setattr(SubscriberIds, "redact", count)
    kept = ids.redact_data({"sims": [{"imei": IMEI}] * 255, "imsi": [[IMEI, IMEI], IMEI], "last": {"iccid": IMEI}})

    assert len(digests) == DIGESTS_MAX == 256
    assert kept["sims"][254]["imei"]["last_four"] == "7518"
    nothing = {"last_four": "", "digest": ""}
    assert kept["imsi"] == [[{"last_four": "7518", "digest": redact(ids, IMEI).digest}, nothing], nothing]
    assert kept["last"] == {"iccid": nothing}
    assert ids.redact_data({"imei": IMEI})["imei"]["last_four"] == "7518"
