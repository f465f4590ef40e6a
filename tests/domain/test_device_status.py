"""What is known of a device, after it told more."""

from hypothesis import given
from hypothesis import strategies as st

from signal_gateway.domain.device import DeviceStatus, Location, SimCard

STATUSES = st.builds(
    DeviceStatus,
    battery_level=st.none() | st.integers(0, 100),
    battery_status=st.none() | st.sampled_from(["charging", "full"]),
    signal_strength=st.none() | st.integers(0, 4),
    signal_dbm=st.none() | st.integers(-120, -40),
    network_type=st.none() | st.sampled_from(["LTE", "5G"]),
    sim_cards=st.none() | st.just((SimCard(0),)) | st.just(()),
    location=st.none() | st.just(Location(0.0, 0.0)),
)


@given(STATUSES, STATUSES)
def test_every_field_is_the_newest_that_was_told(older: DeviceStatus, newer: DeviceStatus):
    merged = older.merged(newer)

    for name in DeviceStatus.__struct_fields__:
        told = getattr(newer, name)
        assert getattr(merged, name) == (getattr(older, name) if told is None else told)
