"""What a training program reports of its steps, and our own training in the same form.

A training adapter is a function of the user's that asks for `weights`, `batches` and `recipe` by
name: the weights to start from under `LanguageModel`'s names, a list of batches
(`numpy_lstm.training.batching.Batch`; all epochs, one after the other) and a recipe
(`numpy_lstm.Recipe`), whose schedule is over the whole list. It trains on the batches in
order and returns a list with one dict for each::

    {"weights": {...}, "loss": 1.6, "gradients": {...}, "clipped": {...}, "m": {...}, "v": {...}}

`weights` are those after the step. The rest may be left out: `loss` in nats per token, `gradients`
as derived, `clipped` as given to the optimiser, and the optimiser's moments after the step, `m` and
`v` or `momentum` (not corrected for their bias); all dicts with the weights' names.
"""

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np

from numpy_lstm.errors import InputError, check
from numpy_lstm.language_model import LanguageModel
from numpy_lstm.training.batching import Batch
from numpy_lstm.training.loop import Position, Recipe, clip, training_step
from numpy_lstm.training.optimizers import SGD, learning_rate
from torch_oracle.training.cases import TrainingCase

ARGUMENTS = ("weights", "batches", "recipe")
QUANTITIES = ("loss", "gradients", "clipped", "m", "v", "momentum", "weights")
"""What may be reported of a step, in the order of its computation."""

Report = dict[str, dict[str, np.ndarray]]
"""What is known of a step: quantity -> name -> array; the loss has the one name "loss"."""
TrainingAdapter = Callable[..., Sequence[Mapping[str, Any]]]


def moments(recipe: Recipe) -> tuple[str, ...]:
    """The names of the moments that the recipe's optimiser has."""
    if isinstance(recipe.optimizer, SGD):
        return ("momentum",) if recipe.optimizer.momentum else ()
    return ("m", "v")


def run_adapter(function: TrainingAdapter, case: TrainingCase) -> list[Report]:
    """What the adapter reports of a case; it works on copies.

    Raises:
        InputError: the function asks for other arguments, raises, or returns something of another
            form than the module says.
    """
    try:
        taken = tuple(inspect.signature(function).parameters)
    except (TypeError, ValueError) as error:
        raise InputError(f"training adapter: expected a function, {error}") from error
    check(
        sorted(taken) == sorted(ARGUMENTS),
        f"training adapter: expected the parameters {', '.join(ARGUMENTS)}, got"
        f" {', '.join(taken) or 'none'}",
    )
    weights = {name: array.copy() for name, array in case.weights.items()}
    batches = [
        Batch(b.inputs.copy(), b.targets.copy(), b.lengths.copy(), b.continues)
        for b in case.batches
    ]
    try:
        returned = function(weights=weights, batches=batches, recipe=case.recipe)
    except (Exception, SystemExit) as error:
        kind = type(error).__name__
        raise InputError(f"{case.name}: the training adapter raises {kind}: {error}") from error
    check(
        isinstance(returned, list) and len(returned) == len(case.batches),
        f"{case.name}: expected a list of {len(case.batches)} dicts, one for each batch, got"
        f" {f'{len(returned)} of them' if isinstance(returned, list) else type(returned).__name__}",
    )
    reports = [_report(case, index, step) for index, step in enumerate(returned)]
    for index, (before, after) in enumerate(pairwise(reports)):
        _check_separate(f"{case.name}: steps {index} and {index + 1}", before, after)
        check(
            before.keys() == after.keys(),
            f"{case.name}: step {index + 1}: expected {', '.join(reports[0])} as of the step"
            f" before, got {', '.join(after)}",
        )
    return reports


