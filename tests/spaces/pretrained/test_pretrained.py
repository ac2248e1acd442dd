"""Models of transformers: uniform widths become plain models, all others load by their widths, and nothing
that is loaded executes anything.
"""

import json

import numpy as np
import pytest
import torch
from torch import nn

transformers = pytest.importorskip("transformers")
pytest.importorskip("accelerate")

from search.config.settings import Settings  # noqa: E402
from secateur import HOMES, ChannelSpace, HuggingFace, InputError, load_pretrained  # noqa: E402
from spaces.outputs import distance, outputs_of  # noqa: E402
from spaces.pretrained.loading import CONFIG, WEIGHTS, WIDTHS  # noqa: E402
from spaces.pretrained.numbers import Numbers, configured  # noqa: E402
from spaces.pretrained.plain import NotPlain  # noqa: E402
from spaces.pretrained.saving import save_pretrained  # noqa: E402


def bert():
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "intermediate_size": 12, "num_hidden_layers": 2, "num_attention_heads": 4}
    config = transformers.BertConfig(vocab_size=20, max_position_embeddings=8, **sizes)
    return transformers.BertForSequenceClassification(config).eval()


INPUTS = {"input_ids": torch.randint(0, 20, (2, 6), generator=torch.Generator().manual_seed(0))}


@pytest.fixture(scope="module")
def uniform():
    return ChannelSpace(bert(), INPUTS, uniform=True)


@pytest.fixture(scope="module")
def free():
    return ChannelSpace(bert(), INPUTS)


def saved(space, folder, seed=0):
    genome = space.sample(1, np.random.default_rng(seed))[0]
    compact = space.build(genome).eval()
    return compact, save_pretrained(
        folder, space, genome, compact, {"macs": 9.0}, {"macs": 4.0, "error": 0.5}
    )


@pytest.fixture(scope="module")
def widths(free, tmp_path_factory):
    folder = tmp_path_factory.mktemp("widths") / "pretrained"
    compact, reason = saved(free, folder)
    assert reason
    return folder, compact


def copy(widths, tmp_path, **changes):
    """Return a copy of the folder of a model whose layers differ, with other entries in one of its files."""
    for file in widths[0].iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    for name, entries in changes.items():
        file = tmp_path / f"{name}.json"
        file.write_text(json.dumps(json.loads(file.read_text()) | entries))
    return tmp_path


def test_numbers_of_a_config_are_told_from_each_other():
    numbers = Numbers.of(bert())
    assert numbers.follows["bert.encoder.layer.1.output.dense.weight", 1] == {("intermediate_size",)}
    assert numbers.follows["bert.encoder.layer.1.output.dense.weight", 0] == {("hidden_size",)}
    gpt = transformers.GPT2Config(n_embd=8, n_head=2, n_layer=1, vocab_size=10, n_positions=4)
    numbers = Numbers.of(transformers.GPT2LMHeadModel(gpt))
    # the config has no n_inner, the model takes four times the width
    assert numbers.values[("n_inner",)] == 32 and ("n_inner",) in numbers.implied
    assert numbers.follows["transformer.h.0.mlp.c_fc.weight", 1] == {("n_inner",)}


def test_whole_heads_and_their_share_of_the_width_go_together(uniform):
    assert [(segment.name.rpartition(".")[2], segment.size) for segment in uniform.segments] == [
        ("heads", 4),
        ("dense", 12),
    ]
    # a plain model would scale its attention by another size of a head
    assert any("head_dim" in name for name in uniform._refused)


@pytest.mark.parametrize("seed", range(3))
def test_uniform_models_are_plain_ones(uniform, tmp_path, seed):
    compact, reason = saved(uniform, tmp_path / "p", seed)
    assert reason == "" and not (tmp_path / "p" / WIDTHS).exists()
    plain = transformers.AutoModelForSequenceClassification.from_pretrained(tmp_path / "p")
    assert plain.config.hidden_size == 4 * plain.config.num_attention_heads
    assert plain.config.hidden_size == compact.bert.pooler.dense.in_features
    assert distance(outputs_of(plain, INPUTS), outputs_of(compact, INPUTS)) < 1e-6
    assert distance(outputs_of(load_pretrained(tmp_path / "p"), INPUTS), outputs_of(compact, INPUTS)) < 1e-6
    card = (tmp_path / "p" / "README.md").read_text()
    assert "from_pretrained" in card and "| 9 | 4 |" in card


def test_models_whose_layers_differ_load_by_their_widths(widths):
    folder, compact = widths
    for again in (load_pretrained(folder), HuggingFace(str(folder))):
        assert distance(outputs_of(again, INPUTS), outputs_of(compact, INPUTS)) < 1e-6
        assert not again.training and all(p.device.type == "cpu" for p in again.parameters())
    assert "load_pretrained" in (folder / "README.md").read_text()


@pytest.mark.parametrize("settings", [{}, {"ignore_mismatched_sizes": True}], ids=["plain", "ignoring"])
@pytest.mark.parametrize("kind", ["AutoModel", "AutoModelForSequenceClassification", "BertModel"])
def test_plain_transformers_refuses_them_by_a_sentence(widths, kind, settings):
    with pytest.raises(ValueError, match=r"differ in width; secateur\.load_pretrained"):
        getattr(transformers, kind).from_pretrained(widths[0], **settings)


