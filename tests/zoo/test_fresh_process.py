"""What is exported of the zoo loads in a process that knows nothing of the search: numbers, weights and the
user's own code.
"""

import hashlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from search.finish.recipe import RECIPE, WEIGHTS, Recipe, attributes_of, load, serialise_weights, slices_of
from spaces.testing import flat
from tests.zoo.cases import ZOO, example_of, model_of, space_of

TENSORS = "tensors.safetensors"


def write(name: str, folder: Path) -> None:
    """Write a pruned model of other weights than the zoo's, inputs, and what it makes of them."""
    space = space_of(name)
    genome = space.sample(1, np.random.default_rng(1))[0]
    model, inputs = space.build(genome), example_of(name, 3)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter *= 0.9
        outputs = flat(model(*inputs))
    weights, tied = serialise_weights(model)
    digest = hashlib.sha256(weights).hexdigest()
    recipe = Recipe(
        0,
        None,
        None,
        slices_of(space, genome),
        attributes_of(space, genome),
        tied,
        {},
        {},
        {},
        {},
        space.fingerprint,
        digest,
    )
    folder.mkdir()
    (folder / RECIPE).write_text(recipe.to_json(), encoding="utf-8")
    (folder / WEIGHTS).write_bytes(weights)
    tensors = {
        f"{kind}{n}": x.contiguous().clone()
        for kind, found in (("in", inputs), ("out", outputs))
        for n, x in enumerate(found)
    }
    save_file(tensors, folder / TENSORS)


def read(folder: Path) -> str:
    """Load what was written; return what is wrong with it, or nothing."""
    tensors = load_file(folder / TENSORS)
    inputs = [tensors[key] for key in sorted(tensors) if key.startswith("in")]
    with torch.no_grad():
        outputs = flat(load(folder, model_of(folder.name))(*inputs))
    # not bit by bit: how weights lie in memory decides the order in which they are summed up
    same = [torch.allclose(found, tensors[f"out{n}"], atol=1e-6) for n, found in enumerate(outputs)]
    return "" if same and all(same) else f"outputs agree: {same}"


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    root = tmp_path_factory.mktemp("exported")
    for name in ZOO:
        write(name, root / name)
    done = subprocess.run(
        [sys.executable, "-m", __name__, str(root)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    told: dict[str, Any] = json.loads(done.stdout)
    return told


@pytest.mark.parametrize("name", ZOO)
def test_it_loads_in_a_fresh_process(name: str, found: dict[str, str]) -> None:
    assert found[name] == ""


if __name__ == "__main__":
    print(json.dumps({folder.name: read(folder) for folder in sorted(Path(sys.argv[1]).iterdir())}))
