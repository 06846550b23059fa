"""One LSTM layer over a batch of ragged sequences: the equations of `cell.py`, made fast.

What is the same for all time steps leaves the time loop: the input's part of (1), the factors of
(8) to (12) that depend on the forward pass alone, and (13) and dx of (14). The loop keeps the
recurrence: W_hh h_prev, the gates, (6), (7) forward; (9), the products with dh and dc, and the
carries of (14) backward. Padding is packed away first (`packing.py`), so no step is masked.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

import numpy as np
import scipy.sparse
from jaxtyping import Int, Shaped

from numpy_lstm.errors import Shape, check, check_array, check_parameters, check_positive
from numpy_lstm.packing import Packing, make_packing

Parameters = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class LSTM:
    """Configuration of an LSTM layer; the arguments of torch.nn.LSTM have its names.

    Args:
        input_size: I.
        hidden_size: H.
        bias: whether the gates have a bias.
        bias_pair: keep PyTorch's two biases (`bias_ih_l0`, `bias_hh_l0`), whose sum enters (1),
            instead of one (`bias_l0`). Both train, so that their sum takes twice the step.
    """

    input_size: int
    hidden_size: int
    bias: bool = True
    bias_pair: bool = False

    def __post_init__(self) -> None:
        check_positive(input_size=self.input_size, hidden_size=self.hidden_size)
        check(self.bias or not self.bias_pair, "bias_pair: expected False where bias is False")

    @property
    def bias_names(self) -> tuple[str, ...]:
        """Names of the bias parameters: none, one or two."""
        if not self.bias:
            return ()
        return ("bias_ih_l0", "bias_hh_l0") if self.bias_pair else ("bias_l0",)

    def parameter_shapes(self) -> dict[str, Shape]:
        """Name and shape of every parameter, as in PyTorch's state_dict."""
        gates, hidden = ("4H", 4 * self.hidden_size), ("H", self.hidden_size)
        shapes = {"weight_ih_l0": (gates, ("I", self.input_size)), "weight_hh_l0": (gates, hidden)}
        return shapes | dict.fromkeys(self.bias_names, (gates,))


@dataclass(frozen=True)
class LSTMCache:
    """What the backward pass needs of the forward pass; packed (M real tokens)."""

    config: LSTM
    parameters: Parameters
    packing: Packing
    x: Shaped[np.ndarray, "M I"] | Int[np.ndarray, " M"]
    gates: Shaped[np.ndarray, "M G"]
    """i, f, g, o of each token."""
    h: Shaped[np.ndarray, "NM H"]
    """Initial states, then each step's: [N + M, H]."""
    c: Shaped[np.ndarray, "NM H"]
    tanh_c: Shaped[np.ndarray, "M H"]
    a: Shaped[np.ndarray, "M G"] | None
    """Pre-activations (1); kept only when asked for."""

    @property
    def y(self) -> Shaped[np.ndarray, "M H"]:
        """The layer's outputs: h of every real token, packed."""
        return self.h[self.packing.N :]


@dataclass(frozen=True)
class StepGradients:
    """Gradients of each step's quantities, packed: total dh and dc, and da of (8), (10)-(12)."""

    dh: Shaped[np.ndarray, "M H"]
    dc: Shaped[np.ndarray, "M H"]
    da: Shaped[np.ndarray, "M G"]


@dataclass(frozen=True)
class LSTMGradients:
    """Gradients of everything that entered the layer; dx is [T, N, I], zero at padding."""

    parameters: dict[str, np.ndarray]
    dx: Shaped[np.ndarray, "T N I"]
    dh0: Shaped[np.ndarray, "N H"]
    dc0: Shaped[np.ndarray, "N H"]


def lstm_forward(
    config: LSTM,
    parameters: Parameters,
    x: Shaped[np.ndarray, "T N *I"],
    h0: Shaped[np.ndarray, "N H"] | None = None,
    c0: Shaped[np.ndarray, "N H"] | None = None,
    lengths: Int[np.ndarray, " N"] | None = None,
) -> tuple[
    tuple[Shaped[np.ndarray, "T N H"], Shaped[np.ndarray, "N H"], Shaped[np.ndarray, "N H"]],
    LSTMCache,
]:
    """Run the layer over whole sequences: equations (1) to (7) for every step.

    Args:
        config: sizes and bias convention.
        parameters: arrays named and shaped as `LSTM.parameter_shapes` says, of one dtype, which
            is the dtype of all arithmetic.
        x: inputs [T, N, I]; or integers [T, N], which stand for one-hot vectors of length I. The
            cache refers to x and the parameters: leave both unchanged until the backward pass.
        h0: initial hidden states [N, H]; zero when None.
        c0: initial cell states [N, H]; zero when None.
        lengths: number of real steps of each sequence, 1 .. T, in any order; all T when None.

    Returns:
        ``(y, h_n, c_n), cache``: outputs [T, N, H], zero beyond each length, and the states at
        each sequence's own end [N, H].

    Raises:
        InputError: parameters or data of the wrong name, shape or dtype, or not finite.
    """
    check(x.ndim in (2, 3), f"x: expected [T, N, I], or integers [T, N], got {list(x.shape)}")
    packing = make_packing(x.shape[0], x.shape[1], lengths)
    cache = packed_forward(config, parameters, packing.pack(x), packing, h0, c0)
    h_n, c_n = final_states(cache)
    y = packing.unpack(cache.y)
    return (y.copy() if np.shares_memory(y, cache.h) else y, h_n, c_n), cache


