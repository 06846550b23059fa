"""What a training program reports of its steps, and our own training in the same form.

A training adapter is a function of the user's that asks for `weights`, `batches` and `recipe` by
name: the weights to start from under `LanguageModel`'s names, a list of batches
(`numpy_lstm.training.batching.Batch`; all epochs, one after the other) and a recipe
(`numpy_lstm.Recipe`), whose schedule is over the whole list. It trains on the batches in
order and returns a list with one dict for each. It may ask for `learning_rates` too: those of the
steps, one a batch, as the schedule has them. A recipe or a model that the program does not have, it
refuses with ``raise NotImplementedError("no AdamW")``, and it is judged by the others. ::

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

from numpy_lstm.errors import InputError
from numpy_lstm.language_model import LanguageModel
from numpy_lstm.training.batching import Batch
from numpy_lstm.training.loop import Position, Recipe, clip, training_step
from numpy_lstm.training.optimizers import SGD, learning_rate
from torch_oracle.training.cases import TrainingCase

ARGUMENTS = ("weights", "batches", "recipe")
LEARNING_RATES = "learning_rates"
"""A fourth argument, which an adapter may ask for."""
QUANTITIES = ("loss", "gradients", "clipped", "m", "v", "momentum", "weights")
"""What may be reported of a step, in the order of its computation."""

Report = dict[str, dict[str, np.ndarray]]
"""What is reported of a step: quantity -> name -> array; the loss has the one name "loss"."""
TrainingAdapter = Callable[..., Sequence[Mapping[str, Any]]]


def moments(recipe: Recipe) -> tuple[str, ...]:
    """The names of the moments that the recipe's optimiser has."""
    if isinstance(recipe.optimizer, SGD):
        return ("momentum",) if recipe.optimizer.momentum else ()
    return ("m", "v")


class RecipeRefused(Exception):
    """The adapter does not have a case's recipe or model; the text is its own."""


def run_adapter_on(
    function: TrainingAdapter, cases: Sequence[TrainingCase]
) -> tuple[list[tuple[TrainingCase, list[Report]]], dict[str, str]]:
    """What the adapter reports of the cases that it takes.

    Returns:
        ``runs, refused``: each case with its reports; and by the names of the others, why not.

    Raises:
        InputError: as of `run_adapter`; or the adapter takes no case.
    """
    runs: list[tuple[TrainingCase, list[Report]]] = []
    refused: dict[str, str] = {}
    for case in cases:
        try:
            runs.append((case, run_adapter(function, case)))
        except RecipeRefused as error:
            refused[case.name] = str(error)
    if not runs:
        raise InputError(
            "the training adapter refuses every recipe, so that nothing can be judged:"
            f" {', '.join(f'{name} ({why})' for name, why in refused.items())}"
        )
    return runs, refused


def run_adapter(function: TrainingAdapter, case: TrainingCase) -> list[Report]:
    """What the adapter reports of a case; it works on copies.

    Raises:
        InputError: the function asks for other arguments, raises, or returns something of another
            form than the module says.
        RecipeRefused: it raises NotImplementedError.
    """
    try:
        names = tuple(inspect.signature(function).parameters)
    except (TypeError, ValueError) as error:
        raise InputError(f"training adapter: expected a function, {error}") from error
    if sorted({*names} - {LEARNING_RATES}) != sorted(ARGUMENTS):
        raise InputError(
            f"training adapter: expected the parameters {', '.join(ARGUMENTS)}, and"
            f" {LEARNING_RATES} if you like, got {', '.join(names) or 'none'}"
        )
    weights = {name: array.copy() for name, array in case.weights.items()}
    batches = [
        Batch(b.inputs.copy(), b.targets.copy(), b.lengths.copy(), b.continues)
        for b in case.batches
    ]
    arguments: dict[str, Any] = {"weights": weights, "batches": batches, "recipe": case.recipe}
    if LEARNING_RATES in names:
        arguments[LEARNING_RATES] = list(learning_rates(case))
    try:
        returned = function(**arguments)
    except NotImplementedError as error:
        raise RecipeRefused(str(error) or "not implemented") from error
    except (Exception, SystemExit) as error:
        kind = type(error).__name__
        raise InputError(f"{case.name}: the training adapter raises {kind}: {error}") from error
    return _reports(case, returned)


def learning_rates(case: TrainingCase) -> Iterator[float]:
    """The learning rate of each step of a case."""
    recipe, count = case.recipe, len(case.batches)
    for index in range(count):
        yield learning_rate(recipe.schedule, recipe.optimizer.lr, index, count)


