"""Learning curves as a picture, on machines without a screen."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any


def plot_curves(
    path: Path,
    log: Sequence[Mapping[str, Any]],
    *,
    floor: float | None = None,
    title: str = "",
) -> None:
    """Write a picture of training and validation loss, in nats per token, over the steps.

    Args:
        path: PNG file to write.
        log: records of a run, as `scripts/train.py` logs them: steps with "step" and "loss",
            validations with "step" and "validation_loss"; both with "torch_loss" where torch ran,
            and steps then with "divergence" and "noise_floor", which get a panel of their own.
        floor: lowest expected validation loss, where it is known.
        title: heading.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    steps = [record for record in log if "loss" in record]
    validations = [record for record in log if "validation_loss" in record]
    compared = any("noise_floor" in record for record in steps)
    figure = Figure(figsize=(8, 7 if compared else 4.5), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    axes, *below = figure.subplots(1 + compared, sharex=True, squeeze=False)[:, 0]

    def curve(panel: Any, key: str, source: Sequence[Mapping[str, Any]], **style: Any) -> None:
        points = [(record["step"], record[key]) for record in source if key in record]
        if points:
            panel.plot(*zip(*points, strict=True), **style)

    curve(axes, "loss", steps, color="C0", alpha=0.5, lw=1, label="training batch")
    curve(axes, "torch_loss", steps, color="k", lw=0.8, ls=":", label="training batch, torch")
    curve(axes, "validation_loss", validations, color="C1", marker="o", ms=4, label="validation")
    curve(axes, "torch_loss", validations, color="k", ls="", marker="x", label="validation, torch")
    if floor is not None:
        axes.axhline(floor, color="C3", lw=1, ls="--", label=f"validation floor, {floor:.4f}")
    axes.set(ylabel="loss, nats per token", title=title)
    axes.set_ylim(bottom=0)
    for panel in below:
        curve(panel, "divergence", steps, color="k", lw=0.8, label="torch from NumPy")
        curve(panel, "noise_floor", steps, color="C2", lw=1.5, label="rounding-noise floor")
        panel.set(ylabel="difference of training losses", yscale="log")
    for panel in (axes, *below):
        panel.legend()
        panel.grid(alpha=0.3)
    (axes, *below)[-1].set_xlabel("training step")
    figure.savefig(path)
