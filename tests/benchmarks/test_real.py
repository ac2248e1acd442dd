"""The arms of the real model, on a small stand-in: a BERT of two layers with weights drawn at random."""

import itertools
import json
from functools import cache

import numpy as np
import pytest
import torch

from benchmarks.real import ground as grounds
from benchmarks.real import pairs as sources
from benchmarks.real.arms import layers_of
from benchmarks.real.bm25 import bm25_ranks
from benchmarks.real.distil import Recipe, distil
from benchmarks.real.encoder import SentenceEncoder
from benchmarks.real.figures import bootstrapped, figures, table
from benchmarks.real.fisher import least_squares, mask_gradients, places, rearranged, tune_masks
from benchmarks.real.ground import Clock, Ground
from benchmarks.real.levels import Levels
from benchmarks.real.ours import Ours
from benchmarks.real.record import ARMS, BM25, TEACHER, record, shards
from benchmarks.real.retrieval import LENGTH, Retrieval, Texts, encoded, reciprocal
from evaluators.data.base import SPLITS
from spaces.channels import space as channel_space
from spaces.errors import InputError

PAIRS = 12


@cache
def ground():
    """A teacher, its vectors of texts of random tokens, and the space of its channels."""
    from transformers import BertConfig, BertModel

    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
    config = BertConfig(vocab_size=50, max_position_embeddings=LENGTH, initializer_range=0.3, **sizes)
    config.hidden_dropout_prob = config.attention_probs_dropout_prob = 0.0
    teacher = SentenceEncoder(BertModel(config, add_pooling_layer=False)).eval()
    texts = {}
    for split in SPLITS:
        ids = torch.randint(1, 50, (2 * PAIRS, LENGTH), dtype=torch.int32)
        ids[:PAIRS, 6:] = 0
        vectors = encoded(teacher, Texts(ids, torch.empty(0)))
        texts[split] = Texts(ids, vectors)
    words = {
        s: [sources.Pair("p", f"{s} first {n} a", f"the rest {n}") for n in range(PAIRS)] for s in SPLITS
    }
    made = Ground(teacher, Retrieval(texts), words)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(channel_space, "VERIFY", False)
        assert len(made.space.segments) == 4
    return made


def test_pairs_are_those_of_a_docstring_and_stand_in_one_split(tmp_path, monkeypatch):
    rest = "It has more than twelve words so that there is something to be found by them."
    for name, first in (("real_a", "Return the sum of two."), ("real_b", "Return a word of all.")):
        (tmp_path / name).mkdir()
        lines = [
            f'def f():\n    """{first}\n\n    {rest}{name}\n    """',
            f'def g():\n    """Both.\n\n    {rest}"""',
        ]
        lines += [
            f'def h():\n    """What stands in both of them.\n\n    {rest} again"""',
            'def i():\n    """No."""',
        ]
        (tmp_path / name / "__init__.py").write_text("\n".join(lines))
    monkeypatch.syspath_prepend(tmp_path)
    packages = {"test": ["real_a"], "train": ["real_b"], "search": [], "calibration": []}
    found = sources.collected(tmp_path / "pairs.json", packages, dict.fromkeys(SPLITS, 9) | {"search": 0})
    assert {pair.first for pair in found["test"]} == {
        "Return the sum of two.",
        "What stands in both of them.",
    }
    assert [pair.first for pair in found["train"]] == ["Return a word of all."]
    assert sources.collected(tmp_path / "pairs.json", {}, {}) == found
    with pytest.raises(InputError, match="not_there is not installed"):
        sources.collect({split: ["not_there"] for split in SPLITS}, dict.fromkeys(SPLITS, 1))


def test_splits_have_packages_of_their_own():
    for packages in (sources.PACKAGES, sources.QUICK_PACKAGES):
        names = [name for split in packages.values() for name in split]
        assert len(names) == len({*names})


