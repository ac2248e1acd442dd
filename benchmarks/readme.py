"""The tables of figures in README.md and docs/benchmarks.md, made of the committed results: ``python -m
benchmarks.readme`` writes both anew.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "benchmarks" / "results"
BEGIN, END = "<!-- figures: python -m benchmarks.readme -->", "<!-- end of figures -->"

FIGURES = (
    (
        "evaluation",
        "compact_vs_masked",
        "a compact candidate is faster than one with masks, times",
        "at least 3.0",
    ),
    ("evaluation", "compact_vs_torch_pruning", "and than deep copy + Torch-Pruning, times", "at least 1.7"),
    (
        "evaluation",
        "compact_vs_native",
        "its time over the same shapes built natively, slicing included",
        "at most 1.20",
    ),
    ("evaluation", "max_difference", "largest difference from the masked model, 200 genomes", "at most 1e-5"),
    (
        "loop",
        "driver_ms_per_candidate",
        "driver's milliseconds a candidate, ledger and view on",
        "at most 1.5",
    ),
    ("loop", "scaling_2_workers", "throughput of two workers over one", "1.7"),
    ("loop", "simulated_busy_256", "share of time that 256 simulated workers are busy", ".90"),
    ("loop", "memory_growth_mib", "growth of the driver over 10,000 candidates, MiB", "at most 50"),
    (
        "study",
        "resident_mib",
        "resident memory of the view's process, 200,000 evaluations, MiB",
        "at most 300",
    ),
    ("study", "log_mb", "and its journal, MB", "at most 21"),
    ("resume", "lost_results", "results lost over 20 kills of the driver", "0"),
    ("resume", "identical_front", "same front, killed or not, on one worker or two", "true"),
    (
        "resume",
        "seconds_without_a_result",
        "seconds without a result after the link of one of three nodes is cut, Ray's own settings",
        "at most 120",
    ),
    (
        "resume",
        "seconds_until_ray_knew",
        "of these until Ray gave the node up",
        "reported",
    ),
    ("resume", "same_front_after_a_cut_link", "same front as without a cut", "true"),
    (
        "resume_cost",
        "resume_cpu_seconds",
        "CPU seconds to go on with a run of 200,000 cheap candidates, report included",
        "at most 10",
    ),
    ("resume_cost", "replay_cpu_seconds", "the same without its snapshot: everything told again", "reported"),
    ("coupling", "zoo_models", "models of the zoo, the eight of strangers included", "reported"),
    ("coupling", "zoo_prunable", "of them those of which nothing is frozen that is not documented", "all"),
    (
        "coupling",
        "prunable_share_median",
        "share of the parameters in tensors that can shrink, median over the zoo",
        "reported",
    ),
    ("coupling", "seconds_per_1000_ops", "seconds of tracing and rules per 1,000 operations", "at most 10"),
    ("coupling", "memory_over_model", "growth of memory meanwhile over the model's size", "at most 2"),
    (
        "coupling",
        "oracle_agreement",
        "channels that couple as in Torch-Pruning 1.6.1; every difference is explained",
        "reported",
    ),
    *(
        row
        for name, model, seconds in (
            ("resnet18", "ResNet-18 (missed)", 3),
            ("minilm", "MiniLM, 22 M", 8),
            ("bert_base", "BERT-base", 40),
            ("llama_268m", "a Llama of 268 M", 120),
        )
        for row in (
            ("planning", f"{name}_seconds_to_plan", f"CPU seconds to plan {model}", f"at most {seconds}"),
            ("planning", f"{name}_second_start_seconds", "and when the plan is in the cache", "reported"),
            ("planning", f"{name}_memory_over_model", "growth of memory over the model's bytes", "at most 5"),
        )
    ),
    (
        "language_models",
        "left_at_half",
        "parameters left at half of the channels, median of seven language models, embeddings left out",
        "at most .28",
    ),
    ("strangers", "models", "models of nine other libraries, every group halved", "reported"),
    ("strangers", "works", "share of them that work", "at least .95"),
    ("strangers", "wrong", "of them those that compute something else", "0"),
    ("strangers", "onnx_tried", "every third that works, written as ONNX", "reported"),
    ("strangers", "onnx_equal", "of them those that compute the same in onnxruntime", "all"),
    ("strangers", "seconds_to_plan", "CPU seconds to plan one, median", "reported"),
    (
        "strangers",
        "over_torch_pruning",
        "of every third, those that work over those that do with Torch-Pruning 1.6.1 (shapes alone)",
        "reported",
    ),
    (
        "strangers",
        "over_torch_kirigami",
        "of every ninth, those that work over those that do with torch-kirigami 0.2.1 (shapes alone)",
        "reported",
    ),
    (
        "huggingface",
        "huggingface_round_trip",
        "of 14 architectures of transformers those pruned, saved and loaded in a fresh process, equal",
        "14",
    ),
    *(
        row
        for runtime, name, median, p90 in (
            ("onnx", "ONNX Runtime", ".04", ".10"),
            ("torch", "PyTorch", ".06", ".15"),
        )
        for row in (
            (
                "latency",
                f"{runtime}_median_error",
                f"predicted latency, {name}: relative error, median of 60 genomes, worst of five networks",
                f"at most {median}",
            ),
            ("latency", f"{runtime}_p90_error", "and what nine of ten are within", f"at most {p90}"),
            ("latency", f"{runtime}_floor_p90", "two halves of the measurement, likewise", "reported"),
            (
                "latency",
                f"{runtime}_rank_ratio",
                "rank correlation at .50 to .55 of the MACs over the measurement's with itself",
                "at least .9",
            ),
            ("latency", f"{runtime}_prediction_us", "microseconds a candidate", "at most 20"),
            ("latency", f"{runtime}_seconds_to_calibrate", "seconds to calibrate once", "reported"),
        )
    ),
    (
        "quickstart",
        "quickstart_speedup",
        "quickstart: latency of the base model in ONNX Runtime over that of the fastest member within a "
        "point of its error, median of three seeds",
        "at least 1.5",
    ),
    ("quickstart", "quickstart_speedup_worst", "the worst seed", "reported"),
    ("quickstart", "seconds", "seconds of the quickstart on two cores", "under 240"),
    *(
        row
        for network in ("residual", "depthwise")
        for row in (
            (
                "faster",
                f"{network}_over_macs_mean",
                f"{network} net at 32 x 32: latency at equal errors, searched by predicted latency over "
                "searched by MACs",
                "at most .87",
            ),
            (
                "faster",
                f"{network}_over_macs_in_eights_mean",
                "over MACs with widths in eights",
                "below 1",
            ),
        )
    ),
    (
        "int8",
        "int8_size",
        "int8 after pruning: bytes over the float ONNX file's, median of members of at least 500 kB",
        "at most .30",
    ),
    (
        "int8",
        "int8_speedup",
        "how much faster it is in onnxruntime, batch 1, no VNNI, median",
        "at least 1.3",
    ),
    (
        "int8",
        "int8_speedup_worst",
        "the same of the slowest member, a depthwise net (slower than float)",
        "reported",
    ),
    ("int8", "int8_loss", "test error that it adds, the worst member", "at most .01"),
    (
        "racing",
        "racing_samples",
        "racing: share of the samples seen on recorded streams of 1,000, the worst of four",
        "at most .30",
    ),
    ("racing", "racing_hypervolume", "hypervolume that is left, the worst", "at least .995"),
    (
        "racing",
        "racing_wrong_stops",
        "wrong stops among candidates that would have joined the front, the worst",
        "at most .05",
    ),
    ("racing", "racing_deserving", "share of those candidates, who have to see all samples", "reported"),
    ("racing", "margin_samples", "with race_margin .01: share of the samples seen", "reported"),
    ("racing", "margin_hypervolume", "and hypervolume that is left", "reported"),
    ("racing", "fixed_hypervolume", "hypervolume left by a fixed 30 % of the split", "reported"),
    ("racing", "halving_hypervolume", "and by successive halving, which sees 26 %", "reported"),
    ("racing", "free_seen", "free searches: share of the samples seen, median of five", "reported"),
    ("racing", "free_hypervolume", "and hypervolume over that of the search without racing", "reported"),
    (
        "real",
        "minilm_kept",
        "all-MiniLM-L6-v2 at half of its MACs, 45 minutes of two cores: MRR@10 over the whole model's",
        "at least .98",
    ),
    ("real", "minilm_speedup", "times as fast in onnxruntime, 64 tokens, batch 1", "at least 1.6"),
    (
        "real",
        "minilm_over_others_lower",
        "MRR@10 over the nearest of eight other ways, lower 95 % limit over queries",
        "above 0",
    ),
    ("front", "hypervolume_ratio", "hypervolume on digits over the best control, before fine-tuning", "1.05"),
    ("front", "hypervolume_ratio_finetuned", "the same after equal fine-tuning", "reported"),
    (
        "tic",
        "gram_share_of_epoch",
        "TIC by gram on 64 samples, share of an epoch, the worst of three sizes",
        "at most .15",
    ),
    ("tic", "trace_share_of_epoch", "the same by trace", "at most .05"),
    (
        "trial_pruning",
        "regret_ratio",
        "regret of the chosen trial over the best existing pruner's, equal epochs (missed)",
        "at most .75",
    ),
    ("trial_pruning", "regret_ratio_upper", "its upper 90 % limit over pools and splits (missed)", "below 1"),
    ("trial_pruning", "worst_task_regret_ratio", "the worst task (missed)", "at most 1.05"),
    ("trial_pruning", "epochs_ratio", "epochs to the regret of the best existing pruner", "at most .75"),
    (
        "trial_pruning",
        "no_validation_ratio",
        "test loss chosen by TIC, trained on all data, over chosen by a split",
        "reported",
    ),
    (
        "coevolution",
        "faithful_within_quartiles",
        "the published setting: medians within the published quartiles, where known",
        "true",
    ),
    ("coevolution", "faithful_largest_difference", "and the largest difference of a median (L1)", "reported"),
    (
        "coevolution",
        "digits_hypervolume_ratio",
        "autoencoders on digits over the best control, the worse task",
        "at least 1.02",
    ),
    (
        "coevolution",
        "heterogeneous_ratio",
        "cells of three architectures over those of the best one alone",
        "reported",
    ),
    (
        "coevolution",
        "improved_l1",
        "ours on the paper's data, L1 on fresh test data (noise floor .05)",
        "at most .055",
    ),
    ("coevolution", "improved_kept", "at this share of the parameters", "at most .50"),
    (
        "coevolution",
        "busy_share_simulated",
        "share of time that 16 simulated workers are busy, 64 cells",
        ".90",
    ),
    ("coevolution", "busy_share_ray", "the same of 2 Ray workers, 16 cells", ".90"),
    (
        "coevolution",
        "transfer_ratio",
        "bytes moved a cell step over the size of a pair, four neighbours",
        "at most 5",
    ),
    (
        "cells",
        "cost_ratio",
        "CPU time of the full-length search of cells over ours, the worse task",
        "at least 4",
    ),
    (
        "cells",
        "cost_ratio_valid",
        "on both tasks searched cells beat random ones by two standard errors",
        "true",
    ),
    (
        "cells",
        "quality_difference",
        "Dice or accuracy after retraining, ours minus full length, the worse task",
        "reported",
    ),
    ("cells", "quality_difference_lower", "its lower 90 % limit", "above -.01"),
    ("cells", "same_operation_share", "final operations equal to those of the full search", "reported"),
    (
        "cells",
        "ours_over_random_removal",
        "quality over random removal on the same schedule, the worse task",
        "above 0",
    ),
    ("cells", "ours_over_fixed_stop", "and over a fixed stop at equal cost", "above 0"),
    (
        "cells",
        "calibrated_cost_vs_best",
        "cost with the calibrated threshold over the best hand-tuned one's",
        "at most 1.2",
    ),
    ("cells", "memory_average", "memory of the search, ours over full, averaged over time", "at most .7"),
    ("cells", "memory_peak_after_removal", "and its peak after the first removal", "at most .7"),
    (
        "fronts",
        "hypervolume_ratio",
        "hypervolume after training over the best control's, equal MACs, mean of the tasks",
        "at least 1.05",
    ),
    ("fronts", "hypervolume_ratio_worst_task", "the same on the worst task", "at least 1.00"),
    (
        "fronts",
        "hypervolume_ratio_ablations",
        "and over ablations: ours without removal trials, on the network that an oracle chose",
        "reported",
    ),
    (
        "fronts",
        "compute_ratio_worst_task",
        "share of the compute that reaches the best control's front, the worst task",
        "at most .50",
    ),
    (
        "fronts",
        "rank_correlation_last_rung",
        "Kendall's tau of the last rung of the ladder with the truth, the worst task",
        "at least .6",
    ),
    (
        "fronts",
        "latency_largest_deviation",
        "exported latency over the one searched by, largest deviation",
        "at most .15",
    ),
    (
        "tables",
        "regret_ratio_200",
        "recorded tables, 200 evaluations: regret over that of each table's best opponent",
        "at most .50",
    ),
    ("tables", "regret_ratio_200_worst", "the same on the worst table", "at most 1.00"),
    ("tables", "regret_ratio_1000", "after 1,000 evaluations", "at most .50"),
    ("tables", "regret_ratio_1000_worst", "the same on the worst table", "at most 1.00"),
    (
        "tables",
        "hypervolume_gap_200",
        "two and three objectives: share of the exact front that is missed, over the best opponent's",
        "at most .70",
    ),
    (
        "tables",
        "hypervolume_gap_nasbench201_200",
        "the same on NAS-Bench-201, where settings were chosen",
        "at most .70",
    ),
    (
        "tables",
        "workers_256",
        "regret of 256 workers in strict order over one worker's at equal evaluations",
        "at most 1.10",
    ),
    (
        "tables",
        "pruner_regret_ratio",
        "stopping on recorded curves: regret over each data set's best pruner (missed)",
        "at most .90",
    ),
    ("tables", "pruner_regret_ratio_one", "and over the one that is best over all", "reported"),
)

SUMMARY = (
    (
        "strangers",
        "works",
        "of 136 models of nine other libraries, the share that works at half of its channels; none is wrong",
        "at least .95",
    ),
    ("resume", "lost_results", "results lost over 20 kills of a run", "0"),
    (
        "quickstart",
        "quickstart_speedup",
        "the quickstart's models: times as fast in ONNX Runtime as the base, within a point of its error",
        "at least 1.5",
    ),
    (
        "latency",
        "onnx_median_error",
        "predicted latency, ONNX Runtime: median relative error, the worst of five networks",
        "at most .04",
    ),
    (
        "int8",
        "int8_speedup",
        "int8 after pruning: times as fast as the float model (median, no VNNI)",
        "at least 1.3",
    ),
    (
        "fronts",
        "hypervolume_ratio",
        "pruning while training: hypervolume over the best control's at equal compute",
        "at least 1.05",
    ),
    (
        "fronts",
        "compute_ratio_worst_task",
        "share of the compute that it needs to be level, the worst task (missed)",
        "at most .50",
    ),
    (
        "tables",
        "regret_ratio_200",
        "recorded tables, 200 evaluations: regret over that of each table's best opponent",
        "at most .50",
    ),
    (
        "trial_pruning",
        "regret_ratio",
        "stopping trials by TIC: regret over the best existing pruner's (missed)",
        "at most .75",
    ),
    (
        "cells",
        "cost_ratio",
        "search of cells: CPU time of the full search over ours, the worse task",
        "at least 4",
    ),
    (
        "cells",
        "ours_over_fixed_stop",
        "its quality over a plain stop at equal cost (less than two standard errors)",
        "above 0",
    ),
    (
        "coevolution",
        "heterogeneous_ratio",
        "coevolution of three architectures over the best one of them alone (no gain)",
        "reported",
    ),
)
"""The rows of README's table: what a user asks first, with what was not reached."""


