"""Everything that torch.nn.LSTM does, forward and backward, for arguments as people have them.

torch's own cell runs fast, through `fast/`; a variant runs through the plain loop of `unrolled.py`.
A direction that reads backwards reads every sequence from that sequence's own end.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from numpy_lstm.config import LSTM, Parameters, State
from numpy_lstm.errors import (
    InputError,
    check_dtype,
    check_finite,
    check_is_array,
    check_parameters,
)
from numpy_lstm.fast.dropout import check_masks, dropout_masks, masks_for
from numpy_lstm.fast.packing import Packing, make_packing
from numpy_lstm.fast.stack import (
    PackedCache,
    check_inputs,
    given_states,
    packed_backward,
    packed_forward,
)
from numpy_lstm.shapes import Int, Shaped
from numpy_lstm.unrolled import (
    UnrolledLSTMCache,
    unrolled_lstm_backward,
    unrolled_lstm_forward,
)

__all__ = [
    "LSTM",
    "LSTMCache",
    "LSTMGradients",
    "Parameters",
    "State",
    "dropout_masks",
    "lstm_backward",
    "lstm_forward",
]

Outputs = tuple[
    Shaped[np.ndarray, "..."], Shaped[np.ndarray, "layers *N P"], Shaped[np.ndarray, "layers *N H"]
]
"""(y, h_n, c_n)."""


@dataclass(frozen=True)
class LSTMCache:
    """What `lstm_backward` needs of `lstm_forward`; `batched` is False for one lone sequence."""

    config: LSTM
    packing: Packing
    dtype: np.dtype
    batched: bool
    run: PackedCache | UnrolledLSTMCache


@dataclass(frozen=True)
class LSTMGradients:
    """Gradients of everything that entered the LSTM, in the shapes in which it came.

    dx is zero at padding; of one-hot inputs given as integers it is that of the vectors.
    """

    parameters: dict[str, np.ndarray]
    dx: Shaped[np.ndarray, "..."]
    dh0: Shaped[np.ndarray, "..."]
    dc0: Shaped[np.ndarray, "..."]


def lstm_forward(
    config: LSTM,
    parameters: Parameters,
    x: Shaped[np.ndarray, "..."],
    h0: Shaped[np.ndarray, "..."] | None = None,
    c0: Shaped[np.ndarray, "..."] | None = None,
    lengths: Int[np.ndarray, " N"] | None = None,
    *,
    masks: Sequence[Shaped[np.ndarray, "T N F"]] | None = None,
    rng: np.random.Generator | None = None,
    recompute: bool = False,
) -> tuple[Outputs, LSTMCache]:
    """Run the LSTM over whole sequences: the cell's equations, and (19), for every step.

    Args:
        config: sizes and options.
        parameters: arrays named and shaped as `LSTM.parameter_shapes` says, of one dtype, which
            is the dtype of all arithmetic.
        x: inputs [T, N, I]; with batch_first [N, T, I]; one sequence without a batch [T, I]. Or
            integers without the last axis, which stand for one-hot vectors. The cache refers to x,
            the parameters and the masks: leave them unchanged until the backward pass.
        h0: initial hidden states [layers * D, N, P], in the order of `LSTM.suffixes`; [layers * D,
            P] without a batch; zero when None.
        c0: initial cell states [layers * D, N, H], likewise.
        lengths: number of real steps of each sequence, 1 .. T, in any order; all T when None.
        masks: for dropout, what each layer's outputs but the last's are multiplied by, [T, N, D P]
            each; see `dropout_masks`.
        rng: draws the masks where none are given. With neither there is no dropout (evaluation).
        recompute: keep, of all states and gates, only the states at the start of every 1,024
            tokens of the batch, and compute the rest again in the backward pass: a third more
            time, the same bits. (x, y and their gradients are as large as ever.) Not for variants.

    Returns:
        ``(y, h_n, c_n), cache``: outputs shaped as x with D P features, zero beyond each length,
        and the states at each sequence's own end, shaped as h0 and c0.

    Raises:
        InputError: parameters or data of the wrong name, shape or dtype, or not finite.
    """
    dtype = check_parameters(parameters, config.parameter_shapes())
    batched = _check_axes(config, x)
    x = _time_major(config, x, batched)
    if lengths is not None and not batched:
        raise InputError("lengths: expected None without a batch")
    packing = make_packing(x.shape[0], x.shape[1], lengths)
    packed = packing.pack(x)
    _check_finite_tokens("x", packed, config, packing, batched)
    h0 = _with_batch("h0", h0, batched)
    c0 = _with_batch("c0", c0, batched)
    masks = masks_for(config, packing, dtype, masks, rng)
    if config.variant is None:
        (y, h_n, c_n), run = packed_forward(
            config, parameters, packed, packing, h0, c0, masks=masks, recompute=recompute
        )
        y = packing.unpack(y)
    else:
        if recompute:
            raise InputError("recompute: expected False for a variant")
        (y, h_n, c_n), run = _variant_forward(config, parameters, packed, packing, h0, c0, masks)
    cache = LSTMCache(config, packing, dtype, batched, run)
    y = _as_given(config, y, batched)
    if not batched:
        return (y, h_n[:, 0], c_n[:, 0]), cache
    return (y, h_n, c_n), cache


def _variant_forward(
    config: LSTM,
    parameters: Parameters,
    x: Shaped[np.ndarray, "M *I"],
    packing: Packing,
    h0: np.ndarray | None,
    c0: np.ndarray | None,
    masks: Sequence[np.ndarray],
) -> tuple[tuple[np.ndarray, np.ndarray, np.ndarray], UnrolledLSTMCache]:
    """The plain loop over packed inputs; integers become one-hot vectors."""
    dtype = parameters["weight_hh_l0"].dtype
    check_inputs(x, config.input_size, dtype)
    check_masks(config, packing.T, packing.N, masks, dtype)
    if x.dtype.kind in "iu":
        x = np.eye(config.input_size, dtype=dtype)[x]
    h0 = given_states("h0", h0, config, packing.N, config.output_size, dtype)
    c0 = given_states("c0", c0, config, packing.N, config.hidden_size, dtype)
    return unrolled_lstm_forward(
        config, parameters, packing.unpack(x), h0, c0, packing.lengths, masks
    )


def lstm_backward(
    dy: Shaped[np.ndarray, "..."],
    cache: LSTMCache,
    dh_n: Shaped[np.ndarray, "..."] | None = None,
    dc_n: Shaped[np.ndarray, "..."] | None = None,
) -> LSTMGradients:
    """Backpropagation through time: the cell's equations, and (20), for every step, last to first.

    Args:
        dy: gradient of the outputs, in their shape; what it holds beyond a length is ignored.
        cache: what `lstm_forward` returned; not changed.
        dh_n: gradient of h_n, in its shape; zero when None.
        dc_n: gradient of c_n, in its shape; zero when None.

    Raises:
        InputError: gradients of the wrong shape or dtype, or not finite.
    """
    config, packing, batched = cache.config, cache.packing, cache.batched
    check_is_array("dy", dy)
    features = config.directions * config.output_size
    shape = (packing.T, features)
    if batched:
        shape = (packing.T, packing.N, features)
    if batched and config.batch_first:
        shape = (packing.N, packing.T, features)
    if dy.shape != shape:
        raise InputError(f"dy: expected the shape of y, {list(shape)}, got {list(dy.shape)}")
    packed = packing.pack(_time_major(config, dy, batched))
    _check_finite_tokens("dy", packed, config, packing, batched)
    check_dtype("dy", dy, cache.dtype)
    dh_n = _with_batch("dh_n", dh_n, batched)
    dc_n = _with_batch("dc_n", dc_n, batched)
    if isinstance(cache.run, PackedCache):
        gradients = packed_backward(packed, cache.run, dh_n, dc_n)
        assert gradients.dx is not None
        dx = packing.unpack(gradients.dx)
    else:
        dh = given_states("dh_n", dh_n, config, packing.N, config.output_size, cache.dtype)
        dc = given_states("dc_n", dc_n, config, packing.N, config.hidden_size, cache.dtype)
        gradients = unrolled_lstm_backward(packing.unpack(packed), cache.run, dh, dc)
        dx = gradients.dx
    dx = _as_given(config, dx, batched)
    dh0, dc0 = gradients.dh0, gradients.dc0
    if not batched:
        dh0, dc0 = dh0[:, 0], dc0[:, 0]
    return LSTMGradients(gradients.parameters, dx, dh0, dc0)


def _check_axes(config: LSTM, x: np.ndarray) -> bool:
    """Whether x has a batch axis; raises unless it has the axes of inputs or tokens."""
    check_is_array("x", x)
    tokens = x.dtype.kind in "iu"
    kind, features, without_batch = "", ", I", 2
    if tokens:
        kind, features, without_batch = "integers ", "", 1
    if x.ndim not in (without_batch, without_batch + 1):
        batch = "N, T" if config.batch_first else "T, N"
        raise InputError(
            f"x: expected {kind}[{batch}{features}], or [T{features}] without a batch,"
            f" got {list(x.shape)}"
        )
    return x.ndim == without_batch + 1


def _with_batch(name: str, state: np.ndarray | None, batched: bool) -> np.ndarray | None:
    """Give a state a batch axis of length 1 if x has none."""
    if state is None:
        return None
    check_is_array(name, state)
    if batched and state.ndim != 3:
        raise InputError(f"{name}: expected [layers * D, N, features], got {list(state.shape)}")
    if not batched and state.ndim != 2:
        raise InputError(f"{name}: expected [layers * D, features], got {list(state.shape)}")
    return state if batched else state[:, None]


def _check_finite_tokens(
    name: str, packed: np.ndarray, config: LSTM, packing: Packing, batched: bool
) -> None:
    """Raise if a real token holds NaN or infinity, naming the place as the caller sees it."""
    if not np.isfinite(packed).all():
        check_finite(name, _as_given(config, packing.unpack(packed), batched))


def _time_major(config: LSTM, array: np.ndarray, batched: bool) -> np.ndarray:
    """[T, N, ...] of an array as the caller gave it."""
    if not batched:
        return array[:, None]
    return array.swapaxes(0, 1) if config.batch_first else array


def _as_given(config: LSTM, array: np.ndarray, batched: bool) -> np.ndarray:
    """An array [T, N, ...] with its axes as the caller has them."""
    if not batched:
        return array[:, 0]
    return np.ascontiguousarray(array.swapaxes(0, 1)) if config.batch_first else array
