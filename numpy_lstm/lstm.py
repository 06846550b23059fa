"""Everything that torch.nn.LSTM does: layers, directions, projection, dropout, lengths, states.

`layer.py` runs one direction of one layer; here they are joined. A direction that reads backwards
reads every sequence from that sequence's own end.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Int, Shaped

from numpy_lstm.cell import CellWeights
from numpy_lstm.errors import (
    Shape,
    check,
    check_array,
    check_dtype,
    check_finite,
    check_is_array,
    check_parameters,
    check_positive,
)
from numpy_lstm.fast.layer import (
    LayerCache,
    LayerGradients,
    layer_backward,
    layer_forward,
)
from numpy_lstm.fast.packing import Packing, make_packing

Parameters = Mapping[str, np.ndarray]
State = tuple[np.ndarray, np.ndarray]
"""(h, c), [layers, N, P] and [layers, N, H]."""


@dataclass(frozen=True)
class LSTM:
    """Configuration of an LSTM; the arguments of torch.nn.LSTM have its names and order.

    Args:
        input_size: I.
        hidden_size: H.
        num_layers: layers, each reading the outputs of the one below.
        bias: whether the gates have a bias.
        batch_first: whether x and y are [N, T, ...]; states are [layers, N, ...] either way.
        dropout: probability that an output of a layer but the last is dropped (in training).
        bidirectional: whether a second LSTM per layer reads each sequence from its end.
        proj_size: P, size of the projected outputs; 0 for none (then P = H).
        bias_pair: keep PyTorch's two biases (`bias_ih_l0`, `bias_hh_l0`), whose sum enters (1),
            instead of one (`bias_l0`). Both train, so that their sum takes twice the step.
        peephole: (19): gates see the cell state through `weight_ch_l0`, rows i, f, o. Not in torch.
        coupled: (20): f = 1 - i; weights have the blocks i, g, o. Not in torch.
    """

    input_size: int
    hidden_size: int
    num_layers: int = 1
    bias: bool = True
    batch_first: bool = False
    dropout: float = 0.0
    bidirectional: bool = False
    proj_size: int = 0
    bias_pair: bool = False
    peephole: bool = False
    coupled: bool = False

    def __post_init__(self) -> None:
        sizes = {"input_size": self.input_size, "hidden_size": self.hidden_size}
        check_positive(**sizes, num_layers=self.num_layers)
        check(self.bias or not self.bias_pair, "bias_pair: expected False where bias is False")
        check(
            type(self.proj_size) is int and 0 <= self.proj_size < self.hidden_size,
            f"proj_size: expected an integer from 0 to hidden_size - 1 = {self.hidden_size - 1},"
            f" got {self.proj_size!r}",
        )
        check(
            type(self.dropout) in (int, float) and 0 <= self.dropout <= 1,
            f"dropout: expected a probability from 0 to 1, got {self.dropout!r}",
        )
        for name in ("bias", "batch_first", "bidirectional", "bias_pair", "peephole", "coupled"):
            value = getattr(self, name)
            check(isinstance(value, bool), f"{name}: expected True or False, got {value!r}")
        check(
            self.dropout == 0 or self.num_layers > 1,
            f"dropout: expected 0 with one layer, got {self.dropout}; it acts between layers",
        )

    @property
    def directions(self) -> int:
        """D: 2 when bidirectional, else 1."""
        return 2 if self.bidirectional else 1

    @property
    def output_size(self) -> int:
        """Size of one direction's outputs: P, or H without a projection."""
        return self.proj_size or self.hidden_size

    @property
    def suffixes(self) -> tuple[str, ...]:
        """Ends of the parameters' names, in the order of the states: `_l0`, `_l0_reverse`, ..."""
        ends = ("", "_reverse")[: self.directions]
        return tuple(f"_l{k}{end}" for k in range(self.num_layers) for end in ends)

    @property
    def bias_names(self) -> tuple[str, ...]:
        """Names of a layer's biases, without suffix: none, one or two."""
        if not self.bias:
            return ()
        return ("bias_ih", "bias_hh") if self.bias_pair else ("bias",)

    def parameter_shapes(self) -> dict[str, Shape]:
        """Name and shape of every parameter, as in PyTorch's state_dict."""
        K, H = (3 if self.coupled else 4), self.hidden_size
        gates, hidden = (f"{K}H", K * H), ("H", H)
        P = ("P", self.proj_size) if self.proj_size else hidden
        shapes: dict[str, Shape] = {}
        for k, suffix in enumerate(self.suffixes):
            below = ("I", self.input_size)
            if k >= self.directions:
                below = (f"{self.directions}{P[0]}", self.directions * P[1])
            shapes[f"weight_ih{suffix}"] = (gates, below)
            shapes[f"weight_hh{suffix}"] = (gates, P)
            shapes |= {f"{name}{suffix}": (gates,) for name in self.bias_names}
            if self.proj_size:
                shapes[f"weight_hr{suffix}"] = (P, hidden)
            if self.peephole:
                shapes[f"weight_ch{suffix}"] = ((f"{K - 1}", K - 1), hidden)
        return shapes

    def cell_weights(self, parameters: Parameters, suffix: str) -> CellWeights:
        """The parameters of one direction of one layer."""
        b = None
        for name in self.bias_names:
            part = parameters[name + suffix]
            b = part if b is None else b + part
        return CellWeights(
            parameters[f"weight_ih{suffix}"],
            parameters[f"weight_hh{suffix}"],
            b,
            parameters.get(f"weight_hr{suffix}"),
            parameters.get(f"weight_ch{suffix}"),
            self.coupled,
        )