def summary() -> str:
    """Return the few figures that README shows beside what was asked for."""
    return "\n".join(_figures(SUMMARY))


def table() -> str:
    """Return the figures of all committed results beside what was asked for, and every arm of the
    benchmarks that compare arms.
    """
    return "\n".join(_figures(FIGURES) + _arms() + _autoencoders() + _rules() + _fronts())


def _figures(rows: Sequence[tuple[str, str, str, str]]) -> list[str]:
    """Return the rows whose results are there as lines of a table."""
    lines = ["| benchmark | figure | measured | asked for |", "| --- | --- | --- | --- |"]
    for name, figure, meaning, asked in rows:
        path = RESULTS / f"{name}.json"
        if path.exists():
            value = json.loads(path.read_text())["figures"].get(figure)
            lines.append(f"| `{name}` | {meaning} | {_text(value)} | {asked} |")
    return lines


def _arms() -> list[str]:
    path = RESULTS / "front.json"
    if not path.exists():
        return []
    result = json.loads(path.read_text())
    evaluations, seeds = result["settings"]["evaluations"], len(result["settings"]["seeds"])
    lines = [
        "",
        f"Every arm of `front`, {evaluations:,} evaluations, {seeds} seeds (median, quartiles; larger is "
        f"better):",
        "",
        "| arm | hypervolume before | after fine-tuning |",
        "| --- | --- | --- |",
    ]
    arms = sorted(result["figures"]["arms"].items(), key=lambda item: -item[1]["hypervolume"]["median"])
    return lines + [
        f"| {name} | {_spread(arm['hypervolume'])} | {_spread(arm['hypervolume_finetuned'])} |"
        for name, arm in arms
    ]


