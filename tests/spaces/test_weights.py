"""Weights that were stored without the versions of their modules are those of the modules that are here."""

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from search import load
from search.finish.export import export
from search.setup.baseline import load_checkpoint
from spaces import ChannelSpace
from spaces.weights import put_weights


class Versioned(nn.Linear):
    """Refuses weights of another version than its own, as torchvision's MNASNet does."""

    _version = 2

    def _load_from_state_dict(self, state_dict, prefix, local_metadata, *rest):
        if local_metadata.get("version") != 2:
            raise ValueError(f"version should be 2 instead of {local_metadata.get('version')}")
        super()._load_from_state_dict(state_dict, prefix, local_metadata, *rest)


def net():
    return nn.Sequential(Versioned(6, 4), nn.ReLU(), nn.Linear(4, 2))


def test_exports_and_checkpoints_of_safetensors_are_read(tmp_path):
    model = net()
    space = ChannelSpace(model, torch.randn(2, 6))
    genome = np.array([1, 0, 1, 1], dtype=np.uint8)
    compact = space.build(genome)
    export(tmp_path, 0, genome, compact, space, space.example, base=model, onnx=False)
    assert torch.equal(load(tmp_path, model=model)[0].weight, compact[0].weight)
    save_file(model.state_dict(), tmp_path / "base.safetensors")
    load_checkpoint(other := net(), tmp_path / "base.safetensors")
    assert torch.equal(other[0].weight, model[0].weight)


def test_what_notes_its_versions_is_held_to_them():
    state = net().state_dict()
    state._metadata["0"]["version"] = 1
    with pytest.raises(ValueError, match="instead of 1"):
        put_weights(net(), state)
