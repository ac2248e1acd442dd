"""The paper's numbers (METHODS 2, read off its figures) beside what the same experiment gives here, and what
explains them.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.coevolution.faithful import FOLDER
from benchmarks.harness import spread


@dataclass(frozen=True)
class Published:
    """L1 on the training data at the last epoch, over trials and nodes."""

    median: float | None = None
    quartiles: tuple[float, float] | None = None
    mean: float | None = None


PAPER: dict[str, dict[str, Published]] = {
    "coevolution": {
        "none": Published(0.144, mean=0.145),
        "RANDOM": Published(0.084, (0.059, 0.144), 0.104),
        "VARIANCE": Published(0.149, mean=0.157),
        "CONJUNCTIVE": Published(0.149, mean=0.152),
    },
    "canonical": {
        "none": Published(0.267, mean=0.268),
        "RANDOM": Published(mean=0.500),
        "VARIANCE": Published(mean=0.500),
        "CONJUNCTIVE": Published(0.273, mean=0.271),
    },
}


def shards(folder: Path = FOLDER) -> list[dict[str, Any]]:
    """All shards of trials, by file name."""
    read = [json.loads(file.read_text()) for file in sorted(folder.glob("*.json"))]
    return [shard for shard in read if "train" in shard]


def summary(trials: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Medians with quartiles of one arm's trials: over trials and nodes as the paper has them, and over
    trials on test data.
    """
    nodes = [value for trial in trials for value in trial.get("train_by_node", [trial["train"]])]
    found: dict[str, Any] = {
        "trials": len(trials),
        "train": spread(nodes),
        "train_mean": float(np.mean(nodes)),
    }
    found["test"] = spread(t["test"] for t in trials)
    if "before_last_event" in trials[0]:
        found["before_last_event"] = spread(t["before_last_event"] for t in trials)
        found["kept_at_last_event"] = 1 - float(np.mean([t["zeros_of_last_event"] for t in trials]))
        found["kept"] = 1 - float(np.mean([t["zeros"] for t in trials]))
        found["events"] = float(np.mean([t["events"] for t in trials]) / len(trials[0]["train_by_node"]))
    for key in ("lineage_epochs", "rates", "alive"):
        if all(key in trial for trial in trials):
            found[key] = (
                float(np.mean([t[key] for t in trials]))
                if key != "alive"
                else np.mean([t[key] for t in trials], 0).tolist()
            )
    return found


def beside(published: Published, found: dict[str, Any]) -> dict[str, Any]:
    """The paper's numbers and how far ours are from them: medians where it gives them, else means."""
    ours, theirs = (
        (found["train"]["median"], published.median)
        if published.median is not None
        else (found["train_mean"], published.mean)
    )
    assert theirs is not None
    result: dict[str, Any] = {"published": theirs, "difference": ours - theirs}
    if published.quartiles:
        result |= {
            "published_quartiles": published.quartiles,
            "within": published.quartiles[0] <= ours <= published.quartiles[1],
        }
    return result


def faithful_figures(folder: Path = FOLDER) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the figures of the reproduction, and the seeds that they rest on.

    ``faithful_l1`` has every arm by setting, ours and the floors included; ``faithful_largest_difference`` is
    of the paper's arms.
    """
    grouped: dict[str, dict[str, list[dict[str, Any]]]] = defaultdict(lambda: defaultdict(list))
    for shard in shards(folder):
        grouped[shard["setting"]][shard["arm"]].append(shard)
    table = {
        setting: {arm: summary(trials) for arm, trials in arms.items()} for setting, arms in grouped.items()
    }
    differences = []
    for setting, arms in PAPER.items():
        for arm, published in arms.items():
            if found := table.get(setting, {}).get(arm):
                found |= beside(published, found)
                differences.append(abs(found["difference"]))
    random = table.get("coevolution", {}).get("RANDOM", {})
    figures = {
        "faithful_l1": table,
        "faithful_within_quartiles": random.get("within"),
        "faithful_largest_difference": max(differences, default=None),
    }
    seeds = {
        setting: {arm: [t["seed"] for t in trials] for arm, trials in arms.items()}
        for setting, arms in grouped.items()
    }
    return figures, {"faithful_seeds": seeds}


def text(table: dict[str, Any]) -> str:
    """The table of ``faithful_l1`` as Markdown."""
    lines = [
        "| setting | arm | train L1, median (quartiles) | paper | test L1 | kept at the last event |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for setting, arms in table.items():
        for arm, row in arms.items():
            train = row["train"]
            paper = f"{row['published']:.3f}" if "published" in row else ""
            kept = f"{row['kept_at_last_event']:.2f}" if "kept_at_last_event" in row else ""
            ours = f"{train['median']:.3f} ({train['low']:.3f} to {train['high']:.3f})"
            lines.append(f"| {setting} | {arm} | {ours} | {paper} | {row['test']['median']:.3f} | {kept} |")
    return "\n".join(lines)


if __name__ == "__main__":
    print(text(faithful_figures()[0]["faithful_l1"]))
