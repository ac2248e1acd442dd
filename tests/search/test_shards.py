"""Weights in a folder of safetensors shards."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from search.record.identity import weights_digest
from search.setup.baseline import load_checkpoint
from spaces import InputError


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.body, self.head = nn.Embedding(5, 4), nn.Linear(4, 4), nn.Linear(4, 5)
        self.head.weight = self.embedding.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(self.embedding(x)))


def written(folder: Path, model: nn.Module, shards: list[list[str]]) -> Path:
    """Write a model as Hugging Face does: of tied weights the first alone."""
    state, files = model.state_dict(), {}
    for number, names in enumerate(shards, 1):
        file = f"model-{number:05}-of-{len(shards):05}.safetensors"
        save_file({name: state[name].clone() for name in names}, folder / file)
        files |= dict.fromkeys(names, file)
    index = {"metadata": {"total_size": 1}, "weight_map": files}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")
    return folder


SHARDS = [["embedding.weight", "body.bias"], ["body.weight", "head.bias"]]


@pytest.mark.parametrize("place", ["", "model.safetensors.index.json"])
def test_shards_are_loaded_and_tied_weights_stand_there_once(tmp_path: Path, place: str) -> None:
    torch.manual_seed(0)
    trained, model = Tied(), Tied()
    written(tmp_path, trained, SHARDS)
    load_checkpoint(model, tmp_path / place)
    assert weights_digest(model) == weights_digest(trained)
    assert model.head.weight is model.embedding.weight


def test_one_shard_is_in_memory_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = []
    model = Tied()
    whole = nn.Module.load_state_dict
    monkeypatch.setattr(
        nn.Module, "load_state_dict", lambda *a, **k: (loaded.append([*a[1]]), whole(*a, **k))
    )
    load_checkpoint(model, written(tmp_path, Tied(), SHARDS))
    assert [sorted(names) for names in loaded] == [sorted(names) for names in SHARDS]


@pytest.mark.parametrize(
    ("shards", "told"),
    [
        ([SHARDS[0], ["body.weight"]], "no 'head.bias'"),
        ([["embedding.weight"], ["body.weight", "head.bias"]], "no 'body.bias'"),
    ],
)
def test_what_lacks_is_named_before_anything_is_loaded(tmp_path: Path, shards: list, told: str) -> None:
    model = Tied()
    before = weights_digest(model)
    with pytest.raises(InputError, match=told):
        load_checkpoint(model, written(tmp_path, Tied(), shards))
    assert weights_digest(model) == before


@pytest.mark.parametrize(
    "index", ["[]", "{", '{"weight_map": {"a": "../a.safetensors"}}', '{"weight_map": {"a": "a.bin"}}']
)
def test_an_index_that_is_none_is_refused_in_one_line(tmp_path: Path, index: str) -> None:
    (tmp_path / "model.safetensors.index.json").write_text(index, encoding="utf-8")
    with pytest.raises(InputError, match="cannot be read") as told:
        load_checkpoint(Tied(), tmp_path)
    assert "\n" not in str(told.value)
