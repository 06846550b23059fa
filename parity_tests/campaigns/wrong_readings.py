"""The mutants of `porting_mutants`: every way in which an LSTM of one layout might be misread."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import permutations

import numpy as np

from numpy_lstm.porting.layouts.arrangement import to_canonical, to_layout
from numpy_lstm.porting.layouts.layout import Layout, Tensor
from numpy_lstm.porting.layouts.placed_lstm import PlacedLSTM
from parity_tests.support.conformance import Inputs

KINDS = {"W": ("W_ih", "W_xh", "W_hx"), "U": ("W_hh",), "b": ("b", "b_ih", "b_hh", "b_pair")}


@dataclass(frozen=True)
class Mutant:
    """One wrong reading: what is wrong, the LSTM so read, and the inputs."""

    kind: str
    what: str
    lstm: PlacedLSTM
    inputs: Inputs


def mutants(lstm: PlacedLSTM, inputs: Inputs) -> Iterator[Mutant]:
    """Every wrong reading of one test vector."""
    for make in (_orders, _axes, _biases, _facts, _places, _states):
        for kind, what, wrong, given in make(lstm, inputs):
            yield Mutant(kind, what, wrong, given)


Found = Iterator[tuple[str, str, PlacedLSTM, Inputs]]


def _with_row(lstm: PlacedLSTM, **changes: object) -> PlacedLSTM:
    return replace(lstm, layout=replace(lstm.layout, **changes))  # type: ignore[arg-type]


def _with_tensors(lstm: PlacedLSTM, change: Callable[[Tensor], Tensor], *holds: str) -> PlacedLSTM:
    """The row with some of its tensors changed."""
    row = lstm.layout
    changed = tuple(change(t) if t.holds in holds or not holds else t for t in row.tensors)
    return _with_row(lstm, tensors=changed)


def _in_order(lstm: PlacedLSTM, order: str) -> PlacedLSTM:
    """The row with another order of the gates; where names say the gate, with names exchanged."""
    row = lstm.layout

    def renamed(tensor: Tensor) -> Tensor:
        names = {a: row.gate_name(b, tensor) for a, b in zip(row.gates, order, strict=True)}
        return replace(tensor, gate_names=names)

    named = {t.holds for t in row.tensors if "{gate}" in t.name and t.holds != "W_ch"}
    if named:
        return _with_tensors(lstm, renamed, *named)
    return _with_row(lstm, gates=order)


def _turn_gates(lstm: PlacedLSTM, names: list[str], order: str) -> PlacedLSTM:
    """Some tensors with their gates' blocks taken for those of another order."""
    row, tensors = lstm.layout, dict(lstm.tensors)
    wrong = to_canonical(_in_order(lstm, order))
    right = to_canonical(lstm)
    parameters = {
        name: (wrong if name.rsplit("_l", 1)[0] in names else right).parameters[name]
        for name in right.parameters
    }
    mixed = to_layout(replace(right, parameters=parameters), row)
    return replace(lstm, tensors=tensors | dict(mixed.tensors))


def _orders(lstm: PlacedLSTM, inputs: Inputs) -> Found:
    """Every wrong order, or naming, of the gates: of all tensors, and of W, U or b alone."""
    row = lstm.layout
    wrong = ["".join(order) for order in permutations(row.gates) if "".join(order) != row.gates]
    for order in wrong:
        yield "gate order", f"all in {order}", _in_order(lstm, order), inputs
    names = {"W": ["weight_ih"], "U": ["weight_hh"], "b": ["bias", "bias_ih", "bias_hh"]}
    for k, order in enumerate(wrong):
        part = list(names)[k % 3]  # each order in one of them
        mixed = _turn_gates(lstm, names[part], order)
        yield f"gate order of {part}", f"{part} in {order}", mixed, inputs
    if any(t.holds == "W_ch" and "q" in t.letters for t in row.tensors):
        for order in ("".join(o) for o in permutations(row.peepholes)):
            if order != row.peepholes:
                yield "peepholes", f"in {order}", _with_row(lstm, peepholes=order), inputs


def _axes(lstm: PlacedLSTM, inputs: Inputs) -> Found:
    """Orientation, interleaving, the order of the fused halves, cuDNN's memory."""

    def swapped(a: str, b: str) -> Callable[[Tensor], Tensor]:
        table = str.maketrans(a + b, b + a)
        return lambda t: replace(t, axes=t.axes.translate(table))

    for what, holds, change in (
        ("recurrent blocks transposed", ("W_hh",), swapped("u", "r")),
        ("input blocks transposed", ("W_ih",), swapped("u", "i")),
        ("fused blocks transposed", ("W_xh", "W_hx"), swapped("u", "z")),
        ("projection transposed", ("W_hr",), swapped("u", "r")),
    ):
        own = [t for t in lstm.layout.tensors if t.holds in holds]
        if own and not own[0].scrambled:
            yield "transposed", what, _with_tensors(lstm, change, *holds), inputs
    for part, holds in (("all", ()), *KINDS.items()):
        own = [t for t in lstm.layout.tensors if not holds or t.holds in holds]
        mixed = any({"g", "u"} <= set(group) for t in own for group in t.groups)
        if mixed and not any(t.scrambled for t in own):
            turned = _with_tensors(lstm, swapped("g", "u"), *holds)
            yield "interleaving", f"interleaving of {part}", turned, inputs
    fused = {"W_xh": "W_hx", "W_hx": "W_xh"}
    if any(t.holds in fused for t in lstm.layout.tensors):
        turned = _with_tensors(lstm, lambda t: replace(t, holds=fused.get(t.holds, t.holds)))
        yield "fused halves", "h and x swapped", turned, inputs
    for holds in ("W_ih", "W_hh"):
        if lstm.layout.holds(holds):
            (tensor,) = (t for t in lstm.layout.tensors if t.holds == holds)
            if tensor.groups[1:] != ["gu"]:
                continue
            turned = _with_tensors(lstm, lambda t: replace(t, scrambled=not t.scrambled), holds)
            yield "cuDNN memory", f"{holds} scrambled or not", turned, inputs


