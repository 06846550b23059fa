"""One direction of one layer over a ragged batch: the equations of `cell.py`, made fast.

Time is cut into segments. What needs no recurrence is done for a whole segment at once: the
input's part of (1), and after the time loop (13), dx of (14) and (22). The loop keeps
W_hh h_prev, the gates, (6) and (7) forward; (8) to (12), W_hh^T da and the carries backward, with
their factors prepared in `_factors`. Inside, features are rows and the batch is the last axis, so
that each gate is one contiguous block. A segment can be forgotten after the forward pass and
recomputed in the backward pass (Chen et al. 2016, "Training deep nets with sublinear memory cost"),
with the same bits.
"""

from dataclasses import dataclass
from typing import cast

import numpy as np
import scipy.sparse
from jaxtyping import Int, Shaped

from numpy_lstm.cell import CellWeights
from numpy_lstm.fast.packing import Packing

SEGMENT_TOKENS = 1024
"""Tokens of a segment: enough for a product at full speed, few enough for the caches."""
FACTOR_BYTES = 1 << 18
"""Memory for the factors of several steps at once, where steps are small."""


@dataclass(frozen=True)
class Run:
    """What is kept of consecutive steps with one batch size n."""

    steps: range
    gates: Shaped[np.ndarray, "s 5 H n"]
    """f, i, o, g, tanh(c) of each step."""
    c: Shaped[np.ndarray, "states H n"]
    """Cell states: that which the first step reads, then each step's."""
    a: Shaped[np.ndarray, "s G n"] | None
    """Pre-activations as `Prepared` orders and negates them; kept only when asked for."""


@dataclass(frozen=True)
class Segment:
    """What is kept of consecutive steps."""

    steps: range
    h: Shaped[np.ndarray, "P states"]
    """Hidden states: those that the first step reads, then each step's."""
    runs: tuple[Run, ...]


@dataclass(frozen=True)
class Start:
    """What is kept of a segment that is recomputed: the states [P, n] and [H, n] it begins with."""

    steps: range
    h: Shaped[np.ndarray, "P n"]
    c: Shaped[np.ndarray, "H n"]


@dataclass(frozen=True)
class LayerCache:
    """What `layer_backward` needs of `layer_forward`."""

    weights: CellWeights
    packing: Packing
    x: Shaped[np.ndarray, "M I"] | Int[np.ndarray, " M"]
    segments: tuple[Segment | Start, ...]


@dataclass(frozen=True)
class StepGradients:
    """Gradients of each step's quantities: total dh and dc, and da of (8), (10)-(12)."""

    dh: Shaped[np.ndarray, "M P"]
    dc: Shaped[np.ndarray, "M H"]
    da: Shaped[np.ndarray, "M G"]


@dataclass(frozen=True)
class LayerGradients:
    """Gradients of all that entered the layer; `steps` only when asked for."""

    weights: dict[str, np.ndarray]
    """Keys weight_ih, weight_hh, bias, weight_hr, weight_ch."""
    dx: Shaped[np.ndarray, "M I"] | None
    dh0: Shaped[np.ndarray, "N P"]
    dc0: Shaped[np.ndarray, "N H"]
    steps: StepGradients | None


