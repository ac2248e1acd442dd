"""What a run leaves in its folder: the ledger, its identity, what it is about, its lock."""

from typing import TYPE_CHECKING

from spaces.lazy import lazily

if TYPE_CHECKING:
    from search.record.about import About
    from search.record.directory import RunDirectory
    from search.record.finals import Final, Limit, load_finals
    from search.record.ledger import Ledger, LedgerError
    from search.record.lock import RunLock

__all__ = ["About", "Final", "Ledger", "LedgerError", "Limit", "RunDirectory", "RunLock", "load_finals"]

__getattr__ = lazily(
    __name__,
    {
        "About": "search.record.about",
        "RunDirectory": "search.record.directory",
        "Final": "search.record.finals",
        "Limit": "search.record.finals",
        "load_finals": "search.record.finals",
        "Ledger": "search.record.ledger",
        "LedgerError": "search.record.ledger",
        "RunLock": "search.record.lock",
    },
)
