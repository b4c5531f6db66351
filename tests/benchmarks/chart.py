"""Pictures of measured curves, as SVG files that need no script and no font."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

Scale = Literal["linear", "log"]
Points = Sequence[tuple[float, float]]

_SIZE = (8.0, 4.5)
"""Inches; 96 pixels each."""


@dataclass(frozen=True)
class Chart:
    """Curves with common axes. `name` is the name of the file without its suffix.

    A curve whose name begins with "no-op" is drawn dashed, as a reference.
    """

    name: str
    title: str
    x: str
    y: str
    curves: Mapping[str, Points]
    x_scale: Scale = "linear"
    y_scale: Scale = "linear"
    note: str = field(default="")


def draw(chart: Chart, directory: Path) -> Path:
    """Write the picture of a chart and return its path. The same chart gives the same bytes."""
    import matplotlib as mpl

    mpl.use("svg")
    from matplotlib import pyplot as plt
    from matplotlib.ticker import LogLocator, NullLocator

    # Without a salt the ids in the file are random; `none` writes text as text.
    with mpl.rc_context({"svg.hashsalt": chart.name, "svg.fonttype": "none", "font.family": "sans-serif"}):
        figure, axes = plt.subplots(figsize=_SIZE, layout="constrained")
        for name, points in chart.curves.items():
            style = "--" if name.startswith("no-op") else "-"
            axes.plot(*zip(*points, strict=True), style, marker=".", label=name)
        axes.set_title(chart.title)
        axes.set_xlabel(chart.x)
        axes.set_ylabel(chart.y)
        axes.set_xscale(chart.x_scale)
        axes.set_yscale(chart.y_scale)
        if chart.y_scale == "linear":
            axes.set_ylim(bottom=0)
        for axis, scale in ((axes.xaxis, chart.x_scale), (axes.yaxis, chart.y_scale)):
            if scale == "log":
                axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
                axis.set_minor_locator(NullLocator())
            axis.set_major_formatter(lambda value, _: f"{value:,g}")
        axes.grid(visible=True, alpha=0.3)
        axes.legend(fontsize="small")
        path = directory / f"{chart.name}.svg"
        figure.savefig(path, metadata={"Date": None, "Creator": None})
        plt.close(figure)
    return path
