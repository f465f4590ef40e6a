"""Use cases: no wire, no SQL statements of their own."""