def _report(case: TrainingCase, index: int, step: Any) -> Report:
    where = f"{case.name}: step {index}"
    check(isinstance(step, Mapping), f"{where}: expected a dict, got {type(step).__name__}")
    known = [name for name in QUANTITIES if name not in ("m", "v", "momentum")]
    known += moments(case.recipe)
    for name in step:
        check(name in known, f"{where}: got {name!r}; known are {', '.join(known)}")
    check("weights" in step, f"{where}: expected at least the weights after the step")
    report: Report = {}
    for quantity in (name for name in QUANTITIES if name in step):
        if quantity == "loss":
            loss = np.asarray(step["loss"])
            got = list(loss.shape) if loss.dtype.kind == "f" else type(step["loss"]).__name__
            valid = loss.dtype.kind == "f" and loss.ndim == 0
            check(valid, f"{where}: loss: expected a floating number, got {got}")
            report["loss"] = {"loss": loss.astype(case.dtype)}
            continue
        arrays = step[quantity]
        check(
            isinstance(arrays, Mapping) and arrays.keys() == case.weights.keys(),
            f"{where}: {quantity}: expected a dict of {', '.join(case.weights)}",
        )
        for name, weight in case.weights.items():
            clipped_in_place = quantity == "clipped" and case.recipe.max_norm is not None
            if clipped_in_place and name in report.get("gradients", {}):
                check(
                    not np.shares_memory(report["gradients"][name], arrays[name]),
                    f"{where}: gradients[{name!r}] and clipped[{name!r}] are the same memory;"
                    " report a copy from before the clipping",
                )
            _check_like(f"{where}: {quantity}[{name!r}]", arrays[name], weight)
        report[quantity] = {name: arrays[name] for name in case.weights}
    return report


def _check_like(where: str, array: Any, like: np.ndarray) -> None:
    shape, dtype = getattr(array, "shape", None), getattr(array, "dtype", type(array).__name__)
    check(
        isinstance(array, np.ndarray) and shape == like.shape and dtype == like.dtype,
        f"{where}: expected an array {list(like.shape)} of {like.dtype}, got"
        f" {'' if shape is None else f'{list(shape)} of '}{dtype}",
    )


def _check_separate(where: str, before: Report, after: Report) -> None:
    for quantity in before.keys() & after.keys():
        for name, array in before[quantity].items():
            check(
                not np.shares_memory(array, after[quantity][name]),
                f"{where}: {quantity}[{name!r}] is the same memory; report copies",
            )


def model_of(weights: Mapping[str, np.ndarray]) -> LanguageModel:
    """The model that has these weights."""
    V, H = weights["projection.weight"].shape
    layers = sum(name.startswith("lstm.weight_hh_l") for name in weights)
    return LanguageModel(V, H, layers, bias_pair="lstm.bias_hh_l0" in weights)


def own_training(
    weights: Mapping[str, np.ndarray], batches: Sequence[Batch], recipe: Recipe
) -> list[dict[str, Any]]:
    """Our own training as an adapter."""
    reports = replay(model_of(weights), weights, batches, recipe)
    return [report | {"loss": report["loss"]["loss"]} for report in reports]


def replay(
    model: LanguageModel,
    weights: Mapping[str, np.ndarray],
    batches: Sequence[Batch],
    recipe: Recipe,
    reports: Sequence[Report] | None = None,
) -> Iterator[Report]:
    """Reports of our own training, in which faults may be.

    Args:
        model: whose weights they are.
        weights: to start from.
        batches: of all epochs.
        recipe: how to train.
        reports: somebody's; each step then starts from the weights that they reported before it,
            so that rounding does not grow from step to step. Moments and states are our own.
    """
    position = Position(dict(weights), recipe.optimizer.init(weights))
    for index, batch in enumerate(batches):
        lr = learning_rate(recipe.schedule, recipe.optimizer.lr, index, len(batches))
        step = training_step(model, recipe, position, batch, lr, index=index)
        clipped, _ = clip(recipe, step.gradients)
        loss = np.asarray(step.loss, step.gradients["projection.bias"].dtype)
        clipped = {name: array.copy() for name, array in clipped.items()}
        report: Report = {"loss": {"loss": loss}, "gradients": step.gradients, "clipped": clipped}
        report |= {name: step.after.optimizer[name] for name in moments(recipe)}
        yield report | {"weights": dict(step.after.parameters)}
        position = step.after
        if reports is not None:
            position = replace(position, parameters=reports[index]["weights"])
