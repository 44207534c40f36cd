"""What a step costs as its workflow grows: `python -m tests.benchmarks.growth [PICTURE]` draws it.

The replay is timed with the beginning of its run, a few milliseconds, which is most of it where there are few steps.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from matplotlib.figure import Figure

from tests.benchmarks.__main__ import fresh_folder, output_of
from tests.benchmarks.workloads import command

SIZES = (100, 1_000, 10_000, 100_000)
ROUNDS = 3  # the best of them: what disturbs only ever adds
CURVES = {
    "step": ("ours_growth", None),
    "submit": ("ours_growth_fan_out", None),
    "replay": ("ours_growth_replay", "ours_record"),
}


def microseconds(name: str, prepare: str | None, count: int) -> float:
    taken = []
    for _ in range(ROUNDS):
        with fresh_folder() as folder:
            if prepare:
                output_of(command(prepare, folder, count))
            taken.append(float(output_of(command(name, folder, count))))
    return min(taken)


def draw(costs: dict[str, list[float]], path: Path) -> None:
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.add_subplot(
        xscale="log", yscale="log", xlabel="steps in the workflow", ylabel="microseconds a step",
        title="What a step costs as its workflow grows (synchronous=normal)",
    )  # fmt: skip
    for name, cost in costs.items():
        axes.plot(SIZES, cost, marker="o")
        axes.annotate(name, (SIZES[-1], cost[-1]), va="center", xytext=(10, 0), textcoords="offset points")
        below = name == "replay"
        for size, value in zip(SIZES, cost, strict=True):
            place = {"xytext": (0, -15 if below else 7), "textcoords": "offset points"}
            axes.annotate(f"{value:.2g}", (size, value), ha="center", **place)
    axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_minor_formatter("")
    axes.xaxis.set_major_formatter("{x:,g}")
    axes.set_xlim(SIZES[0] / 1.6, SIZES[-1] * 3)
    axes.margins(y=0.2)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", alpha=0.3)
    figure.savefig(path, dpi=150)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.growth", description=__doc__)
    parser.add_argument(
        "picture", nargs="?", type=Path, default=Path("docs/growth.png"), help="where to (docs/growth.png)"
    )
    options = parser.parse_args()
    costs = {name: [microseconds(*how, size) for size in SIZES] for name, how in CURVES.items()}
    for name, cost in costs.items():
        print(f"{name:8}", *[f"{value:8.2f}" for value in cost])
    draw(costs, options.picture)
