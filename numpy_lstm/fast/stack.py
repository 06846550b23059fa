"""All layers and directions of an LSTM over packed tokens: `layer.py`, joined.

Here are the functions for arguments that are checked and packed already; `lstm.py` has those for
everybody.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from numpy_lstm.config import LSTM, Parameters, named_gradients, places_by_layer
from numpy_lstm.errors import InputError, check_array, check_dtype
from numpy_lstm.fast.dropout import check_masks
from numpy_lstm.fast.layer import LayerCache, LayerGradients, layer_backward, layer_forward
from numpy_lstm.fast.packing import Packing
from numpy_lstm.fast.recurrence import layer_weights
from numpy_lstm.shapes import Int, Shaped


@dataclass(frozen=True)
class PackedCache:
    """What `packed_backward` needs of `packed_forward`; `layers` in the order of `LSTM.suffixes`.

    `masks` are what each layer's outputs but the last's were multiplied by; empty without dropout.
    """

    config: LSTM
    packing: Packing
    layers: tuple[LayerCache, ...]
    masks: tuple[Shaped[np.ndarray, "T N F"], ...]


@dataclass(frozen=True)
class PackedGradients:
    """Gradients of all that entered; dx is packed, `layers` holds each layer's own."""

    parameters: dict[str, np.ndarray]
    dx: Shaped[np.ndarray, "M I"] | None
    dh0: Shaped[np.ndarray, "layers N P"]
    dc0: Shaped[np.ndarray, "layers N H"]
    layers: tuple[LayerGradients, ...]


def packed_forward(
    config: LSTM,
    parameters: Parameters,
    x: Shaped[np.ndarray, "M I"] | Int[np.ndarray, " M"],
    packing: Packing,
    h0: Shaped[np.ndarray, "layers N P"] | None = None,
    c0: Shaped[np.ndarray, "layers N H"] | None = None,
    *,
    masks: Sequence[Shaped[np.ndarray, "T N F"]] = (),
    recompute: bool = False,
    keep_preactivations: bool = False,
) -> tuple[tuple[np.ndarray, np.ndarray, np.ndarray], PackedCache]:
    """``(y, h_n, c_n), cache``, as `lstm_forward`, on packed inputs and checked parameters."""
    dtype = parameters["weight_hh_l0"].dtype
    check_inputs(x, config.input_size, dtype)
    check_masks(config, packing.T, packing.N, masks, dtype)
    h = given_states("h0", h0, config, packing.N, config.output_size, dtype)
    c = given_states("c0", c0, config, packing.N, config.hidden_size, dtype)
    h_n, c_n, caches, order = np.empty_like(h), np.empty_like(c), [], packing.order
    for layer, places in places_by_layer(config):
        outputs = []
        for k, reverse in places:
            (y, h_end, c_end), cache = layer_forward(
                layer_weights(config, parameters, config.suffixes[k]),
                _in_reading_order(x, packing, reverse),
                packing,
                h[k, order],
                c[k, order],
                recompute=recompute,
                keep_preactivations=keep_preactivations,
            )
            h_n[k, order], c_n[k, order] = h_end, c_end
            outputs.append(_in_reading_order(y, packing, reverse))
            caches.append(cache)
        x = outputs[0]
        if len(outputs) == 2:
            x = np.concatenate(outputs, axis=1)
        if masks and layer + 1 < config.num_layers:
            x = x * packing.pack(masks[layer])
    return (x, h_n, c_n), PackedCache(config, packing, tuple(caches), tuple(masks))


def packed_backward(
    dy: Shaped[np.ndarray, "M F"],
    cache: PackedCache,
    dh_n: Shaped[np.ndarray, "layers N P"] | None = None,
    dc_n: Shaped[np.ndarray, "layers N H"] | None = None,
    *,
    need_dx: bool = True,
    keep_steps: bool = False,
) -> PackedGradients:
    """`lstm_backward` on packed arrays.

    Args:
        dy: gradient of the outputs.
        cache: what `packed_forward` returned; not changed.
        dh_n: gradient of h_n; zero when None.
        dc_n: gradient of c_n; zero when None.
        need_dx: whether the gradient of the inputs is computed.
        keep_steps: keep the gradients of each step in `layers`, for inspection.
    """
    config, packing, order = cache.config, cache.packing, cache.packing.order
    P = config.output_size
    dh = given_states("dh_n", dh_n, config, packing.N, P, dy.dtype)
    dc = given_states("dc_n", dc_n, config, packing.N, config.hidden_size, dy.dtype)
    dh0, dc0 = np.empty_like(dh), np.empty_like(dc)
    layers: dict[int, LayerGradients] = {}
    dx = None
    for layer, places in reversed(list(places_by_layer(config))):
        if cache.masks and layer + 1 < config.num_layers:
            dy = dy * packing.pack(cache.masks[layer])
        dx = None
        for d, (k, reverse) in enumerate(places):
            gradients = layer_backward(
                _in_reading_order(dy[:, d * P : (d + 1) * P], packing, reverse),
                cache.layers[k],
                dh[k, order],
                dc[k, order],
                need_dx=need_dx or layer > 0,
                keep_steps=keep_steps,
            )
            layers[k] = gradients
            dh0[k, order], dc0[k, order] = gradients.dh0, gradients.dc0
            if gradients.dx is not None:
                part = _in_reading_order(gradients.dx, packing, reverse)
                dx = part if dx is None else dx + part
        if dx is not None:
            dy = dx
    parameters: dict[str, np.ndarray] = {}
    for k, suffix in enumerate(config.suffixes):
        parameters |= named_gradients(config, suffix, layers[k].weights)
    return PackedGradients(parameters, dx, dh0, dc0, tuple(layers[k] for k in sorted(layers)))


def _in_reading_order(array: np.ndarray, packing: Packing, reverse: bool) -> np.ndarray:
    """Packed tokens; where reverse, those of each sequence from its last to its first."""
    return array[packing.reversal] if reverse else array


def given_states(
    name: str, state: np.ndarray | None, config: LSTM, N: int, features: int, dtype: np.dtype
) -> Shaped[np.ndarray, "layers N F"]:
    """The given states (or gradients of final states); zeros when None.

    Raises:
        InputError: a wrong shape or dtype, or numbers that are not finite.
    """
    layers = len(config.suffixes)
    if state is None:
        return np.zeros((layers, N, features), dtype)
    symbol = "H" if features == config.hidden_size else "P"
    shape = (("layers * D", layers), ("N", N), (symbol, features))
    check_array(name, state, shape, dtype)
    return state


def check_inputs(x: Shaped[np.ndarray, "M *I"], I: int, dtype: np.dtype) -> None:
    """Raise unless packed inputs have I features of this dtype, or are integers 0 to I - 1."""
    if x.dtype.kind not in "iu":
        if x.shape != (len(x), I):
            raise InputError(f"x: expected I = {I} features, got {x.shape[-1]}")
        check_dtype("x", x, dtype)
    elif x.ndim != 1 or x.min() < 0 or x.max() >= I:
        raise InputError(
            f"x (tokens): expected integers 0 to I - 1 = {I - 1}, got {x.min()} to {x.max()}"
        )
