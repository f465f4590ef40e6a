"""Ids out of random bytes."""

from itertools import islice
from random import Random
from uuid import RFC_4122, UUID

from signal_gateway.domain.ids import ordered_id, uuid_v4, uuids_v4


def test_uuids_made_together_are_those_made_one_by_one_from_the_same_bytes():
    random = Random("uuids")
    asked: list[bytes] = []

    def random_bytes(count: int) -> bytes:
        asked.append(random.randbytes(count))
        return asked[-1]

    made = list(islice(uuids_v4(random_bytes), 600))
    given_out = b"".join(asked)
    assert made == [uuid_v4(given_out[at : at + 16]).bytes for at in range(0, 600 * 16, 16)]
    assert len(set(made)) == 600
    assert {(each.version, each.variant) for each in (UUID(bytes=one) for one in made)} == {(4, RFC_4122)}


def test_an_ordered_id_is_a_uuid_that_grows_with_time_and_is_random_behind_it():
    random = Random("ordered")
    uuids = [uuid_v4(random.randbytes(16)).bytes for _ in range(500)]
    made = [ordered_id(uuid, 1_767_225_600_000 + at // 5) for at, uuid in enumerate(uuids)]
    assert [text[:13] for text in made] == sorted(text[:13] for text in made)
    for at, (text, uuid) in enumerate(zip(made, uuids, strict=True)):
        read = UUID(text)
        assert str(read) == text
        assert (read.version, read.variant) == (4, RFC_4122)
        assert int.from_bytes(read.bytes[:6], "big") == 1_767_225_600_000 + at // 5
        assert read.bytes[6:] == uuid[6:]