def test_the_teacher_is_level_with_itself_and_ranks_are_those_of_a_loop():
    data, teacher = ground().data, ground().teacher
    texts = data.texts["search"]
    outputs = torch.cat([teacher(**inputs) for inputs, _ in data.batches("search", 5)]).detach()
    targets = [targets for _, targets in data.batches("search", 5)]
    whole = {name: torch.cat([one[name] for one in targets]) for name in targets[0]}
    firsts, rests = texts.vectors.split(PAIRS)
    places = [1 + sum(float(q @ o) > float(q @ r) for o in rests) for q, r in zip(firsts, rests, strict=True)]
    order = torch.randperm(len(outputs))
    mixed = {name: part[order] for name, part in whole.items()}
    expected = sum(1 / place for place in places if place <= 10) / PAIRS
    assert data.split_metrics["mrr"](outputs[order], mixed) == pytest.approx(expected)
    assert data.split_metrics["agreement"](outputs, whole) == 1.0
    assert data.metrics(outputs, whole)["distance"].abs().max() < 1e-5


def test_a_batch_has_texts_of_one_kind_and_all_come_once():
    data = ground().data
    batches = [*data.batches("train", 5, torch.Generator().manual_seed(1))]
    assert all(len({*targets["is_first"].tolist()}) == 1 for _, targets in batches)
    assert {inputs["input_ids"].shape[1] for inputs, _ in batches} == {6, LENGTH}
    seen = [(bool(a), int(b)) for _, t in batches for a, b in zip(t["is_first"], t["place"], strict=True)]
    assert len(seen) == len({*seen}) == data.size("train")


def test_words_find_what_has_them():
    rests = ["apples and pears and plums", "a b c d", "pears"]
    assert bm25_ranks(["apples pears", "c d", "plums"], rests).tolist() == [1, 1, 3]


@pytest.mark.parametrize("name", [name for name in ARMS if name != "whole model"])
def test_every_arm_keeps_at_most_half_and_runs(name, tmp_path, monkeypatch):
    if name == "Torch-Pruning Taylor":
        pytest.importorskip("torch_pruning")
    arm = Levels(4, ((1, 4),), 1, 4) if name == Levels.name else ARMS[name]
    arm = Ours(2, 1, cases=8) if name == Ours.name else arm
    model = arm.prune(ground(), Clock(tmp_path / "clock.json", 0.01), 0, tmp_path)
    assert 0.3 * ground().whole < ground().macs_of(model) <= ground().limit
    assert encoded(model, ground().data.texts["test"]).shape == (2 * PAIRS, 32)


def test_rearranging_ends_where_no_swap_helps():
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(20, 6)) + rng.normal(size=(20, 1))
    fisher, kept = rows.T @ rows, np.array([1, 1, 1, 0, 0, 0], dtype=bool)

    def lost(mask):
        return (1 - mask) @ fisher @ (1 - mask)

    found = rearranged(kept, fisher).astype(float)
    assert found.sum() == 3 and lost(found) < lost(kept.astype(float))
    for back in np.flatnonzero(found == 0):
        for away in np.flatnonzero(found == 1):
            other = found.copy()
            other[back], other[away] = 1, 0
            assert lost(other) >= lost(found) - 1e-9


def test_masks_have_the_gradients_of_what_they_multiply():
    here = ground()
    where = places(here)
    rows = mask_gradients(here, where)
    assert {name: part.shape[1] for name, part in rows.items()} == {
        s.name: s.size for s in here.space.segments
    }
    name = next(name for name in where if "intermediate" in name)
    inputs, targets = next(here.data.batches("calibration", 8))
    weight, losses = here.teacher.get_submodule(where[name]).weight, []
    for factor in (0.999, 1.001):
        before = weight.detach().clone()
        with torch.no_grad():
            weight[:, 3] *= factor
            losses.append(float(here.data.loss(here.teacher(**inputs), targets).mean()))
            weight.copy_(before)
    assert rows[name][0, 3] == pytest.approx((losses[1] - losses[0]) / 0.002, rel=0.05)