def _autoencoders() -> list[str]:
    path = RESULTS / "coevolution.json"
    if not path.exists():
        return []
    found = json.loads(path.read_text())["figures"]["digits_hypervolume"]
    if len(found) < 2:
        return []
    plain, missing = found["digits"], found["digits-missing"]
    lines = [
        "",
        "Every arm of `coevolution` on digits at equal MACs of gradient steps, five seeds (median, "
        "quartiles; larger is better):",
        "",
        "| arm | hypervolume | with a quarter of the pixels missing |",
        "| --- | --- | --- |",
    ]
    names = sorted(plain.keys() & missing.keys(), key=lambda name: -plain[name]["median"])
    return lines + [f"| {name} | {_spread(plain[name])} | {_spread(missing[name])} |" for name in names]


def _rules() -> list[str]:
    path = RESULTS / "cells.json"
    if not path.exists():
        return []
    tasks = json.loads(path.read_text())["figures"]["tasks"]
    if len(tasks) < 2:
        return []
    digits, phantoms = (task["arms"] for task in (tasks["digits"], tasks["phantoms"]))
    lines = [
        "",
        f"Every rule of `cells`, {len(tasks['digits']['seeds'])} paired seeds: what its retrained cell is "
        f"worth over the full search's "
        "(mean, standard error), and its share of the full search's cost:",
        "",
        "| rule | digits, accuracy | cost | phantoms, Dice | cost |",
        "| --- | --- | --- | --- | --- |",
    ]
    names = sorted(
        (n for n in digits if n != "full" and "cost_share" in digits[n]),
        key=lambda n: -digits[n]["over_full"]["mean"],
    )
    return lines + [
        f"| {name} | {' | '.join(_over(arms[name]) for arms in (digits, phantoms))} |" for name in names
    ]


