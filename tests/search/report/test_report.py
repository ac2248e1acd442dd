"""The report: one page that needs nothing but itself, and says what the ledger says."""

import csv
import io
import re
from collections.abc import Callable
from dataclasses import replace
from html import unescape
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from evaluators.base import Candidate, Evaluation, State
from search.front import Front
from search.numbers import bound, number, setting, share
from search.problem import Objective, Problem
from search.record.about import About
from search.record.finals import BASE, CHOSEN, Final, Limit
from search.record.ledger import Ledger
from search.report import write_report
from search.report.advice import advise
from search.report.facts import gather
from search.report.front_figure import front_figure
from search.report.models import Models
from search.report.models_figures import over_figure
from search.report.table import show, text
from search.testing import BitSpace, Toy, pruning
from spaces.errors import InputError

PROBLEM = pruning(40, ["macs <= 60%"])


def run(
    directory: Path,
    problem: Problem = PROBLEM,
    n: int = 120,
    spaced: Callable[[Ledger], None] = lambda ledger: None,
) -> list[Evaluation]:
    """Write a run whose every tenth candidate failed."""
    ledger = Ledger(directory / "ledger.db", problem.space)
    About.of("a <toy> run", problem).save(ledger)
    genomes = problem.space.sample(n, np.random.default_rng(0))
    metrics = problem.evaluator.function(genomes)  # type: ignore[attr-defined]
    evaluations = []
    for id, genome in enumerate(genomes):
        candidate = Candidate(
            id, genome, (id - 2, id - 1) if id > 1 else (), "Uniform+BitFlip" if id % 2 else "SegmentWise"
        )
        values = {name: float(column[id]) for name, column in metrics.items()}
        evaluations.append(
            Evaluation(candidate, State.FAILED, {}, reason="ValueError: <nan>")
            if id % 10 == 3
            else Evaluation(candidate, State.COMPLETE, values)
        )
    ledger.add_candidates(e.candidate for e in evaluations)
    for evaluation in evaluations:
        ledger.add_evaluation(evaluation)
    spaced(ledger)
    ledger.commit()
    ledger.close()
    return evaluations


def front_of(evaluations: list[Evaluation], problem: Problem = PROBLEM) -> Front:
    front = Front(problem)
    for evaluation in evaluations:
        front.add(evaluation)
    return front


def finals(ledger: Ledger) -> None:
    """Finish two members, of which one fails."""
    front = front_of([e for _, e in ledger.evaluations()]).members
    good, bad = front[0], front[-1]
    cost = {"params": 1234.0, "macs": 0.5, "bytes": 4096.0}
    Final(
        BASE,
        PROBLEM.base,
        {"test_error_before": 0.125, "test_error": 0.0625},
        cost,
        cost | {"latency_ms": 1.0},
    ).save(ledger)
    realised = {"params": 777.0, "macs": 0.125, "bytes": 2048.0, "latency_ms": 0.375, "onnx_latency_ms": 0.25}
    Final(
        good.candidate.id,
        good.metrics,
        {"test_error_before": 0.4375, "test_error": 0.0547},
        cost,
        realised,
        [Limit("macs <= 60%", 0.6, 0.125, True)],
        {"before": 1e-7, "after": 2e-7},
        {"missing": "onnx not installed"},
        f"models/{good.candidate.id}",
    ).save(ledger)
    Final(bad.candidate.id, bad.metrics, reason="MemoryError: <no room>").save(ledger)
    ledger.save_note(CHOSEN, [BASE, good.candidate.id, bad.candidate.id])
    ledger.save_note("ended", {"reason": "evaluations"})


def words_of(html: str) -> str:
    """The page's text, without scripts, styles and tags."""
    return " ".join(
        unescape(re.sub(r"<[^>]+>", " ", re.sub(r"(?s)<(script|style).*?</\1>", " ", html))).split()
    )


def test_the_page_stands_alone(tmp_path: Path) -> None:
    run(tmp_path, spaced=finals)
    html = write_report(tmp_path).read_text()
    outside_plotly = "".join(part for part in re.split(r"(?s)<script>/\*\*.*?</script>", html))
    assert len(html) - len(outside_plotly) > 1_000_000, "plotly is not in the page"
    assert html.count('class="plotly-graph-div"') == 7
    assert not re.search(r"(src|href)=[\"'](https?:)?//", outside_plotly), "the page loads something"
    assert "<toy>" not in html and "&lt;toy&gt;" in html, "names are not escaped"
    assert "<nan>" not in outside_plotly.replace("\\u003cnan\\u003e", "") and "&lt;nan&gt;" in html