class Prepared:
    """Copies of the weights in the order (f, i, o, g) of the forward loop, the sigmoids' negated.

    sigmoid(a) = 1 / (1 + exp(-a)), so the loop computes -a for the sigmoids, which is exact.
    """

    def __init__(self, weights: CellWeights) -> None:
        w, K = weights, 3 if weights.coupled else 4
        order = [0, 2, 1] if w.coupled else [1, 0, 3, 2]
        G = len(w.W_ih)
        sign = np.full((K, 1, 1), -1.0)
        sign[-1] = 1.0

        def reorder(W: np.ndarray) -> np.ndarray:
            blocks = W.reshape(K, G // K, -1)[order]
            return (blocks * sign.astype(W.dtype)).reshape(G, -1)

        self.K, self.H, self.coupled = K, G // K, w.coupled
        self.W_ih, self.W_hh = reorder(w.W_ih), reorder(w.W_hh)
        self.W_hr = None if w.W_hr is None else w.W_hr.copy()
        self.b = None if w.b is None else reorder(w.b)
        self.one = np.array(1, w.W_ih.dtype)  # cheaper in every step than a Python number
        self.p_in = self.p_out = None
        if w.W_ch is not None:
            negated = -w.W_ch[:, :, None]
            self.p_in, self.p_out = negated[-2::-1], negated[-1]


def layer_forward(
    weights: CellWeights,
    x: Shaped[np.ndarray, "M I"] | Int[np.ndarray, " M"],
    packing: Packing,
    h0: Shaped[np.ndarray, "N P"],
    c0: Shaped[np.ndarray, "N H"],
    *,
    recompute: bool = False,
    keep_preactivations: bool = False,
) -> tuple[
    tuple[Shaped[np.ndarray, "M P"], Shaped[np.ndarray, "N P"], Shaped[np.ndarray, "N H"]],
    LayerCache,
]:
    """Equations (1) to (7) and (19) to (21) for every step.

    Args:
        weights: parameters, which the cache refers to.
        x: packed inputs; or integers, which stand for one-hot vectors.
        packing: where the tokens lie.
        h0: initial states in packed order, as c0.
        c0: initial cell states.
        recompute: keep only the states at the segments' starts.
        keep_preactivations: keep (1) too, for inspection.

    Returns:
        ``(y, h_n, c_n), cache``, packed: outputs, and each sequence's states at its own end.
    """
    prepared = Prepared(weights)
    y = np.empty((packing.M, h0.shape[1]), h0.dtype)
    h_n, c_n = np.empty_like(h0), np.empty_like(c0)
    h, c, segments = h0.T, c0.T, []
    for steps in packing.segments(SEGMENT_TOKENS):
        start = Start(steps, h.copy(), c.copy())
        segment = segment_forward(prepared, x, packing, start, keep_preactivations)
        segments.append(start if recompute else segment)
        y[packing.rows(steps)] = segment.h[:, packing.batch_sizes[steps.start] :].T
        for run in segment.runs:
            n, alive = run.c.shape[2], packing.alive_after(run.steps)
            end = packing.starts[run.steps.stop]
            h_n[alive:n] = y[end - (n - alive) : end]
            c_n[alive:n] = run.c[-1, :, alive:].T
            h, c = segment.h[:, -n:][:, :alive], run.c[-1, :, :alive]
    return (y, h_n, c_n), LayerCache(weights, packing, x, tuple(segments))


def segment_forward(
    prepared: Prepared, x: np.ndarray, packing: Packing, start: Start, keep_preactivations: bool
) -> Segment:
    """The steps of one segment."""
    rows, n = packing.rows(start.steps), start.h.shape[1]
    a_x = _input_part(prepared, x[rows], n)
    h = _columns(len(start.h), n + rows.stop - rows.start, n, start.h.dtype)
    h[:, :n] = start.h
    c, runs = start.c, []
    for steps in packing.runs(start.steps, FACTOR_BYTES // (6 * start.c[:, :1].nbytes)):
        first, n = packing.starts[steps.start] - rows.start, packing.batch_sizes[steps.start]
        shape = (len(steps), 5, prepared.H, n)
        run = Run(
            steps,
            np.empty(shape, h.dtype),
            np.empty((len(steps) + 1, prepared.H, n), h.dtype),
            np.empty((len(steps), len(a_x), n), h.dtype) if keep_preactivations else None,
        )
        run.c[0] = c[:, :n]
        h_out = _steps(h, start.h.shape[1] + first, len(steps), n)
        h_in = h[:, _reads(packing, start.steps, steps.start)]
        with np.errstate(over="ignore"):  # of exp, where a sigmoid is 0
            _run_forward(prepared, run, _steps(a_x, first, len(steps), n), h_in, h_out)
        runs.append(run)
        c = run.c[-1]
    return Segment(start.steps, h, tuple(runs))


def _run_forward(
    prepared: Prepared, run: Run, a_x: np.ndarray, h: np.ndarray, h_out: np.ndarray
) -> None:
    """The time loop. h [P, n] is what the first step reads; h_out [s, P, n] is written."""
    K, (s, _, H, n) = prepared.K, run.gates.shape
    a, product = np.empty((K * H, n), h.dtype), np.empty((H, n), h.dtype)
    c = run.c[0]
    sigmoids = run.gates[:, 4 - K : 3].reshape(s, (K - 1) * H, n, copy=False)
    blocks = (run.gates[:, k] for k in range(5))
    views = zip(sigmoids, *blocks, strict=True)
    for k, (a_x_t, gates, c_t, h_t) in enumerate(zip(a_x, views, run.c[1:], h_out, strict=True)):
        np.matmul(prepared.W_hh, h, out=a)
        np.add(a, a_x_t, out=a)  # (1)
        _advance(prepared, a, gates, c, c_t, h_t, product)
        if run.a is not None:
            run.a[k] = a
        h, c = h_t, c_t


def _advance(
    prepared: Prepared,
    a: np.ndarray,
    gates: tuple[np.ndarray, ...],
    c: np.ndarray,
    c_t: np.ndarray,
    h_t: np.ndarray,
    product: np.ndarray,
) -> None:
    """One step from its pre-activations a, to which peepholes are added: gates, c_t and h_t.

    `gates` are views of one array: the sigmoids, f, i, o, g, tanh(c).
    """
    sigmoids, f, i, o, g, tanh_c = gates
    one, split = prepared.one, len(a) - len(c)
    if prepared.p_in is not None:
        a.reshape(prepared.K, *c.shape)[:-2] += prepared.p_in * c  # (19)
    np.exp(a[:split], out=sigmoids)
    np.add(sigmoids, one, out=sigmoids)
    np.divide(one, sigmoids, out=sigmoids)  # (2), (3), (5)
    np.tanh(a[split:], out=g)  # (4)
    if prepared.coupled:
        np.subtract(one, i, out=f)  # (20)
    np.multiply(f, c, out=c_t)
    np.multiply(i, g, out=product)
    np.add(c_t, product, out=c_t)  # (6)
    if prepared.p_out is not None:
        a_o = a.reshape(prepared.K, *c.shape)[-2]
        a_o += prepared.p_out * c_t  # (19)
        np.exp(a_o, out=o)
        np.add(o, one, out=o)
        np.divide(one, o, out=o)  # (5)
    np.tanh(c_t, out=tanh_c)
    if prepared.W_hr is None:
        np.multiply(o, tanh_c, out=h_t)  # (7)
    else:
        np.multiply(o, tanh_c, out=product)
        np.matmul(prepared.W_hr, product, out=h_t)  # (21)


def step_forward(
    prepared: Prepared,
    x: Shaped[np.ndarray, "N I"] | Int[np.ndarray, " N"],
    h: Shaped[np.ndarray, "P N"],
    c: Shaped[np.ndarray, "H N"],
    h_out: Shaped[np.ndarray, "P N"],
    c_out: Shaped[np.ndarray, "H N"],
) -> None:
    """One step from given states; the new ones are written to h_out and c_out."""
    K, (H, N) = prepared.K, c.shape
    a = _input_part(prepared, x, N)
    a += prepared.W_hh @ h  # (1)
    gates = np.empty((5, H, N), c.dtype)
    views = (gates[4 - K : 3].reshape((K - 1) * H, N), *gates)
    with np.errstate(over="ignore"):  # of exp, where a sigmoid is 0
        _advance(prepared, a, views, c, c_out, h_out, np.empty((H, N), c.dtype))


def layer_backward(
    dy: Shaped[np.ndarray, "M P"],
    cache: LayerCache,
    dh_n: Shaped[np.ndarray, "N P"],
    dc_n: Shaped[np.ndarray, "N H"],
    *,
    need_dx: bool = True,
    keep_steps: bool = False,
) -> LayerGradients:
    """Equations (8) to (14) and (22) to (24) for every step, last to first; all packed."""
    w, packing, x = cache.weights, cache.packing, cache.x
    (M, P), H, dtype = dy.shape, dc_n.shape[1], dy.dtype
    G, I = w.W_ih.shape
    prepared = Prepared(w) if isinstance(cache.segments[0], Start) else None
    dx = np.empty((M, I), dtype) if need_dx else None
    kept = None
    if keep_steps:
        kept = StepGradients(
            np.empty((M, P), dtype), np.empty((M, H), dtype), np.empty((M, G), dtype)
        )
    W_hh_T = np.ascontiguousarray(w.W_hh.T)
    W_hr_T = None if w.W_hr is None else np.ascontiguousarray(w.W_hr.T)
    dh_next, dc_next = np.empty((P, 0), dtype), np.empty((H, 0), dtype)
    gradients: dict[str, np.ndarray] = {}
    for segment in reversed(cache.segments):
        if isinstance(segment, Start):
            assert prepared is not None
            segment = segment_forward(prepared, x, packing, segment, False)
        rows = packing.rows(segment.steps)
        n = packing.batch_sizes[segment.steps.start]
        dy_columns = _columns(P, rows.stop - rows.start, n, dtype)
        dy_columns[...] = dy[rows].T
        da, dh = _columns(G, rows.stop - rows.start, n, dtype), dy_columns
        for run in reversed(segment.runs):
            first, n = packing.starts[run.steps.start] - rows.start, run.c.shape[2]
            dh_next = _widen(dh_next, dh_n, n)
            dc_next = _widen(dc_next, dc_n, n)
            s = len(run.steps)
            dc = np.empty((s, H, n), dtype) if keep_steps else None
            _run_backward(
                w,
                W_hh_T,
                W_hr_T,
                run,
                _steps(dh, first, s, n),
                _steps(da, first, s, n),
                dh_next,
                dc_next,
                dc,
            )
            if kept is not None and dc is not None:
                kept.dc[packing.rows(run.steps)] = dc.transpose(0, 2, 1).reshape(s * n, H)
        if kept is not None:
            kept.dh[rows], kept.da[rows] = dh.T, da.T
        for name, part in weight_gradients(w, packing, x, segment, da, dh).items():
            if name in gradients:
                gradients[name] += part
            else:
                gradients[name] = part
        if dx is not None:
            np.matmul(da.T, w.W_ih, out=dx[rows])  # (14)
    return LayerGradients(gradients, dx, dh_next.T.copy(), dc_next.T.copy(), kept)


def _run_backward(
    w: CellWeights,
    W_hh_T: np.ndarray,
    W_hr_T: np.ndarray | None,
    run: Run,
    dh: np.ndarray,
    da: np.ndarray,
    dh_next: np.ndarray,
    dc_next: np.ndarray,
    dc: np.ndarray | None,
) -> None:
    """The time loop. dh [s, P, n] holds dy and becomes the total; da [s, G, n] and dc are written.

    The carries dh_next and dc_next come in from the step after and leave for the step before.
    """
    factors = _factors(w, run)
    s, K, (H, n) = len(run.steps), 3 if w.coupled else 4, dc_next.shape
    d = np.empty((K + 2, H, n), dc_next.dtype)  # dc_prev; da of i, (f), g, o; dc
    dc_t, da_t = d[-1], d[1:-1].reshape(K * H, n)
    by_dc, by_dm = d[:K], d[K:]
    d[0] = dc_next
    dm = np.empty((H, n), dc_next.dtype)
    views = zip(dh[::-1], da[::-1], factors[::-1, :K], factors[::-1, K:], strict=True)
    for k, (dh_t, da_out, dc_factors, dm_factors) in enumerate(views):
        np.add(dh_t, dh_next, out=dh_t)
        if W_hr_T is None:
            np.multiply(dh_t, dm_factors, out=by_dm)  # (8), and dm's part of (9)
        else:
            np.matmul(W_hr_T, dh_t, out=dm)  # (22)
            np.multiply(dm, dm_factors, out=by_dm)  # (8), and dm's part of (9)
        np.add(dc_t, d[0], out=dc_t)  # (9)
        if w.W_ch is not None:
            dc_t += d[K] * w.W_ch[-1][:, None]  # (23)
        np.multiply(dc_t, dc_factors, out=by_dc)  # (10) to (12), (24), and dc_prev of (14)
        if w.W_ch is not None:
            d[0] += (d[1 : K - 1] * w.W_ch[:-1, :, None]).sum(axis=0)  # (23)
        np.matmul(W_hh_T, da_t, out=dh_next)  # (14)
        np.copyto(da_out, da_t)
        if dc is not None:
            dc[s - 1 - k] = dc_t
    dc_next[...] = d[0]


def _factors(w: CellWeights, run: Run) -> Shaped[np.ndarray, "s factors H n"]:
    """What the forward pass fixes of (8) to (12): dc/dc_prev, da_i/dc, (da_f/dc), da_g/dc, da_o/dm,
    dc/dm."""
    gates, c_prev = run.gates, run.c[:-1]
    s, _, H, n = gates.shape
    K = 3 if w.coupled else 4
    factors = np.empty((s, K + 2, H, n), gates.dtype)
    slopes = 1 - gates[:, :3]
    slopes *= gates[:, :3]  # sigmoid' of f, i, o
    factors[:, 0] = gates[:, 0]  # (14)
    if w.coupled:
        np.multiply(slopes[:, 1], gates[:, 3] - c_prev, out=factors[:, 1])  # (24)
    else:
        np.multiply(slopes[:, 1], gates[:, 3], out=factors[:, 1])  # (10)
        np.multiply(slopes[:, 0], c_prev, out=factors[:, 2])  # (11)
    np.multiply(slopes[:, 2], gates[:, 4], out=factors[:, K])  # (8)
    squares = gates[:, 3:] * gates[:, 3:]
    np.subtract(1, squares, out=squares)  # tanh' of g, c
    np.multiply(squares, gates[:, 1:3], out=factors[:, K - 1 :: 2])  # (12), (9)
    return factors


def weight_gradients(
    w: CellWeights,
    packing: Packing,
    x: np.ndarray,
    segment: Segment,
    da: Shaped[np.ndarray, "G m"],
    dh: Shaped[np.ndarray, "P m"],
) -> dict[str, np.ndarray]:
    """(13), (22) and (23): the sum over a segment's tokens."""
    h_prev = _previous(packing, segment)
    # Products with ones: BLAS sums in several lanes, faster and more exactly than sum(axis=1).
    gradients = {
        "weight_ih": _input_weight_gradient(w, x[packing.rows(segment.steps)], da),  # (13)
        "weight_hh": da @ h_prev.T,  # (13)
    }
    if w.b is not None:
        gradients["bias"] = da @ np.ones(da.shape[1], da.dtype)  # (13)
    if w.W_hr is not None:
        m = np.concatenate([_flat(run.gates[:, 2] * run.gates[:, 4]) for run in segment.runs], 1)
        gradients["weight_hr"] = dh @ m.T  # (22)
    if w.W_ch is not None:
        c_prev = np.concatenate([_flat(run.c[:-1]) for run in segment.runs], axis=1)
        c = np.concatenate([_flat(run.c[1:]) for run in segment.runs], axis=1)
        blocks = da.reshape(-1, len(c), da.shape[1])
        read = [c_prev] * (len(w.W_ch) - 1) + [c]
        gates = [*range(len(w.W_ch) - 1), -1]
        gradients["weight_ch"] = np.stack(
            [np.einsum("hm,hm->h", blocks[k], r) for k, r in zip(gates, read, strict=True)]
        )  # (23)
    return gradients


def _previous(packing: Packing, segment: Segment) -> Shaped[np.ndarray, "P m"]:
    """The hidden state that each token's step read."""
    steps, sizes = segment.steps, packing.batch_sizes
    if sizes[steps[0]] == sizes[steps[-1]]:
        return segment.h[:, : len(steps) * sizes[steps[0]]]
    return np.concatenate([segment.h[:, _reads(packing, steps, t)] for t in steps], axis=1)


def _reads(packing: Packing, steps: range, t: int) -> slice:
    """Columns of `Segment.h` that step t reads: the step before, of the sequences still alive."""
    first = 0
    if t > steps.start:
        tokens = packing.starts[t - 1] - packing.starts[steps.start]
        first = packing.batch_sizes[steps.start] + tokens
    return slice(first, first + packing.batch_sizes[t])


def _input_part(prepared: Prepared, x: np.ndarray, n: int) -> Shaped[np.ndarray, "G m"]:
    """W_ih x + b of (1) for all tokens. A one-hot x picks a column of W_ih."""
    W_ih = prepared.W_ih
    a = _columns(len(W_ih), len(x), n, W_ih.dtype)
    if x.dtype.kind in "iu":
        np.take(W_ih, x, axis=1, out=a)
    else:
        np.matmul(W_ih, x.T, out=a)
    if prepared.b is not None:
        a += prepared.b
    return a


def _input_weight_gradient(w: CellWeights, x: np.ndarray, da: np.ndarray) -> np.ndarray:
    """dW_ih of (13). For one-hot x the sum runs over the tokens of each symbol."""
    if x.dtype.kind not in "iu":
        return da @ x
    one_hot_T = scipy.sparse.csr_array(
        (np.ones(len(x), da.dtype), x, np.arange(len(x) + 1)), shape=(len(x), w.W_ih.shape[1])
    ).T
    return np.ascontiguousarray(cast(np.ndarray, one_hot_T @ da.T).T)


def _columns(features: int, tokens: int, n: int, dtype: np.dtype) -> np.ndarray:
    """An empty [features, tokens] whose steps of n columns are as contiguous as may be."""
    return np.empty((tokens, features), dtype).T if n == 1 else np.empty((features, tokens), dtype)


def _steps(columns: np.ndarray, first: int, s: int, n: int) -> Shaped[np.ndarray, "s F n"]:
    """View of s steps of n columns each."""
    part = columns[:, first : first + s * n]
    return part.reshape(len(part), s, n, copy=False).transpose(1, 0, 2)


def _flat(blocks: Shaped[np.ndarray, "s F n"]) -> Shaped[np.ndarray, "F m"]:
    """Steps side by side: the inverse of `_steps`, a copy."""
    return blocks.transpose(1, 0, 2).reshape(blocks.shape[1], -1)


def _widen(
    carry: Shaped[np.ndarray, "F alive"], final: Shaped[np.ndarray, "N F"], n: int
) -> Shaped[np.ndarray, "F n"]:
    """The carry, with the gradients of the final states of the sequences that end here."""
    return np.concatenate([carry, final[carry.shape[1] : n].T], axis=1)


def layer_values(cache: LayerCache) -> dict[str, np.ndarray]:
    """Packed i, f, g, o, c and h of every token; and a_i ..., where `layer_forward` kept them."""
    coupled = cache.weights.coupled
    collected: dict[str, list[np.ndarray]] = {}
    for segment in cache.segments:
        assert isinstance(segment, Segment), "the values of a recomputed segment are not kept"
        n = cache.packing.batch_sizes[segment.steps.start]
        collected.setdefault("h", []).append(segment.h[:, n:])
        for run in segment.runs:
            values = dict(zip("fiogt", run.gates.swapaxes(0, 1), strict=True)) | {"c": run.c[1:]}
            del values["t"]  # tanh(c)
            if run.a is not None:
                s, G, n = run.a.shape
                a = run.a.reshape(s, 3 if coupled else 4, G // (3 if coupled else 4), n)
                names = ("a_i", "a_o", "a_g") if coupled else ("a_f", "a_i", "a_o", "a_g")
                for name, block in zip(names, a.swapaxes(0, 1), strict=True):
                    values[name] = block if name == "a_g" else -block  # `Prepared` negated them
            for name, blocks in values.items():
                collected.setdefault(name, []).append(_flat(blocks))
    return {name: np.concatenate(parts, axis=1).T for name, parts in collected.items()}


def step_weight_gradients(cache: LayerCache, steps: StepGradients, t: int) -> dict[str, np.ndarray]:
    """Step t's own contribution to `LayerGradients.weights`, by the same code."""
    segment = next(s for s in cache.segments if t in s.steps)
    assert isinstance(segment, Segment), "the values of a recomputed segment are not kept"
    run = next(run for run in segment.runs if t in run.steps)
    k = t - run.steps.start
    only = Run(range(t, t + 1), run.gates[k : k + 1], run.c[k : k + 2], None)
    rows, first = cache.packing.rows(only.steps), cache.packing.starts[segment.steps.start]
    n = cache.packing.batch_sizes[segment.steps.start]
    h_prev = segment.h[:, _reads(cache.packing, segment.steps, t)]
    h_t = segment.h[:, n + rows.start - first : n + rows.stop - first]
    one = Segment(only.steps, np.concatenate([h_prev, h_t], axis=1), (only,))
    return weight_gradients(
        cache.weights, cache.packing, cache.x, one, steps.da[rows].T, steps.dh[rows].T
    )