def _fronts() -> list[str]:
    path = RESULTS / "fronts.json"
    if not path.exists():
        return []
    found = json.loads(path.read_text())["figures"]["hypervolume"]
    tasks = sorted(found, reverse=True)
    lines = [
        "",
        "Every arm of `fronts` at equal MACs, all training included (hypervolume over log MACs and test "
        'loss; median, quartiles, seeds). Those with "lineages" are ours, pruning while training: the given '
        "network, one of another make, or either, as a race decides. Distilled ones are ablations, with our "
        "training and without our search; all others are controls:",
        "",
        f"| arm | {' | '.join(tasks)} |",
        f"| --- |{' --- |' * len(tasks)}",
    ]
    best = {task: max(values["median"] for values in by.values()) for task, by in found.items()}
    worth: dict[str, list[float]] = {}
    for task, by in found.items():
        for name, values in by.items():
            worth.setdefault(name, []).append(values["median"] / best[task])
    names = sorted(worth, key=lambda name: -sum(worth[name]) / len(worth[name]))
    return lines + [
        f"| {name} | {' | '.join(_counted(found[task].get(name)) for task in tasks)} |" for name in names
    ]


def _counted(values: dict[str, float] | None) -> str:
    return (
        ""
        if values is None
        else f"{values['median']:.3f} ({values['low']:.3f} to {values['high']:.3f}), {values['n']}"
    )


def _over(arm: dict[str, Any]) -> str:
    return f"{arm['over_full']['mean']:+.4f} ({arm['over_full']['error']:.4f}) | {arm['cost_share']:.2f}"


def _spread(values: dict[str, float]) -> str:
    return f"{values['median']:.4f} ({values['low']:.4f} to {values['high']:.4f})"


def _text(value: float | bool | None) -> str:
    if value is None:
        return "none"
    return str(value).lower() if isinstance(value, bool) else f"{value:.3g}"


PAGES: dict[str, Callable[[], str]] = {"README.md": summary, "docs/benchmarks.md": table}
"""What stands between the marks of each page."""


def main() -> None:
    """Write the tables between their marks."""
    for name, made in PAGES.items():
        page = ROOT / name
        before, rest = page.read_text().split(BEGIN)
        page.write_text(f"{before}{BEGIN}\n\n{made()}\n\n{END}{rest.split(END)[1]}")


if __name__ == "__main__":
    main()