def test_the_page_says_what_the_ledger_says(tmp_path: Path) -> None:
    evaluations = run(tmp_path, spaced=finals)
    words = words_of(write_report(tmp_path).read_text())
    members = front_of(evaluations).members
    assert "120 candidates were evaluated, until the budget of evaluations was spent" in words
    assert f"{len(members)} of them form the front" in words
    assert "12 of 120 candidates failed" in words and "ValueError: <nan>" in words
    assert "0.4375 0.0547" in words, "before and tuned"
    assert "777 requested 1.23 k" in words, "requested is shown where it differs from what was realised"
    assert "25 %" in words and "0.375 0.250" in words
    assert "MemoryError: <no room>" in words and "no ONNX file: onnx not installed" in words
    assert "MACs ≤ 60 % (0.6000): met by all" in words
    taken = f"Take candidate {members[0].candidate.id}"
    assert f"{taken}: test error 0.0547 (base model 0.0625) at 25 % of its MACs." in words, "the headline"
    assert words.index(taken) < words.index("Finished models") < words.index("How the search went")


def test_the_page_is_for_whoever_deploys(tmp_path: Path) -> None:
    evaluations = run(tmp_path, spaced=finals)
    page = write_report(tmp_path).read_text()
    folder = f"models/{front_of(evaluations).members[0].candidate.id}"
    links = re.findall(r'<a href="([^"]+)"', page)
    assert {f"{folder}/weights.safetensors", "front.csv"} <= set(links)
    code = unescape(re.findall(r'(?s)<code id="code"[^>]*>(.*?)</code>', page)[0])
    assert code.startswith("from secateur import load\n") and f"{folder}')" in code
    compile(code, "code", "exec")
    sliders = re.findall(r'<input type="range"[^>]*data-limit="(\w+)"', page)
    row = re.findall(r"<tr data-model=[^>]*>", page)[0]
    assert sliders == [] or all(f"data-{name}=" in row for name in sliders)
    folded = page[page.index("<summary>How the search went") :]
    assert 'id="operators"' in folded and 'id="lineage"' in folded and 'id="over_latency_ms"' not in folded


def test_limits_can_be_moved_over_what_was_exported(tmp_path: Path) -> None:
    run(tmp_path)
    facts = gather(Ledger.reader(tmp_path / "ledger.db"))
    base = Final(BASE, {}, {"test_error_before": 0.06, "test_error": 0.065}, realised={"macs": 1.0})
    models = Models(
        replace(facts, finals=[base, final_of(1, 0.05, 0.5), final_of(2, 0.06, 0.3, False)]), tmp_path
    )
    assert 'data-limit="macs" data-at="0.5"' in models.limits() and 'max="2"' in models.limits()
    rows = re.findall(r"<tr data-model=[^>]*>", models.table())
    assert [re.findall(r'data-(?:macs|loss)="([\d.]+)"', row) for row in rows] == [
        ["0.5", "0.05"],
        ["0.3", "0.06"],
    ]
    assert "MACs ≤ 60 %: not met" not in models.table() and "not met by candidate 2" in models.table()


def test_facts_agree_with_the_definitions(tmp_path: Path) -> None:
    evaluations = run(tmp_path)
    ledger = Ledger.reader(tmp_path / "ledger.db")
    facts = gather(ledger)
    front = front_of(evaluations)
    assert [m.candidate.id for m in facts.front] == [m.candidate.id for m in front.members]
    complete = [e for e in evaluations if e.state is State.COMPLETE]
    assert (facts.feasible == (PROBLEM.violations(complete) == 0)).all() and 0 < facts.feasible.sum() < len(
        complete
    )
    replayed = Front(PROBLEM)
    joined = [replayed.add(e) for e in evaluations]
    records = {record.name: record for record in facts.operators}
    assert (
        set(records) == {"Uniform", "BitFlip", "SegmentWise"}
        and records["Uniform"].asked == records["BitFlip"].asked == 60
    )
    assert records["SegmentWise"].joined == sum(joined[0::2]) and records["Uniform"].joined == sum(
        joined[1::2]
    )
    assert records["BitFlip"].stayed + records["SegmentWise"].stayed == len(front)
    volumes = [volume for _, volume in facts.history]
    assert volumes == sorted(volumes) and 0 < volumes[-1] <= 1 and facts.history[-1][0] == 120
    assert [seen for seen, _ in facts.history[:-1]] == [
        place + 1 for place, joins in enumerate(joined) if joins
    ]


@pytest.mark.parametrize(("cheapest", "scale"), [(0.02, "log"), (0.05, None), (0.0, None)])
def test_costs_that_differ_widely_are_on_a_logarithmic_axis(
    tmp_path: Path, cheapest: float, scale: str | None
) -> None:
    run(tmp_path)
    facts = gather(Ledger.reader(tmp_path / "ledger.db"))
    member = replace(facts.front[0], metrics=facts.front[0].metrics | {"macs": cheapest})
    assert front_figure(replace(facts, front=[member, *facts.front[1:]])).layout.xaxis.type == scale


