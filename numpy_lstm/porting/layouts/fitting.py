"""What a layout has no place for: refused by name, or given up where the caller allows it.

Two biases become one, and a forget bias goes where it fits, whenever that loses no bit: a second
bias of zeros says nothing, and one that is constant on the forget gate and zero elsewhere says the
same as a forget bias that is added at run time.
"""

from dataclasses import dataclass, replace

import numpy as np

from numpy_lstm.errors import InputError
from numpy_lstm.lstm import LSTM
from numpy_lstm.porting.layouts.bias_pair import with_bias_pair
from numpy_lstm.porting.layouts.canonical import SIGMOID_TANH, CanonicalLSTM
from numpy_lstm.porting.layouts.layout import Layout
from numpy_lstm.porting.options import OptionError

Biases = dict[str, np.ndarray]
"""One bias of every layer and direction, by the suffix of its name."""


@dataclass(frozen=True)
class Loss:
    """Something that a conversion gives up.

    Args:
        refusal: what would happen, for a caller who has not allowed it.
        report: what did happen, for one who has.
    """

    refusal: str
    report: str


NO_BIAS = Loss(
    "bias: none would be zeros, which act the same",
    "bias: zeros were added where there was none, which act the same",
)
SUMMED_BIASES = Loss(
    "bias_hh: the two biases would be summed, which cannot be undone",
    "bias_hh: the two biases were summed, which cannot be undone",
)
DROPPED_STATES = Loss(
    "initial_h, initial_c: learned initial states would be dropped",
    "initial_h, initial_c: learned initial states were dropped",
)


def fit_to_layout(
    model: CanonicalLSTM, layout: Layout, *, allow_lossy: bool = False
) -> tuple[CanonicalLSTM, list[str]]:
    """The same LSTM in what the layout can hold, and sentences about what was lost.

    Raises:
        InputError: the layout has no place for something, all of which is named. Where the
            equations would change it is always refused, otherwise unless `allow_lossy`.
    """
    impossible = _impossible(model, layout)
    if impossible:
        raise InputError(f"{layout.key} has no place for: {'; '.join(impossible)}")
    model, losses = _fit_biases(model, layout)
    if model.initial_h is not None and not layout.holds("initial_h"):
        model = replace(model, initial_h=None, initial_c=None)
        losses.append(DROPPED_STATES)
    if losses and not allow_lossy:
        refusals = "; ".join(loss.refusal for loss in losses)
        raise OptionError(
            f"{layout.key} cannot hold everything: {refusals}; allow it with ", "allow_lossy"
        )
    return model, [loss.report for loss in losses]


def _impossible(model: CanonicalLSTM, layout: Layout) -> list[str]:
    """What the model has and the layout's equations lack."""
    config = model.config
    activations = model.facts.activations
    found = []
    if config.num_layers > 1 and not layout.several_layers:
        found.append(f"num_layers = {config.num_layers} (one layer only)")
    if config.bidirectional and not layout.both_directions:
        found.append("bidirectional (one direction only)")
    if config.proj_size and not layout.holds("W_hr"):
        found.append(f"proj_size = {config.proj_size} (no projection)")
    if config.peephole and not layout.holds("W_ch"):
        found.append("peephole (no peepholes)")
    if config.coupled and not layout.coupled:
        found.append("coupled (f = 1 - i is unknown)")
    if layout.activations == "fixed" and activations != SIGMOID_TANH:
        usual = ", ".join(SIGMOID_TANH)
        found.append(f"activations = {', '.join(activations)} (always {usual})")
    return found