@dataclass(frozen=True)
class LSTMCache:
    """What the backward pass needs of the forward pass."""

    config: LSTM
    packing: Packing
    layers: tuple[LayerCache, ...]
    """In the order of `LSTM.suffixes`."""
    masks: tuple[Shaped[np.ndarray, "T N F"], ...]
    """What each layer's outputs but the last's were multiplied by; empty without dropout."""
    batched: bool = True


@dataclass(frozen=True)
class LSTMGradients:
    """Gradients of everything that entered the LSTM, in the shapes in which it came.

    dx is zero at padding; of one-hot inputs given as integers it is that of the vectors.
    `layers` holds each layer's own, packed.
    """

    parameters: dict[str, np.ndarray]
    dx: Shaped[np.ndarray, "..."] | None
    dh0: Shaped[np.ndarray, "..."]
    dc0: Shaped[np.ndarray, "..."]
    layers: tuple[LayerGradients, ...] = ()


Outputs = tuple[
    Shaped[np.ndarray, "..."], Shaped[np.ndarray, "layers *N P"], Shaped[np.ndarray, "layers *N H"]
]


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
    """Run the LSTM over whole sequences: equations (1) to (7) and (19) to (21) for every step.

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
            time, the same bits. (x, y and their gradients are as large as ever.)

    Returns:
        ``(y, h_n, c_n), cache``: outputs shaped as x with D P features, zero beyond each length,
        and the states at each sequence's own end, shaped as h0 and c0.

    Raises:
        InputError: parameters or data of the wrong name, shape or dtype, or not finite.
    """
    dtype = check_parameters(parameters, config.parameter_shapes())
    check_is_array("x", x)
    tokens = x.dtype.kind in "iu"
    axes = "" if tokens else ", I"
    check(
        x.ndim in ((1, 2) if tokens else (2, 3)),
        f"x: expected {'integers ' if tokens else ''}[{_batch_axes(config)}{axes}], or [T{axes}]"
        f" without a batch, got {list(x.shape)}",
    )
    batched = x.ndim == (2 if tokens else 3)
    x = _time_major(config, x, batched)
    check(batched or lengths is None, "lengths: expected None without a batch")
    packing = make_packing(x.shape[0], x.shape[1], lengths)
    x = packing.pack(x)
    _check_real_finite("x", x, config, packing, batched)
    states = [_with_batch(name, state, batched) for name, state in (("h0", h0), ("c0", c0))]
    check(masks is None or rng is None, "masks, rng: expected one of them, got both")
    check(
        config.dropout > 0 or not (masks or rng),
        "masks, rng: expected None where dropout is 0; set dropout in the configuration",
    )
    if masks is None:
        masks = [] if rng is None else dropout_masks(config, packing.T, packing.N, dtype, rng=rng)
    (y, h_n, c_n), cache = packed_forward(
        config, parameters, x, packing, *states, masks=masks, recompute=recompute
    )
    cache = replace(cache, batched=batched)
    outputs = (_as_given(config, packing.unpack(y), batched), h_n, c_n)
    return (outputs if batched else (outputs[0], h_n[:, 0], c_n[:, 0])), cache