def test_the_front_as_numbers(tmp_path: Path) -> None:
    evaluations = run(tmp_path, spaced=finals)
    write_report(tmp_path)
    with (tmp_path / "front.csv").open() as file:
        rows = list(csv.DictReader(file))
    members = front_of(evaluations).members
    assert [int(row["candidate"]) for row in rows] == [m.candidate.id for m in members]
    for row, member in zip(rows, members, strict=True):
        assert float(row["error"]) == member.metrics["error"]
        for name, part in PROBLEM.space.slices.items():
            assert float(row[f"kept:{name}"]) == pytest.approx(member.candidate.genome[part].mean(), rel=1e-3)
    assert (
        float(rows[0]["test_error"]) == 0.0547
        and float(rows[0]["realised_macs"]) == 0.125
        and rows[1]["test_error"] == ""
    )


@pytest.mark.parametrize("aims", [["error"], ["max ones"], ["error", "macs", "max ones"]])
def test_any_number_of_objectives(tmp_path: Path, aims: list[str]) -> None:
    toy = PROBLEM.evaluator.function  # type: ignore[attr-defined]
    evaluator = Toy(lambda genomes: toy(genomes) | {"ones": genomes.mean(axis=1)}, ("error", "macs", "ones"))
    run(tmp_path, Problem(BitSpace(40, 4), evaluator, tuple(map(Objective.parse, aims))))
    assert "120 candidates" in words_of(write_report(tmp_path).read_text())


def test_nothing_but_failures_and_nothing_at_all(tmp_path: Path) -> None:
    def fail(ledger: Ledger) -> None:
        ledger._store._write(
            "UPDATE evaluations SET state = ?, metrics = '{}', reason = 'OSError: gone'", ("failed",)
        )

    run(tmp_path, spaced=fail)
    assert "OSError: gone" in words_of(write_report(tmp_path).read_text())
    (tmp_path / "empty").mkdir()
    run(tmp_path / "empty", n=0)
    assert "0 candidates were evaluated" in words_of(write_report(tmp_path / "empty").read_text())


def test_a_run_that_has_not_begun_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no ledger"):
        write_report(tmp_path)
    Ledger(tmp_path / "ledger.db", PROBLEM.space).close()
    with pytest.raises(InputError, match="has not begun"):
        write_report(tmp_path)


def test_a_large_run_stays_a_small_page(tmp_path: Path) -> None:
    run(tmp_path, pruning(200), n=6000)
    assert write_report(tmp_path).stat().st_size < 7_000_000


def test_the_table_is_plain_where_there_is_no_terminal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(tmp_path, spaced=finals)
    ledger = Ledger.reader(tmp_path / "ledger.db")
    facts = gather(ledger)
    show(facts.finals, facts.about)
    printed = capsys.readouterr().out
    assert printed == text(facts.finals, facts.about) and "\x1b" not in printed
    base, tuned, good, bad = (
        line.split()
        for line in printed.splitlines()
        if line.startswith((" base", " candidate")) and ":" not in line
    )
    assert base[2] == "0.1250" and tuned[:4] == ["base", "model,", "tuned", "0.0625"]
    assert good[2:] == ["0.0547", "2.00", "KiB", "0.1250", "(25", "%)", "0.375", f"models/{good[1]}"]
    assert (
        bad[0] == "candidate"
        and "MemoryError: <no room>" in printed
        and "no ONNX: onnx not installed" in printed
    )
    assert f"candidate {good[1]}: params 1.23 k requested, 777 realised" in printed
    first = printed.strip().splitlines()[0]
    assert first == f"Take candidate {good[1]}: test error 0.0547 (base model 0.0625) at 25 % of its MACs."


@pytest.mark.parametrize("width", [80, 100, 160])
def test_the_table_is_whole_on_a_terminal(tmp_path: Path, width: int) -> None:
    run(tmp_path, spaced=finals)
    facts = gather(Ledger.reader(tmp_path / "ledger.db"))
    page = Console(file=io.StringIO(), width=width, force_terminal=True, color_system=None)
    show(facts.finals, facts.about, page)
    assert isinstance(page.file, io.StringIO)
    printed = page.file.getvalue()
    assert "…" not in printed and "0.0547" in printed and "2.00 KiB" in printed and "(25 %)" in printed
    assert all(len(line) <= 80 for line in printed.splitlines() if "models/" in line or "base" in line)


def final_of(id: int, error: float, macs: float, met: bool = True) -> Final:
    test = {"test_error": error, "test_error_before": error + 0.1}
    limits = [Limit("macs <= 60%", 0.6, macs, met)]
    return Final(id, {}, test, realised={"macs": macs}, limits=limits, folder=f"models/{id}")


