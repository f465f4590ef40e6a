"""What the database in memory can do beside the contract of all databases: images, and telling what was committed."""

from functools import partial

import pytest
from sqlalchemy import Connection

from signal_gateway.domain.errors import DatabaseDown
from signal_gateway.storage.database import InlineDatabase

from .rows_kept import insert_entry, subjects


async def test_an_image_holds_what_was_committed_before_and_nothing_of_later(inline: InlineDatabase):
    await inline.write(partial(insert_entry, subject="before"))
    image = inline.image()
    await inline.write(partial(insert_entry, subject="after"))

    restored = InlineDatabase(image=image)
    assert await subjects(restored) == ["before"]
    assert (restored.commits, inline.commits) == (1, 2)
    await restored.write(partial(insert_entry, subject="again"))
    assert await subjects(restored) == ["before", "again"]
    assert await subjects(inline) == ["before", "after"]
    restored.close()


async def test_a_listener_is_told_the_writes_of_each_commit_that_held(inline: InlineDatabase):
    told: list[tuple[int, list[str]]] = []
    end = inline.tell_commits(lambda number, writes: told.append((number, list(writes))))

    def undo_one(connection: Connection) -> None:
        insert_entry(connection, "kept")
        savepoint = connection.begin_nested()
        insert_entry(connection, "undone")
        savepoint.rollback()

    def fail(connection: Connection) -> None:
        insert_entry(connection, "refused")
        raise DatabaseDown

    await subjects(inline)
    await inline.write(undo_one)
    with pytest.raises(DatabaseDown):
        await inline.write(fail)
    await inline.write(lambda connection: None)
    end()
    await inline.write(partial(insert_entry, subject="unheard"))

    assert [number for number, _ in told] == [1, 2]
    assert "kept" in repr(told[0])
    assert "undone" not in repr(told[0])
    assert told[1][1] == []