def _biases(lstm: PlacedLSTM, inputs: Inputs) -> Found:
    """Biases dropped, doubled, of one gate used for all; peepholes dropped."""
    for tensor in lstm.layout.tensors:
        if tensor.holds.startswith("b"):
            without = tuple(t for t in lstm.layout.tensors if t != tensor)
            yield "bias", f"{tensor.holds} dropped", _with_row(lstm, tensors=without), inputs
            names = _names_of(lstm, tensor)
            doubled = {n: a * 2 if n in names else a for n, a in lstm.tensors.items()}
            yield "bias", f"{tensor.holds} doubled", replace(lstm, tensors=doubled), inputs
            rolled = {n: np.roll(a, 1) if n in names else a for n, a in lstm.tensors.items()}
            yield "bias", f"{tensor.holds} off by one", replace(lstm, tensors=rolled), inputs
        if tensor.holds == "b_ih":  # changes nothing: their sum counts
            yield "bias", "the two swapped", _with_tensors(lstm, _other_bias), inputs
        if tensor.holds == "W_ch":
            without = tuple(t for t in lstm.layout.tensors if t != tensor)
            yield "peepholes", "dropped", _with_row(lstm, tensors=without), inputs


def _other_bias(tensor: Tensor) -> Tensor:
    other = {"b_ih": "b_hh", "b_hh": "b_ih"}
    return replace(tensor, holds=other.get(tensor.holds, tensor.holds))


def _names_of(lstm: PlacedLSTM, tensor: Tensor) -> set[str]:
    return {p.name for p in lstm.places if p.tensor == tensor}


def _facts(lstm: PlacedLSTM, inputs: Inputs) -> Found:
    """Forget bias added, or not added; other activations."""
    facts, row = lstm.facts, lstm.layout
    told = row.forget_bias if isinstance(row.forget_bias, float) else facts.forget_bias
    for other in {0.0, told + 1, told - 1} - {told}:
        wrong = _with_row(lstm, forget_bias="given")
        wrong = replace(wrong, facts=replace(facts, forget_bias=other))
        yield "forget bias", f"{other:g} for {told:g}", wrong, inputs
    for names in (
        ("hard_sigmoid(0.2, 0.5)", "tanh", "tanh"),
        ("hard_sigmoid(0.16666666666666666, 0.5)", "tanh", "tanh"),
        ("sigmoid", "sigmoid", "tanh"),
        ("sigmoid", "tanh", "linear"),
    ):
        wrong = replace(lstm, facts=replace(facts, activations=names))
        yield "activations", ", ".join(names), wrong, inputs


def _places(lstm: PlacedLSTM, inputs: Inputs) -> Found:
    """Directions or layers mixed up, one of them read twice."""
    row = lstm.layout
    tokens = row.tokens(lstm.directions)
    if len(tokens) == 2 and row.directions is not None:
        swapped = (row.directions[0], *tokens[::-1])
        yield "directions", "swapped", _with_row(lstm, directions=swapped), inputs
        twice = (row.directions[0], tokens[0], tokens[0])
        yield "directions", "forward twice", _with_row(lstm, directions=twice), inputs
    elif lstm.directions == 2:
        turned = {n: a[::-1] if a.shape[0] == 2 else a for n, a in lstm.tensors.items()}
        yield "directions", "swapped", replace(lstm, tensors=turned), inputs
    if lstm.num_layers == 3 and not row.layers_in_names:
        first, second, third = lstm.prefixes
        for what, prefixes in (
            ("second and third swapped", (first, third, second)),
            ("second twice", (first, second, second)),
            ("first and second swapped", (second, first, third)),
        ):
            yield "layers", what, replace(lstm, prefixes=prefixes), inputs
    elif lstm.num_layers == 3:
        for a, b in ((1, 2), (0, 1)):
            names = {name: _relayered(row, name, a, b) for name in lstm.tensors}
            tensors = {name: lstm.tensors[names[name]] for name in names}
            yield "layers", f"{a} and {b} swapped", replace(lstm, tensors=tensors), inputs


def _relayered(row: Layout, name: str, a: int, b: int) -> str:
    """The same tensor's name in the other of two layers."""
    other = {a: b, b: a}
    for tensor in row.tensors:
        for direction in row.directions or ("",):
            for layer in range(3):
                own = {"direction": direction, "gate": ""}
                if row.single + tensor.name.format(layer=layer, **own) == name:
                    return row.single + tensor.name.format(layer=other.get(layer, layer), **own)
    return name


def _states(lstm: PlacedLSTM, inputs: Inputs) -> Found:
    """h and c swapped; initial states of the directions swapped; zero initial states."""
    x, h0, c0 = inputs
    if h0.shape == c0.shape:
        yield "states", "h and c swapped", lstm, (x, c0, h0)
    else:
        yield "states", "h and c swapped", lstm, (x, c0[..., : h0.shape[2]], c0)
    yield "states", "zero", lstm, (x, np.zeros_like(h0), np.zeros_like(c0))
    if len(h0) > 1:
        yield "states", "in another order of layers", lstm, (x, h0[::-1], c0[::-1])