@pytest.mark.parametrize(
    ("members", "taken", "words"),
    [
        ([final_of(1, 0.05, 0.5), final_of(2, 0.06, 0.3), final_of(3, 0.07, 0.1)], 2, "Take candidate 2"),
        ([final_of(1, 0.08, 0.5), final_of(3, 0.07, 0.6)], 3, "None is as good as the base model; take"),
        ([final_of(1, 0.05, 0.9, False), final_of(2, 0.2, 0.5)], 2, "None is as good as the base model"),
        ([final_of(1, 0.05, 0.9, False)], 1, "No finished model meets every limit; the nearest is"),
    ],
)
def test_the_advice_holds_on_the_test_split(members: list[Final], taken: int, words: str) -> None:
    base = Final(BASE, {}, {"test_error_before": 0.06, "test_error": 0.065}, realised={"macs": 1.0})
    advice = advise([base, *members], About.of("toy", PROBLEM))
    assert advice is not None and advice.final.id == taken and advice.words.startswith(words)
    assert "base model 0.0600" in advice.words, "the base model counts with the better of its two figures"


@pytest.mark.parametrize(
    ("before", "after", "positions"),
    [(0.06, 0.065, ("bottom center", "top center")), (0.07, 0.045, ("top center", "bottom center"))],
)
def test_names_of_finished_models_have_room(before: float, after: float, positions: tuple[str, str]) -> None:
    base = Final(BASE, {}, {"test_error_before": before, "test_error": after}, realised={"macs": 0.6})
    about = replace(About.of("toy", PROBLEM), constraints=[])
    plot = over_figure([base, final_of(1, 0.05, 0.5)], about, "error", "macs", None)
    assert plot.data[1].textposition == positions, "the two names of the base model are apart"
    assert plot.layout.xaxis.range == pytest.approx((0.47, 0.63)), "costs that are close together"
    far = over_figure([base, final_of(1, 0.05, 0.1)], about, "error", "macs", None)
    assert far.layout.xaxis.range == pytest.approx((0, 0.75))


def test_the_advice_is_about_a_metric_that_people_know() -> None:
    about = replace(About.of("toy", PROBLEM), objectives=[{"metric": "expected_error", "maximise": False}])
    finals = [
        Final(3, {}, {"test_expected_error": 0.1, "test_error": 0.3}),
        Final(4, {}, {"test_expected_error": 0.2, "test_error": 0.2}),
    ]
    advice = advise(finals, about)
    assert advice is not None and advice.words == "Take candidate 4: test error 0.2000."
    assert advise([Final(3, {})], about) is None, "nothing was tested"


def test_nothing_within_the_limits_is_said(tmp_path: Path) -> None:
    problem = pruning(40, ["macs <= 1%", "error <= 0.9"])
    evaluations = run(tmp_path, problem)
    complete = [e for e in evaluations if e.state is State.COMPLETE]
    nearest = min(complete, key=lambda e: float(problem.violations([e])[0]))
    words = words_of(write_report(tmp_path).read_text())
    facts = gather(Ledger.reader(tmp_path / "ledger.db"))
    assert f"the nearest of {len(complete)} is candidate {nearest.candidate.id} with MACs" in facts.complaint
    assert "where MACs ≤ 1 % (0.0100) is asked for" in facts.complaint and facts.complaint[1:] in words
    assert "error ≤" not in facts.complaint, "a limit that it meets is not named"


@pytest.mark.parametrize(
    ("value", "name", "words"),
    [
        (1_234_567.0, "macs", "1.23 M"),
        (999.0, "params", "999"),
        (12_340.0, "params", "12.3 k"),
        (2048.0, "bytes", "2.00 KiB"),
        (500.0, "bytes", "500 B"),
        (0.012345, "error", "0.0123"),
        (0.0, "error", "0"),
        (1.23456, "latency_ms", "1.235 ms"),
        (float("nan"), "error", "–"),
        (54_528.0, "", "54,528"),
        (1234.5, "", "1,234"),
        (0.123456, "", "0.1235"),
        (1e-6, "", "1e-06"),
        (float("inf"), "", "inf"),
    ],
)
def test_numbers_are_written_for_people(value: float, name: str, words: str) -> None:
    assert number(value, name) == words


@pytest.mark.parametrize(
    ("value", "words"),
    [(0.0012345, "0.00123"), (64.0, "64"), (12_345.6, "12,346"), (3, "3"), ("adamw", "adamw")],
)
def test_parameters_are_written_for_people(value: object, words: str) -> None:
    assert setting(value) == words


def test_shares_and_bounds_are_written_for_people() -> None:
    assert share(1.0, 4.0) == "25 %" and share(1.0, None) == ""
    assert bound({"metric": "macs", "relation": "<=", "bound": 50.0, "relative": True}) == "MACs ≤ 50 %"
    assert (
        bound({"metric": "accuracy", "relation": ">=", "bound": 0.95, "relative": False}) == "accuracy ≥ 0.95"
    )