def _reports(case: TrainingCase, returned: Any) -> list[Report]:
    """The reports of a run, each checked, and all of them against one another."""
    if not isinstance(returned, list) or len(returned) != len(case.batches):
        got = type(returned).__name__
        if isinstance(returned, list):
            got = f"{len(returned)} of them"
        raise InputError(
            f"{case.name}: expected a list of {len(case.batches)} dicts, one for each batch,"
            f" got {got}"
        )
    reports = [_report(case, index, step) for index, step in enumerate(returned)]
    for index, (before, after) in enumerate(pairwise(reports)):
        _check_separate(f"{case.name}: steps {index} and {index + 1}", before, after)
        if before.keys() != after.keys():
            raise InputError(
                f"{case.name}: step {index + 1}: expected {', '.join(reports[0])} as of the step"
                f" before, got {', '.join(after)}"
            )
    return reports


def _report(case: TrainingCase, index: int, step: Any) -> Report:
    """What was reported of one step, in the order of computation."""
    where = f"{case.name}: step {index}"
    if not isinstance(step, Mapping):
        raise InputError(f"{where}: expected a dict, got {type(step).__name__}")
    allowed = [name for name in QUANTITIES if name not in ("m", "v", "momentum")]
    allowed += moments(case.recipe)
    for name in step:
        if name not in allowed:
            raise InputError(f"{where}: got {name!r}; known are {', '.join(allowed)}")
    if "weights" not in step:
        raise InputError(f"{where}: expected at least the weights after the step")
    report: Report = {}
    for quantity in QUANTITIES:
        if quantity == "loss" and "loss" in step:
            report["loss"] = {"loss": _checked_loss(where, step["loss"]).astype(case.dtype)}
        elif quantity in step:
            report[quantity] = _checked_arrays(f"{where}: {quantity}", step[quantity], case.weights)
    if case.recipe.max_norm is not None and "gradients" in report and "clipped" in report:
        _check_not_clipped_in_place(where, report)
    return report


def _checked_loss(where: str, value: Any) -> np.ndarray:
    loss = np.asarray(value)
    if loss.dtype.kind != "f":
        got = type(value).__name__
        raise InputError(f"{where}: loss: expected a floating number, got {got}")
    if loss.ndim:
        raise InputError(f"{where}: loss: expected a floating number, got {list(loss.shape)}")
    return loss


def _checked_arrays(
    where: str, arrays: Any, weights: Mapping[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """The arrays in the order of the weights, whose names, shapes and dtypes they must have."""
    if not isinstance(arrays, Mapping) or arrays.keys() != weights.keys():
        raise InputError(f"{where}: expected a dict of {', '.join(weights)}")
    for name, weight in weights.items():
        array = arrays[name]
        shape = getattr(array, "shape", None)
        dtype = getattr(array, "dtype", type(array).__name__)
        if not isinstance(array, np.ndarray) or shape != weight.shape or dtype != weight.dtype:
            got = f"{dtype}" if shape is None else f"{list(shape)} of {dtype}"
            raise InputError(
                f"{where}[{name!r}]: expected an array {list(weight.shape)} of {weight.dtype},"
                f" got {got}"
            )
    return {name: arrays[name] for name in weights}


def _check_not_clipped_in_place(where: str, report: Report) -> None:
    for name, clipped in report["clipped"].items():
        if np.shares_memory(report["gradients"][name], clipped):
            raise InputError(
                f"{where}: gradients[{name!r}] and clipped[{name!r}] are the same memory;"
                " report a copy from before the clipping"
            )


def _check_separate(where: str, before: Report, after: Report) -> None:
    """Each step must be reported in arrays of its own, which later steps do not change."""
    for quantity in before.keys() & after.keys():
        for name, array in before[quantity].items():
            if np.shares_memory(array, after[quantity][name]):
                raise InputError(f"{where}: {quantity}[{name!r}] is the same memory; report copies")


def model_of(weights: Mapping[str, np.ndarray]) -> LanguageModel:
    """The model that has these weights."""
    V, H = weights["projection.weight"].shape
    layers = sum(name.startswith("lstm.weight_hh_l") for name in weights)
    return LanguageModel(V, H, layers, bias_pair="lstm.bias_hh_l0" in weights)


def numpy_training(
    weights: Mapping[str, np.ndarray], batches: Sequence[Batch], recipe: Recipe
) -> list[dict[str, Any]]:
    """The training of `numpy_lstm` as an adapter."""
    reports = replay(model_of(weights), weights, batches, recipe)
    return [report | {"loss": report["loss"]["loss"]} for report in reports]


def replay(
    model: LanguageModel,
    weights: Mapping[str, np.ndarray],
    batches: Sequence[Batch],
    recipe: Recipe,
    reports: Sequence[Report] | None = None,
) -> Iterator[Report]:
    """Reports of our own training, step by step; faults may have been put into its code.

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