def lstm_backward(
    dy: Shaped[np.ndarray, "T N H"],
    cache: LSTMCache,
    dh_n: Shaped[np.ndarray, "N H"] | None = None,
    dc_n: Shaped[np.ndarray, "N H"] | None = None,
) -> LSTMGradients:
    """Backpropagation through time: equations (8) to (14) for every step, last to first.

    Args:
        dy: gradient of the outputs [T, N, H]; what it holds beyond a length is ignored.
        cache: what `lstm_forward` returned; not changed.
        dh_n: gradient of h_n [N, H]; zero when None.
        dc_n: gradient of c_n [N, H]; zero when None.
    """
    packing = cache.packing
    T, N, H = packing.T, packing.N, cache.config.hidden_size
    check(dy.shape == (T, N, H), f"dy: expected [T, N, H] = {[T, N, H]}, got {list(dy.shape)}")
    dy = packing.pack(dy)
    check_array("dy (of the real tokens)", dy, (("M", len(dy)), ("H", H)), cache.h.dtype)
    steps, dh0, dc0 = packed_backward(dy, cache, dh_n, dc_n)
    dx = packing.unpack(input_gradient(cache, steps))
    return LSTMGradients(parameter_gradients(cache, steps), dx, dh0, dc0)


def packed_forward(
    config: LSTM,
    parameters: Parameters,
    x: Shaped[np.ndarray, "M I"] | Int[np.ndarray, " M"],
    packing: Packing,
    h0: Shaped[np.ndarray, "N H"] | None = None,
    c0: Shaped[np.ndarray, "N H"] | None = None,
    keep_preactivations: bool = False,
) -> LSTMCache:
    """`lstm_forward` on packed inputs; h0 and c0 are in the caller's order."""
    dtype = check_parameters(parameters, config.parameter_shapes())
    N, M, H = packing.N, packing.M, config.hidden_size
    h = np.empty((N + M, H), dtype)
    c = np.empty((N + M, H), dtype)
    h[:N] = _initial("h0", h0, packing, H, dtype)
    c[:N] = _initial("c0", c0, packing, H, dtype)
    a = _input_projection(config, parameters, x)
    gates = np.empty_like(a) if keep_preactivations else a
    tanh_c = np.empty((M, H), dtype)
    W_hh_T = parameters["weight_hh_l0"].T
    # sigmoid(a) = tanh(a/2)/2 + 1/2: with these rows one tanh serves all four gates.
    scale = np.repeat(np.array([0.5, 0.5, 1.0, 0.5], dtype), H)
    shift = np.repeat(np.array([0.5, 0.5, 0.0, 0.5], dtype), H)
    for t in range(len(packing.batch_sizes)):
        rows, reads, writes = packing.rows(t), packing.reads(t), packing.writes(t)
        a[rows] += h[reads] @ W_hh_T  # (1), to which the input's part came before the loop
        gate = gates[rows]
        np.multiply(a[rows], scale, out=gate)
        np.tanh(gate, out=gate)
        gate *= scale
        gate += shift  # (2) to (5)
        i, f, g, o = (gate[:, k * H : (k + 1) * H] for k in range(4))
        np.multiply(f, c[reads], out=c[writes])
        c[writes] += i * g  # (6)
        np.tanh(c[writes], out=tanh_c[rows])
        np.multiply(o, tanh_c[rows], out=h[writes])  # (7)
    kept = a if keep_preactivations else None
    return LSTMCache(config, parameters, packing, x, gates, h, c, tanh_c, kept)


def packed_backward(
    dy: Shaped[np.ndarray, "M H"],
    cache: LSTMCache,
    dh_n: Shaped[np.ndarray, "N H"] | None = None,
    dc_n: Shaped[np.ndarray, "N H"] | None = None,
) -> tuple[StepGradients, Shaped[np.ndarray, "N H"], Shaped[np.ndarray, "N H"]]:
    """The time loop of `lstm_backward` on packed arrays: step gradients, dh0 and dc0."""
    packing, W_hh = cache.packing, cache.parameters["weight_hh_l0"]
    M, H = cache.tanh_c.shape
    dh_next = _initial("dh_n", dh_n, packing, H, W_hh.dtype)
    dc_next = _initial("dc_n", dc_n, packing, H, W_hh.dtype)
    dh = np.array(dy, W_hh.dtype)
    dc = np.empty_like(dh)
    da = np.empty((M, 4, H), W_hh.dtype)
    f = cache.gates[:, H : 2 * H]
    from_dc, o_from_dh, c_from_dh = _local_derivatives(cache)
    for t in reversed(range(len(packing.batch_sizes))):
        rows, n = packing.rows(t), packing.batch_sizes[t]
        dh_t, dc_t, da_t = dh[rows], dc[rows], da[rows]
        dh_t += dh_next[:n]
        np.multiply(dh_t, c_from_dh[rows], out=dc_t)
        dc_t += dc_next[:n]  # (9)
        np.multiply(dh_t, o_from_dh[rows], out=da_t[:, 3])  # (8)
        np.multiply(dc_t[:, None], from_dc[rows], out=da_t[:, :3])  # (10), (11), (12)
        np.matmul(da_t.reshape(n, 4 * H), W_hh, out=dh_next[:n])  # (14)
        np.multiply(dc_t, f[rows], out=dc_next[:n])  # (14)
    dh0, dc0 = np.empty_like(dh_next), np.empty_like(dc_next)
    dh0[packing.order], dc0[packing.order] = dh_next, dc_next
    return StepGradients(dh, dc, da.reshape(M, 4 * H)), dh0, dc0