def test_tuned_masks_bring_the_outputs_nearer():
    here = ground()
    mask = here.space.repair((np.arange(here.space.length) % 2)[None].astype(np.uint8))[0]
    before, after = here.space.build(mask), here.space.build(mask)
    tune_masks(after, here, mask)
    assert here.loss(after, split="calibration") < here.loss(before, split="calibration")
    gram = np.array([[2.0, 0.0], [0.0, 4.0]])
    np.testing.assert_allclose(least_squares(gram, gram @ [3.0, 0.5]), [3.0, 0.5], rtol=0.01)


def test_distillation_goes_on_from_where_it_was(tmp_path, monkeypatch):
    monkeypatch.setattr(grounds.time, "process_time", itertools.count(0.0, 0.25).__next__)
    here, file, recipe = ground(), tmp_path / "state.pt", Recipe(batch=8, rate=1e-3, every=0.0)
    model = here.space.build(here.space.sample(1, np.random.default_rng(0))[0])
    before = here.loss(model, split="train")
    seen = distil(model, here.data, Clock(tmp_path / "clock.json", 20.0), 0, file, recipe)
    assert here.loss(model, split="train") < before and seen >= 48
    again = here.space.build(here.space.sample(1, np.random.default_rng(0))[0])
    clock = Clock(tmp_path / "clock.json", 20.0)
    assert clock.spent > 15 and clock.marks["pruned"] < 2
    assert distil(again, here.data, clock, 0, file, recipe) >= seen
    assert here.loss(again, split="train") < before


def test_what_was_recorded_is_not_run_again(tmp_path, monkeypatch):
    monkeypatch.setattr(Ground, "speedup", lambda *_: {"speedup": 2.0})
    done = [
        record(tmp_path, tmp_path / "work", name, 0, ground(), 1e-4, 1) for name in (TEACHER, BM25, "uniform")
    ]
    assert done[0]["agreement"] == 1.0 and done[2]["share"] <= 0.5
    assert not [*(tmp_path / "work").iterdir()]
    monkeypatch.setattr("benchmarks.real.record._run", lambda *_: pytest.fail("it is run again"))
    assert record(tmp_path, tmp_path / "work", "uniform", 0, ground(), 1e-4, 1) == done[2]
    with pytest.raises(InputError, match="minutes"):
        record(tmp_path, tmp_path / "work", "uniform", 0, ground(), 2.0, 1)
    assert shards(tmp_path).keys() == {TEACHER, BM25, "uniform"}


def shard(arm, places, seed=0, **more):
    return {"arm": arm, "seed": seed, "mrr": float(reciprocal(places).mean()), "ranks": places} | more


def test_ours_is_compared_query_by_query():
    found = {
        TEACHER: {0: shard(TEACHER, [1, 1, 2, 11])},
        BM25: {0: shard(BM25, [3, 1, 4, 11])},
        "ours": {seed: shard("ours", [1, 1, 2, 3], seed, speedup=2.0) for seed in (0, 1)},
        "uniform": {0: shard("uniform", [1, 2, 2, 11], speedup=1.5)},
    }
    told = figures(
        json.loads(json.dumps(found), object_hook=lambda d: {int(k) if k.isdigit() else k: d[k] for k in d})
    )
    assert told["minilm_kept"] == pytest.approx((2.5 + 1 / 3) / 2.5) and told["minilm_speedup"] == 2.0
    assert told["over"]["uniform"]["difference"] == pytest.approx((0.5 + 1 / 3) / 4)
    assert 0 <= told["minilm_over_others_lower"] < told["minilm_over_others"]
    assert "| uniform | 1 |" in table(told)
    same = np.linspace(0, 1, 50)
    assert bootstrapped(same, same) == {"difference": 0.0, "lower": 0.0, "upper": 0.0}


def test_the_stand_in_is_made_like_the_model():
    assert [*layers_of(ground().teacher)] and not any(
        "pooler" in n for n, _ in ground().teacher.named_modules()
    )
