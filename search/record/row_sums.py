"""Checksums of the rows of a ledger: what a disk or a copy changed is found out when it is read.

They stand in a table of their own, which older versions do not know. What anybody changes through SQL loses
its checksum and is believed, as are the rows of older versions.
"""

from __future__ import annotations

import sqlite3
import zlib

_COLUMNS = {
    "about": ("key", "''", ("value",)),
    "candidates": ("id", "''", ("genome", "parents", "operator", "seed")),
    "evaluations": (
        "id",
        "''",
        ("state", "metrics", "reason", "seconds", "worker", "attempts", "at"),
    ),
    "reports": ("id", "position", ("step", "metrics")),
    "arrays": ("owner", "name", ("dtype", "shape", "data")),
    "notes": ("key", "''", ("value",)),
}
"""Table -> the two parts of a row's key, and the columns that the checksum is of."""
_REPLACED = ("about", "notes", "arrays")
"""Tables whose rows are replaced: an older version does not delete them first."""


def _row_sum(*values: bytes | int | float | None) -> int:
    """Return the checksum of a row; texts come as bytes."""
    return zlib.crc32(b"\0".join([value if type(value) is bytes else b"%a" % value for value in values]))


class RowSums:
    """The checksums in one database.

    Args:
        db: an open database.

    Attributes:
        there: whether it has the table of checksums.
    """

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db
        db.create_function("row_sum", -1, _row_sum, deterministic=True)
        self.there = False
        self.look()

    def look(self) -> None:
        """See whether the table is there: what creates it may have been undone."""
        found = self._db.execute("SELECT count(*) FROM sqlite_master WHERE name = 'sums'").fetchone()
        self.there = bool(found[0])

    def create(self) -> None:
        """Make the table within the transaction that is open, where the database is of an older version or
        new.
        """
        if self.there:
            return
        self._db.execute(
            "CREATE TABLE sums (kind TEXT, owner, name, sum INTEGER NOT NULL,"
            " PRIMARY KEY (kind, owner, name)) WITHOUT ROWID"
        )
        for table, (owner, name, columns) in _COLUMNS.items():
            forget = f"DELETE FROM sums WHERE {_key(table, 'OLD')}"
            changed = ", ".join((owner, *([] if name.startswith("'") else [name]), *columns))
            events = [("deleted", "DELETE"), ("changed", f"UPDATE OF {changed}")]
            for what, event in events:
                self._db.execute(
                    f"CREATE TRIGGER {table}_{what} AFTER {event} ON {table} BEGIN {forget}; END"
                )
            if table in _REPLACED:
                self._db.execute(
                    f"CREATE TRIGGER {table}_replaced AFTER INSERT ON {table} BEGIN "
                    f"{forget.replace('OLD.', 'NEW.')}; END"
                )
        self.there = True

    def sound(self, table: str, alias: str = "") -> str:
        """Return an expression of SQL: whether a row is what was written, 1 where it has no checksum.

        Args:
            table: of the row.
            alias: under which a query has it.
        """
        if not self.there:
            return "1"
        alias = alias or table
        found = f"SELECT sum = {_sum(_COLUMNS[table][2], alias)} FROM sums WHERE {_key(table, alias)}"
        return f"coalesce(({found}), 1)"

    def keep(self, table: str) -> str:
        """Return the beginning of a statement that keeps the checksums of rows; it lacks its WHERE."""
        owner, name, columns = _COLUMNS[table]
        key = f"'{table}', {owner}, {name}"
        return f"INSERT OR REPLACE INTO sums SELECT {key}, {_sum(columns, table)} FROM {table}"

    def orphan(self) -> str:
        """Return a row that is missing though its checksum, or what belongs to it, is there; empty where
        there is none.
        """
        found = self._db.execute(
            "SELECT e.id FROM evaluations e LEFT JOIN candidates c ON c.id = e.id WHERE c.id IS NULL LIMIT 1"
        ).fetchone()
        if found:
            return f"candidates, row {found[0]}"
        for table in ("candidates", "evaluations") if self.there else ():
            found = self._db.execute(
                f"SELECT owner FROM sums WHERE kind = '{table}' AND owner NOT IN (SELECT id FROM {table})"
                " LIMIT 1"
            ).fetchone()
            if found:
                return f"{table}, row {found[0]}"
        return ""


def _key(table: str, alias: str) -> str:
    """The condition that a checksum is that of a row."""
    owner, name, _ = _COLUMNS[table]
    # a plus takes a column's type away: a comparison that converts cannot use the index
    name = name if name.startswith("'") else f"+{alias}.{name}"
    return f"kind = '{table}' AND owner = +{alias}.{owner} AND name = {name}"


def _sum(columns: tuple[str, ...], alias: str) -> str:
    texts = ("parents", "operator", "state", "metrics", "reason", "worker", "value", "dtype", "shape")
    return "row_sum({})".format(
        ", ".join(
            f"CAST({alias}.{column} AS BLOB)" if column in texts else f"{alias}.{column}"
            for column in columns
        )
    )
