"""What a Keras model's description (config.json, or the attribute model_config) says of its LSTMs.

Sources: keras.layers.LSTM and Bidirectional, get_config; keras/src/activations.
"""

import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from numpy_lstm.errors import InputError
from numpy_lstm.porting.formats.keras.description_tree import children_of, class_of, config_of
from numpy_lstm.porting.layouts.canonical import SIGMOID_TANH, RuntimeFacts
from numpy_lstm.porting.layouts.named_activations import activation

Names = tuple[str, ...]
LSTM_CLASSES = ("LSTM", "LSTMCell", "CuDNNLSTM")
HARD_SIGMOID_OF_KERAS_3 = "hard_sigmoid(0.16666666666666666, 0.5)"
HARD_SIGMOID_BEFORE = "hard_sigmoid(0.2, 0.5)"


@dataclass(frozen=True)
class DescribedLSTM:
    """An LSTM of a model's description.

    Args:
        group: where Keras 3 stores its weights.
        names: of the layers from the outermost to its own; a wrapper and what it wraps are one.
        own_name: of the LSTM layer itself, which differs from the last of names in a wrapper.
        class_name: one of LSTM_CLASSES.
        config: the layer's options.
        wrapper: those of the Bidirectional that it is in, if any.
        backward: whether it is that one's second LSTM.
    """

    group: str
    names: Names
    own_name: str
    class_name: str
    config: Mapping[str, Any]
    wrapper: Mapping[str, Any]
    backward: bool = False


def described_lstms(
    node: Any, group: str = "", names: Names = (), *, in_bidirectional: bool = False
) -> Iterator[DescribedLSTM]:
    """Every LSTM of a description, in order; what is not understood is passed over.

    Args:
        node: {"class_name": ..., "config": ...}.
        group: where Keras 3 stores what belongs to it.
        names: of the layers that it is in.
        in_bidirectional: whether it is in a Bidirectional, in which another is passed over: one in
            another would double everything in it.
    """
    class_name, config = class_of(node), config_of(node)
    if class_name in LSTM_CLASSES or is_subclass(node):
        yield DescribedLSTM(group, names, str(config.get("name", "")), class_name, config, {})
    elif class_name == "Bidirectional":
        if not in_bidirectional:
            yield from _both_directions(config, group, names)
    elif class_name == "TimeDistributed":
        inner, within = config.get("layer"), f"{group}/layer"
        yield from described_lstms(inner, within, names, in_bidirectional=in_bidirectional)
    elif class_name == "RNN":
        # The cells themselves do not know in which order they are run.
        order = {"go_backwards": config.get("go_backwards", False)}
        inner, within = config.get("cell"), f"{group}/cell"
        for lstm in described_lstms(inner, within, names, in_bidirectional=in_bidirectional):
            yield replace(lstm, config={**lstm.config, **order})
    else:
        key = "cells" if class_name == "StackedRNNCells" else "layers"
        for name, (numbered, child) in children_of(node, key).items():
            within = f"{group}/{key}/{numbered}" if group else f"{key}/{numbered}"
            yield from described_lstms(
                child, within, (*names, name), in_bidirectional=in_bidirectional
            )


def is_subclass(node: Any) -> bool:
    """Whether a layer of somebody's own class has the options of an LSTM.

    A GRU has an option reset_after, and a ConvLSTM filters.
    """
    config = config_of(node)
    options = {"units", "activation", "recurrent_activation"}
    is_own = class_of(node) not in ("GRU", "GRUCell", "SimpleRNN", "SimpleRNNCell", "")
    return is_own and options <= config.keys() and "reset_after" not in config


def _both_directions(
    wrapper: Mapping[str, Any], group: str, names: Names
) -> Iterator[DescribedLSTM]:
    """The LSTMs in a Bidirectional, whose second layer is a twin of the first if none is given."""
    first = wrapper.get("layer")
    for lstm in described_lstms(first, f"{group}/forward_layer", names, in_bidirectional=True):
        yield replace(lstm, wrapper=wrapper)
    second = wrapper.get("backward_layer", first)
    for lstm in described_lstms(second, f"{group}/backward_layer", names, in_bidirectional=True):
        name = lstm.own_name
        if "backward_layer" not in wrapper:
            name = ""  # the file does not say what the twin is called
        yield replace(lstm, wrapper=wrapper, backward=True, own_name=name)


def facts_of(path: Path, layer: str, lstm: DescribedLSTM, version: str) -> RuntimeFacts:
    """The activations of a described LSTM.

    Args:
        path: for messages.
        layer: what its tensors are named after, for messages.
        lstm: as found.
        version: of the Keras that wrote the file: "2.2.4-tf".

    Raises:
        InputError: an activation that is not known.
    """
    if lstm.class_name == "CuDNNLSTM":
        return RuntimeFacts(activations=SIGMOID_TANH)
    option = "recurrent_activation"
    if "inner_activation" in lstm.config:  # as Keras 1 calls it
        option = "inner_activation"
    gate_name = lstm.config.get("recurrent_activation", lstm.config.get("inner_activation"))
    gate = _activation(path, layer, option, gate_name)
    rest = _activation(path, layer, "activation", lstm.config.get("activation"))
    if "hard_sigmoid" in (gate, rest):
        exact = _hard_sigmoid(path, layer, version)
        gate, rest = (exact if name == "hard_sigmoid" else name for name in (gate, rest))
    return RuntimeFacts(activations=(gate, rest, rest))


def _hard_sigmoid(path: Path, layer: str, version: str) -> str:
    """What a version of Keras means by hard_sigmoid."""
    major = re.match(r"\d+", version)
    if major is None:
        raise InputError(
            f"{path}: {layer}: hard_sigmoid differs between versions of Keras, and the"
            f" version is {version!r}; expected a number such as 3.15.1"
        )
    if int(major[0]) >= 3:
        return HARD_SIGMOID_OF_KERAS_3
    return HARD_SIGMOID_BEFORE


def _activation(path: Path, layer: str, option: str, value: Any) -> str:
    """The activation that an option names, if it is one of ours."""
    if isinstance(value, str) and value.isidentifier():
        if value == "hard_sigmoid":  # whose numbers depend on the version
            return value
        with suppress(InputError):
            activation(value)
            return value
    raise InputError(
        f"{path}: {layer}: {option} is {str(value)[:80]!r}; expected one of"
        " sigmoid, hard_sigmoid, tanh, relu, linear, softsign"
    )


def caveats(layer: str, lstm: DescribedLSTM) -> list[str]:
    """What an LSTM does that its weights and activations do not say, a sentence each."""
    result = []
    if lstm.class_name not in LSTM_CLASSES:
        result.append(
            f"{layer}: is of the class {lstm.class_name[:60]!r}, taken for an LSTM by its options:"
            " what the code of that class changes is not in the file"
        )
    if bool(lstm.config.get("go_backwards")) and not lstm.backward:
        result.append(
            f"{layer}: go_backwards is set: it reads sequences from their end, and its outputs are"
            " in that order; elsewhere, reverse x and y in time"
        )
    mode = lstm.wrapper.get("merge_mode", "concat")
    if mode not in ("concat", None) and not lstm.backward:
        result.append(
            f"{layer}: merge_mode is {str(mode)[:20]!r}: the outputs of its two directions are"
            " combined to H features there, and joined to 2 H elsewhere"
        )
    return result