def test_what_is_saved_anew_does_not_load_by_its_shapes(widths, tmp_path):
    load_pretrained(widths[0]).save_pretrained(tmp_path)
    with pytest.raises(RuntimeError, match="ignore_mismatched_sizes"):
        transformers.AutoModel.from_pretrained(tmp_path)


def test_widths_that_differ_are_told(free):
    genome = free.base.copy()
    genome[free.slices["bert.encoder.layer.0.intermediate.dense"]][:6] = 0
    with pytest.raises(NotPlain, match="intermediate_size is one number for all layers"):
        free.plain(genome)


@pytest.mark.parametrize(
    ("file", "entries", "message"),
    [
        ("config", {"auto_map": {"AutoModel": "code.Model"}}, "has auto_map"),
        ("config", {"quantization_config": {"quant_method": "x"}}, "has quantization_config"),
        ("config", {"attn_implementation": "someone/kernel"}, "expected eager or sdpa"),
        ("config", {"sub": [{"auto_map": {"AutoModel": "code.Model"}}]}, "has auto_map"),
        ("secateur", {"class": "Trainer"}, "no model class"),
        ("secateur", {"class": "os.system"}, "no model class"),
        ("secateur", {"format": 2}, "reads format 1"),
        ("secateur", {"weights": "0"}, "is not the file that was exported"),
        ("secateur", {"slices": []}, "export the model again"),
        ("secateur", {"slices": [{"tensor": "x", "dim": 0, "kept": [0]}]}, "has no tensor 'x'"),
        ("secateur", {"attributes": [{"module": "bert", "name": "x", "value": 1}]}, "no attribute bert.x"),
    ],
)
def test_folders_that_name_code_or_do_not_fit_are_refused(widths, tmp_path, file, entries, message):
    folder = copy(widths, tmp_path, **{file: entries})
    with pytest.raises(InputError, match=message):
        load_pretrained(folder)


def test_damaged_and_missing_files_are_told(widths, tmp_path):
    folder = copy(widths, tmp_path)
    (folder / WEIGHTS).write_bytes(b"x")
    with pytest.raises(InputError, match="is not the file that was exported"):
        load_pretrained(folder)
    (folder / CONFIG).write_text("[1")
    with pytest.raises(InputError, match="is no JSON object"):
        load_pretrained(folder)
    with pytest.raises(InputError, match="cannot be read"):
        HuggingFace(str(tmp_path / "nowhere"))


def test_a_folder_is_loaded_as_its_task_says(tmp_path):
    bert().save_pretrained(tmp_path)
    assert isinstance(HuggingFace(str(tmp_path)), transformers.BertForSequenceClassification)
    assert isinstance(HuggingFace(str(tmp_path), "features"), transformers.BertModel)
    with pytest.raises(InputError, match="expected one of audio-classification"):
        HuggingFace(str(tmp_path), "classification")
    (tmp_path / "model.safetensors").rename(tmp_path / "pytorch_model.bin")  # a pickle is not read
    with pytest.raises(InputError, match=r"model\.safetensors"):
        HuggingFace(str(tmp_path))


def test_a_config_names_a_folder(tmp_path):
    bert().save_pretrained(tmp_path / "base")
    spec = {"class_path": "secateur.HuggingFace", "init_args": {"path": str(tmp_path / "base")}}
    (tmp_path / "my.yaml").write_text(json.dumps({"model": spec, "data": {"class_path": "Digits"}}))
    settings = Settings.parse([str(tmp_path / "my.yaml"), "--model.init_args.task=features"], HOMES)
    assert isinstance(settings.make("model"), transformers.BertModel)


def test_tokenizer_files_come_along(free, tmp_path, monkeypatch):
    base = tmp_path / "base"
    base.mkdir()
    for name in ("vocab.txt", "tokenizer.json", "code.py"):
        (base / name).write_text("{}")
    monkeypatch.setattr(free.model.config, "_name_or_path", str(base))
    saved(free, tmp_path / "p")
    assert (tmp_path / "p" / "vocab.txt").exists() and (tmp_path / "p" / "tokenizer.json").exists()
    assert not (tmp_path / "p" / "code.py").exists()


def test_a_model_of_transformers_is_found_in_a_wrapper_alone():
    model = bert()
    assert configured(model) == ("", model)
    assert configured(nn.ModuleDict({"text": model})) == ("text", model)
    assert configured(nn.ModuleList([model, bert()])) is None
    assert configured(nn.Linear(2, 2)) is None
    assert configured(type("Mine", (type(model),), {"__module__": "mine"})(model.config))[0] == "bert"


class Block(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.up, self.down = nn.Linear(4, width), nn.Linear(width, 4)

    def forward(self, x):
        return x + self.down(torch.relu(self.up(x)))


def test_layers_of_one_kind_are_uniform_where_there_is_no_config():
    model = nn.Sequential(nn.Linear(3, 4), Block(6), Block(6), Block(5), nn.Linear(4, 2))
    space = ChannelSpace(model, torch.randn(2, 3), uniform=True)
    assert sorted(segment.size for segment in space.segments) == [4, 5, 6]
    built = space.build(space.sample(1, np.random.default_rng(0))[0])
    assert built[1].up.out_features == built[2].up.out_features
    with pytest.raises(NotPlain, match="has no config of transformers"):
        space.plain(space.base)
