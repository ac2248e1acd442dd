"""The user's own modules on every worker, also those that are imported only when something needs them."""

from __future__ import annotations

import logging
import os
import sys
import sysconfig
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import spec_from_loader
from pathlib import Path
from types import ModuleType

from spaces.names import OWN

_log = logging.getLogger(__name__)
_MOST_ENTRIES, _MOST_BYTES = 50_000, 32 * 2**20


@dataclass(frozen=True)
class Source:
    """A module as text.

    Attributes:
        file: where it lay, for tracebacks.
        text: of it.
        is_package: whether modules may be below it.
    """

    file: str
    text: bytes
    is_package: bool = False


def gather(path: Sequence[str] | None = None) -> dict[str, Source]:
    """Return the modules that can be imported here and are neither installed, nor Python's, nor ours.

    Args:
        path: folders in which modules are looked for; None: ``sys.path``, with those of the configuration.
    """
    found: dict[str, Source] = {}
    entries = size = 0
    for folder in _folders(sys.path if path is None else path):
        for name, file, seen in _modules(folder):
            entries += seen
            if entries > _MOST_ENTRIES or size > _MOST_BYTES:
                _log.warning(
                    "%s holds more than %s files or %s MiB of code: modules of it that are not imported yet "
                    "may be missing on workers of other machines; keep the configuration in its own folder",
                    *(folder, f"{_MOST_ENTRIES:,}", _MOST_BYTES // 2**20),
                )
                return found
            if name and name not in found:
                try:
                    text = file.read_bytes()
                except OSError:
                    continue
                found[name] = Source(str(file), text, file.name == "__init__.py")
                size += len(text)
    return found


def _folders(path: Sequence[str]) -> Iterator[Path]:
    """The folders of a path that are the user's."""
    ours = Path(__file__).resolve().parents[2]
    others = {
        Path(sysconfig.get_path(name)).resolve() for name in ("stdlib", "platstdlib", "purelib", "platlib")
    }
    for folder in dict.fromkeys(Path(entry or os.curdir).resolve() for entry in path):
        if folder.is_dir() and folder != ours and not any(folder.is_relative_to(other) for other in others):
            yield folder


def _modules(folder: Path) -> Iterator[tuple[str, Path, int]]:
    """Every module below a folder: its name, its file, and how many entries were looked at for it."""
    for place, folders, files in os.walk(folder):
        parts = Path(place).relative_to(folder).parts
        folders[:] = [
            name for name in folders if name.isidentifier() and not Path(place, name, "pyvenv.cfg").exists()
        ]
        yield "", folder, len(files) + len(folders)
        for name in files:
            stem, dot, kind = name.rpartition(".")
            if dot and kind == "py" and stem.isidentifier():
                whole = parts if stem == "__init__" else (*parts, stem)
                if whole and whole[0] not in {*OWN, "__main__", "setup", "conftest"}:
                    yield ".".join(whole), Path(place, name), 0


class Finder(MetaPathFinder, Loader):
    """Finds modules that came along, after everything that is installed.

    Args:
        sources: by name.
    """

    def __init__(self, sources: Mapping[str, Source]) -> None:
        self.sources = sources

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return how a module is loaded, None where it did not come along."""
        source = self.sources.get(name)
        if source is None:
            inside = any(other.startswith(f"{name}.") for other in self.sources)
            return ModuleSpec(name, None, is_package=True) if inside else None
        return spec_from_loader(name, self, origin=source.file, is_package=source.is_package)

    def exec_module(self, module: ModuleType) -> None:
        """Run a module."""
        source = self.sources[module.__name__]
        exec(compile(source.text, source.file, "exec"), vars(module))


def install(sources: Mapping[str, Source]) -> None:
    """Let this process import modules that came along; those of an earlier call are forgotten."""
    sys.meta_path[:] = [finder for finder in sys.meta_path if not isinstance(finder, Finder)]
    sys.meta_path.append(Finder(sources))
