"""The presets are the published networks, and a finished run stands beside the published figures."""

import json
from pathlib import Path

import numpy as np
import pytest
import yaml

from benchmarks.cifar import PUBLISHED, beside, main, table
from evaluators import count
from run_search import main as door
from search.config.settings import Settings
from search.record.finals import BASE, Final
from spaces import InputError

CONFIGS = Path(__file__).parents[2] / "configs"
DOCS = Path(__file__).parents[2] / "docs"


def final(id, macs, accuracy, loss=1.0, **more):
    tested = {"test_accuracy_before": 0.1, "test_accuracy": accuracy}
    return Final(id, {"loss": loss}, tested, realised={"macs": macs}, **more)


@pytest.mark.parametrize(
    ("name", "network", "params", "macs"),
    [("20", "ResNet-20", 0.27e6, 40.8e6), ("56", "ResNet-56", 0.85e6, 126e6)],
)
def test_a_preset_is_the_published_network_and_its_limit_a_published_one(
    name, network, params, macs, cifar_folder
):
    settings = Settings.parse(
        [str(CONFIGS / f"cifar10_resnet{name}.yaml"), "--data.data.folder", str(cifar_folder)]
    )
    found = count(settings.make("model"), settings.make("data").example())
    assert found["params"] == pytest.approx(params, rel=0.01) and found["macs"] == pytest.approx(
        macs, rel=0.01
    )
    rows = [row.published for row in beside([final(BASE, found["macs"], 0.9)])]
    assert {row.network for row in rows} == {network}
    (limit,) = settings.constraints
    assert float(limit.removeprefix("macs <= ").removesuffix("%")) == pytest.approx(
        100 * max(row.share for row in rows), abs=0.05
    )


def test_every_published_result_gets_the_best_member_that_is_as_small_by_the_search_split():
    finals = [
        final(BASE, 126e6, 0.934),
        final(3, 0.48 * 126e6, 0.99, 0.1),  # too large for all
        final(4, 0.47 * 126e6, 0.931, 0.3),  # within 2.11 times, not within 2.13 times
        final(5, 0.46 * 126e6, 0.925, 0.5),
        final(6, 0.38 * 126e6, 0.928, 0.4),  # better than the larger one before it
        final(7, 0.20 * 126e6, 0.999, 0.9),  # best on the test split, which chooses nothing
        final(8, 0.10 * 126e6, 0.0, 0.0, reason="lost"),
    ]
    rows = beside(finals)
    assert [(row.published.pruned, row.candidate) for row in rows] == [(93.46, 4), (93.77, 6), (93.64, 6)]
    assert [row.base for row in rows] == pytest.approx([93.4] * 3)
    assert (rows[0].pruned, rows[0].share) == pytest.approx((93.1, 0.47))
    lines = table(rows).splitlines()
    assert len({line.count("|") for line in lines}) == 1
    assert "| 93.53 | 93.46 | 47.4 % | 93.40 | 93.10 | 47.0 % | 4 |" in lines[2]


def test_a_run_without_a_member_as_small_says_so():
    (row,) = beside([final(BASE, 40.8e6, 0.91), final(1, 0.73 * 40.8e6, 0.9)])
    assert row.candidate is None and row.pruned is None and "| 91.00 | no member as small |" in table([row])


def test_what_is_of_no_published_network_or_was_not_tuned_is_refused():
    with pytest.raises(
        InputError, match=r"5\.0 M MACs; expected that of ResNet-20 \(40\.6 M\), ResNet-56 \(125\.5 M\)"
    ):
        beside([final(BASE, 5e6, 0.9)])
    for finals in ([], [final(1, 40e6, 0.9)], [final(BASE, 40.8e6, 0.9, reason="lost")]):
        with pytest.raises(InputError, match="no fine-tuned base model"):
            beside(finals)


def test_a_folder_without_a_run_is_one_line(tmp_path, capsys):
    assert main([str(tmp_path)]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_the_guide_has_the_figures_that_the_table_has():
    lines = (DOCS / "cifar.md").read_text().splitlines()
    for p in PUBLISHED:
        row = f"| {p.network} | {p.method} | {p.base:g} | {p.pruned:g} | {100 * p.share:.1f} % |"
        assert any(line.startswith(row) for line in lines), row


@pytest.mark.slow
def test_a_finished_run_of_the_preset_stands_beside_the_published_figures(cifar_folder, tmp_path, capsys):
    """All of the preset but its sizes: the network itself, augmented files, the base model, lines,
    distillation, fine-tuning.
    """
    config = yaml.safe_load((CONFIGS / "cifar10_resnet20.yaml").read_text())
    config["evaluators"][1]["init_args"] |= {"steps": 2, "batch_size": 16}
    config["strategy"]["init_args"] |= {"lines": 1, "rounds": 2}
    path = tmp_path / "small.yaml"
    path.write_text(yaml.safe_dump(config))
    words = [
        "--data.data.folder",
        str(cifar_folder),
        "--runs",
        str(tmp_path),
        "--executor",
        "inline",
        "--study.view",
        "false",
    ]
    words += ["--training.epochs", "1", "--search.budget.evaluations", "3"]
    words += ["--finish.latency_seconds", "0"]
    words += [
        "--finish.members",
        "2",
        "--finish.epochs",
        "1",
        "--finish.onnx",
        "false",
        "--finish.latency_repeats",
        "1",
    ]
    assert door([str(path), *words]) == 0
    capsys.readouterr()
    run = tmp_path / "cifar10-resnet20"
    assert main([str(run), "--json", str(tmp_path / "rows.json")]) == 0
    out = capsys.readouterr().out
    (row,) = json.loads((tmp_path / "rows.json").read_text())
    assert "| ResNet-20 | FastNAS (NVIDIA modelopt) | 90.9 | 90.3 | 72.9 % |" in out
    assert row["share"] <= 59.2 / 81.2 and row["candidate"] in (1, 2)
    for accuracy in (row["base"], row["pruned"]):
        assert np.isclose(accuracy * 0.3, round(accuracy * 0.3)), "a share of thirty test images"