def _fit_biases(model: CanonicalLSTM, layout: Layout) -> tuple[CanonicalLSTM, list[Loss]]:
    """The model with as many biases as the layout has, and with the forget bias where it has it.

    Nothing is lost where there is a way.
    """
    config = model.config
    first, second = _biases(model)
    run_time = model.facts.forget_bias
    losses: list[Loss] = []
    if not first and (layout.bias_required or run_time):
        losses.append(NO_BIAS)
        first = _zero_biases(model)
    if second and not layout.bias_pair:
        constant = _forget_constant(second, config)
        if constant is None or (constant + run_time and layout.forget_bias == "stored"):
            losses.append(SUMMED_BIASES)
            first = _summed(first, second)
        else:
            run_time += constant
        second = {}
    if layout.forget_bias != "given":
        surplus = run_time - layout.fixed_forget_bias
        run_time = layout.fixed_forget_bias
        if surplus:
            constants = {suffix: _forget(b, config, surplus) for suffix, b in first.items()}
            if layout.bias_pair and not any(b.any() for b in second.values()):
                second = constants
            else:
                losses.append(_added_forget_bias(surplus))
                first = _summed(first, constants)
    model = _with_biases(model, first, second, run_time)
    if first and not second and layout.bias_pair:
        model = _with_zero_second_bias(model)
    return model, losses


def _added_forget_bias(number: float) -> Loss:
    return Loss(
        f"forget_bias: {number:g} would be added to the bias, which rounding cannot undo",
        f"forget_bias: {number:g} was added to the bias, which rounding cannot undo",
    )


def _biases(model: CanonicalLSTM) -> tuple[Biases, Biases]:
    """The only bias, or both of the pair; empty where there is none."""
    found: list[Biases] = [{}, {}]
    for biases, name in zip(found, model.config.bias_names, strict=False):
        for suffix in model.config.suffixes:
            biases[suffix] = model.parameters[name + suffix]
    return found[0], found[1]


def _zero_biases(model: CanonicalLSTM) -> Biases:
    blocks = 3 if model.config.coupled else 4
    size = blocks * model.config.hidden_size
    return {suffix: np.zeros(size, model.dtype) for suffix in model.config.suffixes}


def _summed(first: Biases, second: Biases) -> Biases:
    return {suffix: b + second[suffix] for suffix, b in first.items()}


def _forget(like: np.ndarray, config: LSTM, value: float) -> np.ndarray:
    """A bias that is `value` on the forget gate and zero elsewhere."""
    b = np.zeros_like(like)
    b[config.hidden_size : 2 * config.hidden_size] = value
    return b


def _forget_constant(biases: Biases, config: LSTM) -> float | None:
    """The number that all of them have on the forget gate, with zeros elsewhere, bit for bit."""
    if config.coupled:
        nothing = not any(b.tobytes().strip(b"\0") for b in biases.values())
        return 0.0 if nothing else None
    value = next(iter(biases.values()))[config.hidden_size]
    if value == 0 and np.signbit(value):
        return None
    for b in biases.values():
        if b.tobytes() != _forget(b, config, float(value)).tobytes():
            return None
    return float(value)


def _with_biases(
    model: CanonicalLSTM, first: Biases, second: Biases, forget_bias: float
) -> CanonicalLSTM:
    """The model with these biases in the place of its own."""
    parameters = {n: p for n, p in model.parameters.items() if not n.startswith("bias")}
    config = replace(model.config, bias=bool(first), bias_pair=bool(second))
    for name, biases in zip(config.bias_names, (first, second), strict=False):
        parameters |= {name + suffix: b for suffix, b in biases.items()}
    facts = replace(model.facts, forget_bias=forget_bias)
    return _in_order(replace(model, config=config, parameters=parameters, facts=facts))


def _with_zero_second_bias(model: CanonicalLSTM) -> CanonicalLSTM:
    parameters = with_bias_pair(model.parameters, model.config)
    config = replace(model.config, bias_pair=True)
    return _in_order(replace(model, config=config, parameters=parameters))


def _in_order(model: CanonicalLSTM) -> CanonicalLSTM:
    """The model with its parameters in the order of `LSTM.parameter_shapes`."""
    ordered = {name: model.parameters[name] for name in model.config.parameter_shapes()}
    return replace(model, parameters=ordered)
