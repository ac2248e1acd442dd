"""From a configuration to a search: settings, what is wrong with them, the parts they name."""

from typing import TYPE_CHECKING

from spaces.lazy import lazily

if TYPE_CHECKING:
    from search.config.assembly import assemble
    from search.config.settings import Settings

__all__ = ["Settings", "assemble"]

__getattr__ = lazily(__name__, {"assemble": "search.config.assembly", "Settings": "search.config.settings"})
