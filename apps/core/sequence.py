"""A change sequence whose reader never skips a late commit.

Ids alone do: a transaction may take id 7, another take 8 and commit first, and a reader that saw 8 never asks for 7.
On PostgreSQL each change therefore stores the id of its transaction, and a reader stops below the oldest transaction
that still runs (`watermark`). SQLite has one writer at a time, so there ids are already in order of commit.
"""

from typing import Any

from django.db import connections, models


class CurrentTransactionId(models.Func):
    """SQL expression: the id of the running transaction (PostgreSQL), 0 elsewhere."""

    output_field = models.BigIntegerField()
    arity = 0

    def as_sql(self, *args: Any, **kwargs: Any) -> Any:
        return "0", []

    def as_postgresql(self, *args: Any, **kwargs: Any) -> Any:
        return "(pg_current_xact_id()::text::bigint)", []


def watermark(using: str = "default") -> int:
    """The first transaction id that may still commit: everything below it is final. SQLite: 1."""
    connection = connections[using]
    if connection.vendor != "postgresql":
        return 1
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint")
        row: tuple[int] = cursor.fetchone()
        return row[0]
