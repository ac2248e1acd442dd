"""Whether the packages that we import by short names are ours: ``spaces``, for one, is also on the index."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path


def require_own(package: str, names: Sequence[str]) -> None:
    """See that packages lie beside this one.

    Args:
        package: that needs them.
        names: of packages that nothing of somebody else's may stand in front of.

    Raises:
        ImportError: one line that names the first package that does not, where it was found and what to do.
    """
    here = Path(__file__).resolve().parents[1]
    for name in names:
        spec = find_spec(name)
        places = [] if spec is None else list(spec.submodule_search_locations or [spec.origin or ""])
        if here / name not in [Path(place).resolve() for place in places]:
            found = f"the one in {places[0]}" if places else "none"
            raise ImportError(
                f"{package}: expected the package {name!r} in {here}, found {found}; put {here} first on "
                f"PYTHONPATH, or remove the other package"
            )