def _local_derivatives(
    cache: LSTMCache,
) -> tuple[Shaped[np.ndarray, "M 3 H"], Shaped[np.ndarray, "M H"], Shaped[np.ndarray, "M H"]]:
    """Factors of (8) to (12) that the forward pass fixes, for all tokens at once.

    Returns d(a_i, a_f, a_g)/dc, da_o/dh and dc/dh.
    """
    M, H = cache.tanh_c.shape
    i, f, g, o = (cache.gates[:, k * H : (k + 1) * H] for k in range(4))
    c_prev = cache.packing.previous(cache.c)
    from_dc = np.empty((M, 3, H), cache.tanh_c.dtype)
    from_dc[:, 0] = g * i * (1 - i)  # (10)
    from_dc[:, 1] = c_prev * f * (1 - f)  # (11)
    from_dc[:, 2] = i * (1 - g * g)  # (12)
    o_from_dh = cache.tanh_c * o * (1 - o)  # (8)
    c_from_dh = o * (1 - cache.tanh_c * cache.tanh_c)  # (9)
    return from_dc, o_from_dh, c_from_dh


def parameter_gradients(
    cache: LSTMCache, steps: StepGradients, t: int | None = None
) -> dict[str, np.ndarray]:
    """Equation (13): the sum over all tokens, or the contribution of step t alone."""
    rows = slice(None) if t is None else cache.packing.rows(t)
    da = steps.da[rows]
    h_prev = cache.packing.previous(cache.h) if t is None else cache.h[cache.packing.reads(t)]
    # A product with ones: BLAS sums in several lanes, faster and more exactly than sum(axis=0).
    db = np.ones(len(da), da.dtype) @ da
    return {
        "weight_ih_l0": _input_weight_gradient(cache.x[rows], da, cache.config.input_size),
        "weight_hh_l0": da.T @ h_prev,
    } | {name: db.copy() for name in cache.config.bias_names}


def input_gradient(cache: LSTMCache, steps: StepGradients) -> Shaped[np.ndarray, "M I"]:
    """Equation (14): dx of every real token (of its one-hot vector, where x holds integers)."""
    return steps.da @ cache.parameters["weight_ih_l0"]


def final_states(
    cache: LSTMCache,
) -> tuple[Shaped[np.ndarray, "N H"], Shaped[np.ndarray, "N H"]]:
    """h_n and c_n, each sequence's at its own end."""
    return cache.h[cache.packing.final], cache.c[cache.packing.final]


def _initial(
    name: str, state: np.ndarray | None, packing: Packing, H: int, dtype: np.dtype
) -> np.ndarray:
    """The given state (or gradient of a final state) in packed order; zeros when None."""
    if state is None:
        return np.zeros((packing.N, H), dtype)
    check_array(name, state, (("N", packing.N), ("H", H)), dtype)
    return state[packing.order]


def _input_projection(config: LSTM, parameters: Parameters, x: np.ndarray) -> np.ndarray:
    """W_ih x + b of (1) for all tokens. A one-hot x picks a column of W_ih."""
    W_ih, I = parameters["weight_ih_l0"], config.input_size
    if np.issubdtype(x.dtype, np.integer):
        check(
            x.ndim == 1 and x.min() >= 0 and x.max() < I,
            f"x (tokens): expected integers 0 to I - 1 = {I - 1} in an array [T, N],"
            f" got {x.min()} to {x.max()}",
        )
        a = np.ascontiguousarray(W_ih.T)[x]
    else:
        check_array("x (of the real tokens)", x, (("M", len(x)), ("I", I)), W_ih.dtype)
        a = x @ W_ih.T
    for name in config.bias_names:
        a += parameters[name]
    return a


def _input_weight_gradient(x: np.ndarray, da: np.ndarray, input_size: int) -> np.ndarray:
    """dW_ih of (13). For one-hot x the sum runs over the tokens of each symbol."""
    if not np.issubdtype(x.dtype, np.integer):
        return da.T @ x
    one_hot_T = scipy.sparse.csr_array(
        (np.ones(len(x), da.dtype), x, np.arange(len(x) + 1)), shape=(len(x), input_size)
    ).T
    return np.ascontiguousarray(cast(np.ndarray, one_hot_T @ da).T)
