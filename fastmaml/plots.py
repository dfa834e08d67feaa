"""Pictures of a meta-training and of the sinusoid experiment. Needs matplotlib: extra ``cli``."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from matplotlib.axes import Axes

# A bare Figure draws with Agg: no pyplot, so neither a display nor global state is touched.
from matplotlib.figure import Figure

from .experiments import Heldout, SinusoidExperiment

__all__ = ["adaptation_picture", "sinusoid_training_picture", "tidy", "training_picture"]

TRUTH = "#222222"
BEFORE = "#9a9a9a"
STEP_COLOURS = {1: "#e08214", 10: "#2166ac"}


def sinusoid_training_picture(experiment: SinusoidExperiment, values: np.ndarray) -> Figure:
    """Draw the meta-training curve of the sinusoid experiment."""
    title = (
        f"Meta-training on sinusoids: {experiment.order} order, {experiment.shots} shots, "
        f"{experiment.meta_batch} tasks an iteration"
    )
    return training_picture(values, title, f"query MSE after {_steps(experiment.inner_steps)}")


def training_picture(values: np.ndarray, title: str, label: str = "meta-objective") -> Figure:
    """Draw a meta-training curve: every iteration, and a running mean over it."""
    figure = Figure(figsize=(8, 4.5), dpi=150, layout="constrained")
    axes = figure.subplots()
    iterations = np.arange(1, len(values) + 1)
    window = len(values) // 100
    if window < 2:
        axes.plot(iterations, values, color="#2166ac", linewidth=1.8, label="each iteration")
    else:
        axes.plot(iterations, values, color="#b9cfe4", linewidth=0.6, label="each iteration")
        smooth = np.convolve(values, np.full(window, 1 / window), mode="valid")
        mean = f"running mean of {window}"
        axes.plot(iterations[window - 1 :], smooth, color="#2166ac", linewidth=1.8, label=mean)
    axes.set_yscale("log")
    axes.set_xlim(0, max(len(values), 2))
    axes.yaxis.set_major_formatter("{x:g}")
    low, high = axes.get_ylim()
    axes.yaxis.set_minor_formatter(_between_tens("25" if high > 10 * low else "23456789"))
    axes.set_xlabel("meta-iteration")
    axes.set_ylabel(label)
    axes.set_title(title)
    tidy(axes)
    legend = axes.legend(frameon=False, loc="upper right")
    for line in legend.get_lines():
        line.set_linewidth(2)
    return figure


def adaptation_picture(experiment: SinusoidExperiment, tasks: Heldout) -> Figure:
    """Draw held-out tasks, one a panel: truth, support points, before and after adaptation."""
    n_rows = -(-len(tasks.x) // 3)
    figure = Figure(figsize=(10, 0.8 + 2.7 * n_rows), dpi=150, layout="constrained")
    panels = figure.subplots(n_rows, 3, sharex=True, sharey=True, squeeze=False)
    for i, axes in enumerate(panels.flat[: len(tasks.x)]):
        axes.plot(tasks.grid, tasks.truth[i], color=TRUTH, linewidth=4, alpha=0.25, label="truth")
        for steps, predicted in tasks.predicted.items():
            if steps == 0:
                style = {"color": BEFORE, "linestyle": ":", "linewidth": 1.6}
                label = "before adaptation"
            else:
                style = {"color": STEP_COLOURS[steps], "linewidth": 1.6}
                label = f"after {_steps(steps)}"
            # Far outside the panel is far enough: Agg cannot draw to 1e300.
            shown = np.clip(predicted[i], -1e3, 1e3)
            axes.plot(tasks.grid, shown, label=label, **style)
        axes.plot(
            tasks.x[i, :, 0],
            tasks.y[i, :, 0],
            linestyle="none",
            marker="o",
            markersize=5.5,
            markerfacecolor=TRUTH,
            markeredgecolor="white",
            markeredgewidth=0.8,
            zorder=5,
            label="support points",
        )
        tidy(axes)
    # A diverging prediction must not flatten the panels, so the truth sets the limits.
    limit = 1.35 * max(np.abs(tasks.truth).max(), 1.0)
    panels[0, 0].set_ylim(-limit, limit)
    panels[0, 0].set_xlim(tasks.grid[0], tasks.grid[-1])
    for axes in panels[-1]:
        axes.set_xlabel("x")
    for axes in panels[:, 0]:
        axes.set_ylabel("y")
    handles, labels = panels[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), frameon=False)
    figure.suptitle(f"Held-out sinusoids, adapted to {experiment.shots} points each")
    return figure


def _steps(n: int) -> str:
    return "1 step" if n == 1 else f"{n} steps"


def _between_tens(digits: str) -> Callable[[float, float], str]:
    """Label the ticks of a log axis that have one of these digits and zeros only."""

    def label(value: float, _position: float) -> str:
        text = f"{value:g}"
        digit = text.strip("0.")
        return text if len(digit) == 1 and digit in digits else ""

    return label


def tidy(axes: Axes) -> None:
    """Draw a faint grid, and no more of the frame than the two axes."""
    axes.grid(color="#e6e6e6", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