def lstm_backward(
    dy: Shaped[np.ndarray, "..."],
    cache: LSTMCache,
    dh_n: Shaped[np.ndarray, "..."] | None = None,
    dc_n: Shaped[np.ndarray, "..."] | None = None,
) -> LSTMGradients:
    """Backpropagation through time: (8) to (14) and (22) to (24) for every step, last to first.

    Args:
        dy: gradient of the outputs, in their shape; what it holds beyond a length is ignored.
        cache: what `lstm_forward` returned; not changed.
        dh_n: gradient of h_n, in its shape; zero when None.
        dc_n: gradient of c_n, in its shape; zero when None.
    """
    config, packing, batched = cache.config, cache.packing, cache.batched
    check_is_array("dy", dy)
    F = config.directions * config.output_size
    shape = (packing.T, packing.N, F) if batched else (packing.T, F)
    if config.batch_first and batched:
        shape = (packing.N, packing.T, F)
    check(dy.shape == shape, f"dy: expected the shape of y, {list(shape)}, got {list(dy.shape)}")
    dy = packing.pack(_time_major(config, dy, batched))
    _check_real_finite("dy", dy, config, packing, batched)
    check_dtype("dy", dy, cache.layers[0].weights.W_hh.dtype)
    dh_n, dc_n = _with_batch("dh_n", dh_n, batched), _with_batch("dc_n", dc_n, batched)
    g = packed_backward(dy, cache, dh_n, dc_n)
    assert g.dx is not None
    dx = _as_given(config, packing.unpack(g.dx), batched)
    dh0, dc0 = (g.dh0, g.dc0) if batched else (g.dh0[:, 0], g.dc0[:, 0])
    return LSTMGradients(g.parameters, dx, dh0, dc0, g.layers)


def dropout_masks(
    config: LSTM, T: int, N: int, dtype: np.dtype | type, *, rng: np.random.Generator
) -> list[Shaped[np.ndarray, "T N F"]]:
    """Masks of inverted dropout for each layer but the last: 1 / (1 - p), or 0 with probability p.

    Scaling at training time leaves the expected output as it is, so evaluation needs no mask.
    """
    p, F = config.dropout, config.directions * config.output_size
    if p == 0:
        return []
    scale = 0.0 if p == 1 else 1 / (1 - p)
    layers = config.num_layers - 1
    return [(scale * (rng.random((T, N, F)) >= p)).astype(dtype) for _ in range(layers)]


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
) -> tuple[Outputs, LSTMCache]:
    """`lstm_forward` on packed inputs and checked parameters; y is packed."""
    dtype = parameters["weight_hh_l0"].dtype
    _check_input(x, config.input_size, dtype)
    _check_masks(config, packing, masks, dtype)
    P, H, order = config.output_size, config.hidden_size, packing.order
    h = _states("h0", h0, config, packing, P, dtype)
    c = _states("c0", c0, config, packing, H, dtype)
    h_n, c_n, caches = np.empty_like(h), np.empty_like(c), []
    for layer, members in places_by_layer(config):
        outputs = []
        for k, reverse in members:
            weights = config.cell_weights(parameters, config.suffixes[k])
            (y, h_end, c_end), cache = layer_forward(
                weights,
                x[packing.reversal] if reverse else x,
                packing,
                h[k, order],
                c[k, order],
                recompute=recompute,
                keep_preactivations=keep_preactivations,
            )
            h_n[k, order], c_n[k, order] = h_end, c_end
            outputs.append(y[packing.reversal] if reverse else y)
            caches.append(cache)
        x = outputs[0] if len(outputs) == 1 else np.concatenate(outputs, axis=1)
        if masks and layer + 1 < config.num_layers:
            x = x * packing.pack(masks[layer])
    return (x, h_n, c_n), LSTMCache(config, packing, tuple(caches), tuple(masks))


def packed_backward(
    dy: Shaped[np.ndarray, "M F"],
    cache: LSTMCache,
    dh_n: Shaped[np.ndarray, "layers N P"] | None = None,
    dc_n: Shaped[np.ndarray, "layers N H"] | None = None,
    *,
    need_dx: bool = True,
    keep_steps: bool = False,
) -> LSTMGradients:
    """`lstm_backward` on packed arrays."""
    config, packing = cache.config, cache.packing
    P, H, order = config.output_size, config.hidden_size, packing.order
    dh = _states("dh_n", dh_n, config, packing, P, dy.dtype)
    dc = _states("dc_n", dc_n, config, packing, H, dy.dtype)
    dh0, dc0, parts = np.empty_like(dh), np.empty_like(dc), {}
    for layer, members in reversed(list(places_by_layer(config))):
        if cache.masks and layer + 1 < config.num_layers:
            dy = dy * packing.pack(cache.masks[layer])
        dx = None
        for d, (k, reverse) in enumerate(members):
            own = dy[:, d * P : (d + 1) * P]
            part = layer_backward(
                own[packing.reversal] if reverse else own,
                cache.layers[k],
                dh[k, order],
                dc[k, order],
                need_dx=need_dx or layer > 0,
                keep_steps=keep_steps,
            )
            dh0[k, order], dc0[k, order], parts[k] = part.dh0, part.dc0, part
            if part.dx is not None:
                part_dx = part.dx[packing.reversal] if reverse else part.dx
                dx = part_dx if dx is None else dx + part_dx
        dy = dx if dx is not None else dy
    layers = tuple(parts[k] for k in range(len(cache.layers)))
    gradients = {
        name: gradient
        for suffix, part in zip(config.suffixes, layers, strict=True)
        for name, gradient in named_gradients(config, suffix, part.weights).items()
    }
    return LSTMGradients(gradients, dy if need_dx else None, dh0, dc0, layers)


