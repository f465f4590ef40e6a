"""Ids out of random bytes."""

from itertools import islice
from random import Random
from uuid import RFC_4122, UUID

from signal_gateway.domain.ids import uuid_v4, uuids_v4


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
