"""Learning curves as a picture, on machines without a screen."""

import io
from collections.abc import Mapping, Sequence
from typing import Any

Records = Sequence[Mapping[str, Any]]


def curves_png(log: Records, *, floor: float | None = None, title: str = "") -> bytes:
    """Draw training and validation loss, in nats per token, over the steps.

    Args:
        log: records of a run, as `numpy-lstm train` logs them: steps with "step" and "loss",
            validations with "step" and "validation_loss"; both with "torch_loss" where torch ran,
            and steps then with "divergence" and "noise_floor", which get a panel of their own.
        floor: lowest expected validation loss, where it is known.
        title: heading.

    Returns:
        The content of a PNG file.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    steps = [record for record in log if "loss" in record]
    compared = any("noise_floor" in record for record in steps)
    figure = Figure(figsize=(8, 7 if compared else 4.5), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    panels = list(figure.subplots(2 if compared else 1, sharex=True, squeeze=False)[:, 0])
    _draw_losses(panels[0], log, floor)
    panels[0].set(title=title)
    if compared:
        _draw(panels[1], steps, "divergence", color="k", lw=0.8, label="torch from NumPy")
        _draw(
            panels[1], steps, "noise_floor", color="C2", lw=1.5, label="spread of runs with noise"
        )
        panels[1].set(ylabel="difference of training losses", yscale="log")
    for panel in panels:
        panel.legend()
        panel.grid(alpha=0.3)
    panels[-1].set_xlabel("training step")
    data = io.BytesIO()
    figure.savefig(data, format="png")
    return data.getvalue()


def _draw_losses(panel: Any, log: Records, floor: float | None) -> None:
    steps = [record for record in log if "loss" in record]
    validations = [record for record in log if "validation_loss" in record]
    _draw(panel, steps, "loss", color="C0", alpha=0.5, lw=1, label="training batch")
    _draw(panel, steps, "torch_loss", color="k", lw=0.8, ls=":", label="training batch, torch")
    _draw(panel, validations, "validation_loss", color="C1", marker="o", ms=4, label="validation")
    _draw(panel, validations, "torch_loss", color="k", ls="", marker="x", label="validation, torch")
    if floor is not None:
        panel.axhline(floor, color="C3", lw=1, ls="--", label=f"validation floor, {floor:.4f}")
    panel.set(ylabel="loss, nats per token")
    panel.set_ylim(bottom=0)


def _draw(panel: Any, records: Records, key: str, **style: Any) -> None:
    """Draw one quantity over the steps, if any record has it."""
    points = [(record["step"], record[key]) for record in records if key in record]
    if points:
        panel.plot(*zip(*points, strict=True), **style)
