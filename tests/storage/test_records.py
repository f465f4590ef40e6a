"""Reports, states, links and the audit trail on disk."""

from signal_gateway.domain.device import DeviceStatus, Location, SimCard, SubscriberId
from signal_gateway.domain.report import Report
from signal_gateway.storage import records
from signal_gateway.storage.records import AuditEntry


def test_a_state_row_holds_only_what_is_known():
    row = records.status_row("phone-1", True, None, None, DeviceStatus(battery_level=0), 5)

    assert row.key == ("device_id",)
    assert row.values == {"device_id": "phone-1", "linked": True, "updated_at": 5, "battery_level": 0}


def test_a_state_row_keeps_sims_and_place_as_plain_data():
    sim = SimCard(slot_index=1, imsi=SubscriberId("7890", "ab"))
    row = records.status_row("phone-1", True, 4, "error", DeviceStatus(sim_cards=(sim,), location=Location(41.0, 29.0)), 5)

    assert row.values["sim_cards"][0]["imsi"] == {"last_four": "7890", "digest": "ab"}
    assert (row.values["latitude"], row.values["longitude"], row.values["reported"]) == (41.0, 29.0, "error")


def test_words_of_a_peer_are_cut_to_their_columns():
    status = DeviceStatus(battery_status="x" * 99, network_type="y" * 99)
    state = records.status_row("phone-1", True, 4, "z" * 99, status, 5).values
    report = records.report_row(Report("phone-1", "t" * 99, {}, 5, message_id="m" * 999)).values
    audit = records.audit_row(AuditEntry(1, "a" * 999, "connect", "s" * 999, "o" * 99, "1" * 99)).values
    link = records.link_opened_row("phone-1", "session-1", "phone", "1" * 99, 5).values
    end = records.link_closed_row("session-1", 5, 1.5, 1000, "r" * 999).values

    assert [len(state[name]) for name in ("battery_status", "network_type", "reported")] == [32, 32, 16]
    assert [len(report[name]) for name in ("type", "message_id")] == [64, 128]
    assert [len(audit[name]) for name in ("actor", "subject", "outcome", "address")] == [128, 128, 32, 64]
    assert (len(link["address"]), len(end["reason"])) == (64, 128)