def named_gradients(
    config: LSTM, suffix: str, gradients: Mapping[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """A layer's gradients under the parameters' names; both of PyTorch's biases have that of b."""
    named = {f"{k}{suffix}": g for k, g in gradients.items() if k != "bias"}
    return named | {f"{name}{suffix}": gradients["bias"].copy() for name in config.bias_names}


def places_by_layer(config: LSTM) -> Iterator[tuple[int, list[tuple[int, bool]]]]:
    """Each layer with the places of its directions among the states, and which one is reversed."""
    D = config.directions
    for layer in range(config.num_layers):
        yield layer, [(layer * D + d, d == 1) for d in range(D)]


def _states(
    name: str, state: np.ndarray | None, config: LSTM, packing: Packing, F: int, dtype: np.dtype
) -> np.ndarray:
    """The given states (or gradients of final states); zeros when None."""
    L = len(config.suffixes)
    if state is None:
        return np.zeros((L, packing.N, F), dtype)
    size = "P" if F != config.hidden_size else "H"
    check_array(name, state, (("layers * D", L), ("N", packing.N), (size, F)), dtype)
    return state


def _with_batch(name: str, state: np.ndarray | None, batched: bool) -> np.ndarray | None:
    """The state [layers * D, N, F] of one that has no batch axis where x has none."""
    if state is None:
        return None
    check_is_array(name, state)
    check(
        state.ndim == (3 if batched else 2),
        f"{name}: expected [layers * D, {'N, ' if batched else ''}features],"
        f" got {list(state.shape)}",
    )
    return state if batched else state[:, None]


def _check_real_finite(
    name: str, packed: np.ndarray, config: LSTM, packing: Packing, batched: bool
) -> None:
    """Raise if a real token holds NaN or infinity, naming the place as the caller sees it."""
    if not np.isfinite(packed).all():
        check_finite(name, _as_given(config, packing.unpack(packed), batched))


def _check_input(x: np.ndarray, I: int, dtype: np.dtype) -> None:
    if x.dtype.kind in "iu":
        check(
            x.ndim == 1 and x.min() >= 0 and x.max() < I,
            f"x (tokens): expected integers 0 to I - 1 = {I - 1}, got {x.min()} to {x.max()}",
        )
    else:
        check(x.shape == (len(x), I), f"x: expected I = {I} features, got {x.shape[-1]}")
        check_dtype("x", x, dtype)


def _check_masks(
    config: LSTM, packing: Packing, masks: Sequence[np.ndarray], dtype: np.dtype
) -> None:
    check(
        len(masks) in (0, config.num_layers - 1),
        f"masks: expected one for each of num_layers - 1 = {config.num_layers - 1} layers,"
        f" got {len(masks)}",
    )
    F = config.directions * config.output_size
    for k, mask in enumerate(masks):
        check_array(f"masks[{k}]", mask, (("T", packing.T), ("N", packing.N), ("D P", F)), dtype)


def _batch_axes(config: LSTM) -> str:
    return "N, T" if config.batch_first else "T, N"


def _time_major(config: LSTM, array: np.ndarray, batched: bool) -> np.ndarray:
    """[T, N, ...] of an array as the caller gave it."""
    if not batched:
        return array[:, None]
    return array.swapaxes(0, 1) if config.batch_first else array


def _as_given(config: LSTM, array: np.ndarray, batched: bool) -> np.ndarray:
    """The inverse of `_time_major`."""
    if not batched:
        return array[:, 0]
    return np.ascontiguousarray(array.swapaxes(0, 1)) if config.batch_first else array
