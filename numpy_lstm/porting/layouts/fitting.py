"""What a layout has no place for: refused by name, or given up where the caller allows it.

Two biases become one, and a forget bias goes where it fits, whenever that loses no bit: a second
bias of zeros says nothing, and one that is constant on the forget gate and zero elsewhere says the
same as a forget bias that is added at run time.
"""

from dataclasses import replace

import numpy as np

from numpy_lstm.errors import InputError
from numpy_lstm.lstm import LSTM
from numpy_lstm.porting.layouts.canonical import SIGMOID_TANH, CanonicalLSTM
from numpy_lstm.porting.layouts.layout import Layout


def fit_to_layout(
    model: CanonicalLSTM, layout: Layout, *, allow_lossy: bool = False
) -> tuple[CanonicalLSTM, list[str]]:
    """The same LSTM in what the layout can hold, and what was lost.

    Raises:
        InputError: everything that has no place: always where the equations would change, else
            unless `allow_lossy`.
    """
    impossible = _impossible(model, layout)
    if impossible:
        raise InputError(f"{layout.key} has no place for: {'; '.join(impossible)}")
    model, lost = _fit_biases(model, layout)
    if model.initial_h is not None and not layout.holds("initial_h"):
        model = replace(model, initial_h=None, initial_c=None)
        lost.append("initial_h, initial_c: learned initial states would be dropped")
    if lost and not allow_lossy:
        raise InputError(
            f"{layout.key} cannot hold everything: {'; '.join(lost)}; allow it with --allow-lossy"
        )
    return model, [sentence.replace("would be", "were") for sentence in lost]


def _impossible(model: CanonicalLSTM, layout: Layout) -> list[str]:
    """What the layout's equations lack."""
    c, activations = model.config, model.facts.activations
    found = {
        f"num_layers = {c.num_layers} (one layer only)": c.num_layers > 1
        and not (layout.stacked or layout.layers_in_names),
        "bidirectional (one direction only)": c.bidirectional and not layout.both_directions,
        f"proj_size = {c.proj_size} (no projection)": bool(c.proj_size)
        and not layout.holds("W_hr"),
        "peephole (no peepholes)": c.peephole and not layout.holds("W_ch"),
        "coupled (f = 1 - i is unknown)": c.coupled and not layout.coupled,
        f"activations = {', '.join(activations)} (always {', '.join(SIGMOID_TANH)})": (
            layout.activations == "fixed" and activations != SIGMOID_TANH
        ),
    }
    return [sentence for sentence, is_there in found.items() if is_there]


def _fit_biases(model: CanonicalLSTM, layout: Layout) -> tuple[CanonicalLSTM, list[str]]:
    """One bias or two, forget bias stored or at run time: without loss where there is a way."""
    c = model.config
    first, second = _biases(model)
    told = model.facts.forget_bias
    lost: list[str] = []
    if not first and (layout.bias_required or told):
        lost.append("bias: none would be zeros, which act the same")
        first = _zeros(model)
    if second and not layout.bias_pair:
        constant = _forget_constant(second, c)
        if constant is None or (constant + told and layout.forget_bias == "stored"):
            lost.append("bias_hh: the two biases would be summed, which cannot be undone")
            first = {suffix: b + second[suffix] for suffix, b in first.items()}
        else:
            told += constant
        second = {}
    fixed = layout.forget_bias if isinstance(layout.forget_bias, float) else 0.0
    surplus = told - fixed if layout.forget_bias != "told" else 0.0
    if surplus:
        constants = {suffix: _forget(b, c, surplus) for suffix, b in first.items()}
        if layout.bias_pair and (not second or not any(b.any() for b in second.values())):
            second = constants
        else:
            lost.append(
                f"forget_bias: {surplus:g} would be added to the bias, which rounding cannot undo"
            )
            first = {suffix: b + constants[suffix] for suffix, b in first.items()}
    told = told if layout.forget_bias == "told" else fixed
    if first and not second and layout.bias_pair:
        second = {suffix: np.zeros_like(b) for suffix, b in first.items()}
    return _with_biases(model, first, second, told), lost


Biases = dict[str, np.ndarray]


def _biases(model: CanonicalLSTM) -> tuple[Biases, Biases]:
    """By suffix: the only bias, or both of the pair."""
    names = (*model.config.bias_names, "", "")[:2]
    first, second = (
        {suffix: model.parameters[name + suffix] for suffix in model.config.suffixes if name}
        for name in names
    )
    return first, second


def _zeros(model: CanonicalLSTM) -> Biases:
    c = model.config
    size = (3 if c.coupled else 4) * c.hidden_size
    return {suffix: np.zeros(size, model.dtype) for suffix in c.suffixes}


def _forget(like: np.ndarray, config: LSTM, value: float) -> np.ndarray:
    """A bias that is `value` on the forget gate and zero elsewhere."""
    b = np.zeros_like(like)
    b[config.hidden_size : 2 * config.hidden_size] = value
    return b


def _forget_constant(biases: Biases, config: LSTM) -> float | None:
    """The number that all of them have on the forget gate, with zeros elsewhere, bit for bit."""
    if config.coupled:
        return 0.0 if not any(b.tobytes().strip(b"\0") for b in biases.values()) else None
    value = next(iter(biases.values()))[config.hidden_size]
    if value == 0 and np.signbit(value):
        return None
    same = all(b.tobytes() == _forget(b, config, float(value)).tobytes() for b in biases.values())
    return float(value) if same else None


def _with_biases(
    model: CanonicalLSTM, first: Biases, second: Biases, forget_bias: float
) -> CanonicalLSTM:
    """The model with these biases in the place of its own."""
    names = ("bias_ih", "bias_hh") if second else ("bias",)
    parameters = {n: p for n, p in model.parameters.items() if not n.startswith("bias")}
    for name, biases in zip(names, (first, second), strict=False):
        parameters |= {name + suffix: b for suffix, b in biases.items()}
    config = replace(model.config, bias=bool(first), bias_pair=bool(second))
    ordered = {name: parameters[name] for name in config.parameter_shapes()}
    facts = replace(model.facts, forget_bias=forget_bias)
    return replace(model, config=config, parameters=ordered, facts=facts)
