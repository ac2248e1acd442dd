"""The benchmark of a GPU, in its smallest form on the CPU."""

import json
import sys

import numpy as np
import pytest
import torch

from benchmarks import gpu, scoring
from evaluators import Digits
from spaces import ChannelSpace
from spaces.models import ResidualNet
from tests.evaluators.cost.known import Block, Known, data


@pytest.fixture(scope="module")
def scored():
    torch.manual_seed(0)
    images, targets = next(iter(Digits().batches("search", 64)))
    space = ChannelSpace(ResidualNet((4, 8)).eval(), (images[:2],))
    return scoring.Scoring(space, images, targets)


def test_all_ways_find_the_same_errors(scored):
    genomes = scoring.population(scored.space, 2, 3)
    expected = scored.one_by_one(genomes)
    assert len({*expected}) > 1 and len({genome.tobytes() for genome in genomes}) == 6
    assert scored.streams(genomes, 2) == pytest.approx(expected)
    assert scored.grouped(genomes) == pytest.approx(expected, abs=0.02)
    assert scored.half(genomes) == pytest.approx(expected, abs=0.2)
    gpu._load(scored, "cpu")
    assert gpu._scored(genomes) == expected


def test_the_engine_scores_on_a_device():
    data = Digits()
    space = ChannelSpace(ResidualNet((4, 8)).eval(), data.example())
    assert all(0 < error < 1 for error in gpu._engine(space, data, "cpu")(space.base[None]))
    with pytest.raises(RuntimeError):
        gpu._engine(space, data, "no device")(space.base[None])


def test_a_way_that_fails_is_told_and_the_others_are_compared():
    def broken(genomes):
        raise MemoryError("none left")

    ways = {"broken": broken, "one": lambda genomes: [0.1] * len(genomes), "other": lambda _: [0.1, 0.4]}
    figures = scoring.rates(ways, np.zeros((2, 3)), 0.0)
    assert figures["broken"] == {"failed": "MemoryError: none left"}
    assert figures["one"]["over_first"] == 1 and figures["other"]["differs_by"] == pytest.approx(0.3)
    assert figures["other"]["per_second"]["n"] == 1
    assert set(scoring.rates({"broken": broken}, np.zeros((2, 3)), 9.0)) == {"broken"}


def test_predictions_are_compared_with_what_is_measured():
    space = ChannelSpace(Block().eval(), data().example(), depth=("body",))
    figures = gpu.tried(space, tuple(x[:1] for x in data().example()), Known(1), 16, 6)
    assert figures["median_error"] < 0.02 and figures["floor_p90"] == 0
    assert figures["slowest_over_fastest"] > 1


@pytest.mark.parametrize(
    ("end", "failed"),
    [
        ("", None),
        ("; sys.exit('first\\nlast')", "last (exit status 1)"),
        ("; import time; time.sleep(60)", "not done after 1 s"),
    ],
)
def test_what_a_part_has_found_stays_however_it_ends(tmp_path, monkeypatch, end, failed):
    monkeypatch.setattr(gpu, "_GRACE", 5.0)
    file = tmp_path / "part.json"
    code = f"import sys; open(sys.argv[1], 'w').write('{{\"one\": 1}}'){end}"
    found = gpu.told([sys.executable, "-c", code, str(file)], file, 1.0 if "sleep" in end else 30.0)
    assert found.pop("seconds") < 30
    assert found == {"one": 1} | ({} if failed is None else {"failed": failed})


def test_a_part_that_finds_nothing_in_its_time_is_told(tmp_path):
    found = gpu.told([sys.executable, "-c", "1"], tmp_path / "none.json", -1.0)
    assert found["failed"] == "not done after 0 s"


def test_figures_are_written_as_they_are_found(tmp_path):
    file = tmp_path / "figures.json"

    def figures():
        yield "first", 1 / 3
        assert json.loads(file.read_text()) == {"first": 0.333333}
        yield "second", {"n": np.int64(2)}

    gpu.record(figures(), file)
    assert json.loads(file.read_text()) == {"first": 0.333333, "second": {"n": 2}}


def test_parts_share_eight_minutes_and_one_that_fails_leaves_the_others(tmp_path, monkeypatch, capsys):
    given = {}

    def told(command, file, seconds):
        name = command[command.index("--part") + 1]
        given[name] = seconds, command[command.index("--device") + 1]
        return {"failed": "why"} if name == "ray" else {"figure": 1}

    monkeypatch.setattr(gpu, "told", told)
    file = tmp_path / "gpu.json"
    monkeypatch.setattr(sys, "argv", ["gpu", "--device", "cpu", "--quick", "--json", str(file)])
    assert gpu.main() == 1
    result = json.loads(file.read_text())
    assert json.loads(capsys.readouterr().out) == result
    assert set(result["figures"]) == set(gpu.PARTS) and result["figures"]["quickstart"] == {"figure": 1}
    assert {device for _, device in given.values()} == {"cpu"}
    longest = [seconds for seconds, _ in given.values()]
    assert longest == sorted(longest) and longest[-1] + len(given) * gpu._GRACE < 480


def test_without_a_gpu_it_says_what_tries_the_script(monkeypatch, capsys):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(sys, "argv", ["gpu"])
    with pytest.raises(SystemExit) as ended:
        gpu.main()
    assert ended.value.code == 2 and "--device cpu --quick" in capsys.readouterr().err
