"""Faults of the forward pass, the loss and the backward pass, as edits of the real code.

Numbers of equations are those of `cell.py` and docs/derivation.md. Where a bug was seen in public
code, repository and issue are named; the rest are the neighbouring slips.
"""

from collections.abc import Callable
from itertools import permutations
from typing import Any

from numpy_lstm.activations import log_softmax
from numpy_lstm.cell import cell_backward, cell_forward
from numpy_lstm.config import LSTM, named_gradients
from numpy_lstm.language_model import head_backward, project
from numpy_lstm.loss import cross_entropy_backward, cross_entropy_forward
from numpy_lstm.unrolled import unrolled_backward, unrolled_forward
from torch_oracle.diagnose.faults.fault import Fault, Stage
from torch_oracle.diagnose.injection import Edit
from torch_oracle.proof.numpy_trace import plain_language_model

NOTEBOOK = "nicklashansen/rnn_lstm_from_scratch, the notebook"
NOTEBOOK_1 = f"{NOTEBOOK} (issue 1)"
CAPTAIN = "CaptainE/RNN-LSTM-in-numpy issue 1"
GATES = "ifgo"
LAST, BEFORE = -1, -2


def _maker(stage: Stage, function: Callable[..., Any]) -> Callable[..., Fault]:
    """Faults of one function: id, equation, right, wrong, first tensor, its step, fix, source."""

    def fault(
        id: str,
        equation: str,
        right: str,
        wrong: str,
        tensor: str,
        step: int | None,
        fix: str,
        seen: str = "",
        also: tuple[Edit, ...] = (),
    ) -> Fault:
        edits = (Edit(function, right, wrong), *also)
        return Fault(id, stage, equation, edits, (tensor, step), fix, seen)

    return fault


_forward = _maker("forward", cell_forward)
_loop_forward = _maker("forward", unrolled_forward)
_backward = _maker("backward", cell_backward)
_loop_backward = _maker("backward", unrolled_backward)
_loss = _maker("loss", cross_entropy_forward)
_dlogits = _maker("loss", cross_entropy_backward)
_scale = _maker("loss", head_backward)
_model = _maker("loss", plain_language_model)

SPLIT = "a_i, a_f, a_g, a_o = np.split"
JOIN = "da = np.concatenate([da_i, da_f, da_g, da_o], axis=-1)"
BLOCKS_T = "np.concatenate([block.T for block in np.split(W_hh, 4)])"


def _hard(gate: str, number: str, slope: str) -> Edit:
    line = f"{slope} * a_{gate}"
    wrong = f"np.where({line} > 0.5, 1, np.where({line} < -0.5, 0, {line} + 0.5))"
    return Edit(cell_forward, f"{gate} = sigmoid(a_{gate})  # {number}", f"{gate} = {wrong}")


SIGMOIDS = {"i": "(2)", "f": "(3)", "o": "(5)"}


FORWARD = (
    _forward(
        "bias-missing",
        "(1)",
        "W_hh.T + b",
        "W_hh.T + 0 * b",
        "a_i",
        0,
        "Add the bias: a = W_ih x + W_hh h_prev + b.",
    ),
    _forward(
        "bias-doubled",
        "(1)",
        "W_hh.T + b",
        "W_hh.T + 2 * b",
        "a_i",
        0,
        "Add each bias once: a = W_ih x + W_hh h_prev + b.",
    ),
    _forward(
        "bias-of-o-in-other-gates",
        "(1)",
        "W_hh.T + b",
        "W_hh.T + np.concatenate([np.split(b, 4)[k] for k in (3, 3, 2, 3)])",
        "a_i",
        0,
        "Give each gate its own bias: b_i to a_i, b_f to a_f, b_o to a_o.",
        "ddbourgin/numpy-ml issue 42",
    ),
    Fault(
        "b-hh-dropped",
        "forward",
        "(1)",
        (Edit(LSTM.cell_weights, "weight = weight + part", "pass"),),
        ("a_i", 0),
        "Add both of PyTorch's biases: b = b_ih + b_hh.",
    ),
    Fault(
        "b-ih-added-twice",
        "forward",
        "(1)",
        (Edit(LSTM.cell_weights, "weight = weight + part", "weight = weight + weight"),),
        ("a_i", 0),
        "Add each of PyTorch's biases once: b = b_ih + b_hh.",
    ),
    _forward(
        "W-hh-transposed",
        "(1)",
        "h_prev @ W_hh.T",
        f"h_prev @ {BLOCKS_T}.T",
        "a_i",
        0,
        "Multiply by each gate's W_hh block itself, not by its transpose.",
    ),
    _loop_forward(
        "h0-at-every-step",
        "(1)",
        "x[t], h[t], c[t])",
        "x[t], h[0], c[t])",
        "a_i",
        1,
        "Step t reads the hidden state of step t - 1, not the initial one.",
    ),
    _loop_forward(
        "c0-at-every-step",
        "(6)",
        "x[t], h[t], c[t])",
        "x[t], h[t], c[0])",
        "c",
        1,
        "Step t reads the cell state of step t - 1, not the initial one.",
    ),
    _forward(
        "c-with-i-and-f-exchanged",
        "(6)",
        "c = f * c_prev + i * g  # (6)",
        "c = i * c_prev + f * g",
        "c",
        0,
        "The forget gate scales the old state: c = f * c_prev + i * g.",
    ),
    _forward(
        "c-without-input-gate",
        "(6)",
        "c = f * c_prev + i * g  # (6)",
        "c = f * c_prev + g",
        "c",
        0,
        "The input gate scales the candidate: c = f * c_prev + i * g.",
    ),
    _forward(
        "h-without-tanh",
        "(7)",
        "h = o * tanh(c)  # (7)",
        "h = o * c",
        "h",
        0,
        "Pass the cell state through tanh: h = o * tanh(c).",
        "nicodjimenez/lstm issue 47",
    ),
    _forward(
        "h-with-tanh-twice",
        "(7)",
        "h = o * tanh(c)  # (7)",
        "h = o * tanh(tanh(c))",
        "h",
        0,
        "Apply tanh once: h = o * tanh(c).",
    ),
    _forward(
        "h-from-c-prev",
        "(7)",
        "h = o * tanh(c)  # (7)",
        "h = o * tanh(c_prev)",
        "h",
        0,
        "Read the new cell state: h = o * tanh(c).",
    ),
    _forward(
        "tanh-of-c-carried-on",
        "(7)",
        "return (h, c), Cache",
        "return (h, tanh(c)), Cache",
        "c",
        1,
        "Carry c itself to the next step; tanh(c) is for h alone.",
    ),
    _forward(
        "states-exchanged",
        "(7)",
        "return (h, c), Cache",
        "return (c, h), Cache",
        "h",
        0,
        "Return and carry the states as (h, c).",
    ),
    _forward(
        "g-through-sigmoid",
        "(4)",
        "g = tanh(a_g)  # (4)",
        "g = sigmoid(a_g)",
        "g",
        0,
        "The candidate goes through tanh: g = tanh(a_g).",
    ),
    _forward(
        "g-without-tanh",
        "(4)",
        "g = tanh(a_g)  # (4)",
        "g = a_g",
        "g",
        0,
        "The candidate goes through tanh: g = tanh(a_g).",
    ),
    _forward(
        "forget-bias-added-again",
        "(3)",
        "f = sigmoid(a_f)  # (3)",
        "f = sigmoid(a_f + 1)",
        "f",
        0,
        "Initialise the forget bias to 1, and do not add 1 again in the forward pass.",
    ),
    Fault(
        "hard-sigmoid-0.2",
        "forward",
        "(2)",
        tuple(_hard(gate, number, "0.2") for gate, number in SIGMOIDS.items()),
        ("i", 0),
        "Use the logistic sigmoid 1 / (1 + exp(-a)), not clip(0.2 a + 0.5, 0, 1).",
        "Keras before version 2.3, recurrent_activation",
    ),
    Fault(
        "hard-sigmoid-1/6",
        "forward",
        "(2)",
        tuple(_hard(gate, number, "1 / 6") for gate, number in SIGMOIDS.items()),
        ("i", 0),
        "Use the logistic sigmoid 1 / (1 + exp(-a)), not clip(a / 6 + 0.5, 0, 1).",
    ),
    _forward(
        "input-gate-coupled",
        "(2)",
        "i = sigmoid(a_i)  # (2)",
        "i = 1 - sigmoid(a_f)",
        "i",
        0,
        "The input gate has its own pre-activation: i = sigmoid(a_i), not 1 - f.",
    ),
    _loop_forward(
        "mask-not-applied-to-c",
        "lengths",
        "c.append(np.where(alive, c_t, c[t]))",
        "c.append(c_t)",
        "c_n",
        None,
        "Where a sequence has ended, keep c as well as h.",
    ),
    _loop_forward(
        "mask-not-applied-to-h",
        "lengths",
        "h.append(np.where(alive, h_t, h[t]))",
        "h.append(h_t)",
        "h_n",
        None,
        "Where a sequence has ended, keep h as well as c.",
    ),
    _loop_forward(
        "mask-not-applied-to-outputs",
        "lengths",
        "y.append(np.where(alive, h_t, 0))",
        "y.append(h_t)",
        "y",
        None,
        "Outputs beyond a sequence's length are zero.",
    ),
    _loop_forward(
        "mask-zeroes-the-state",
        "lengths",
        "h.append(np.where(alive, h_t, h[t]))",
        "h.append(np.where(alive, h_t, 0))",
        "h_n",
        None,
        "Where a sequence has ended, keep its last state; do not set it to zero.",
        also=(Edit(unrolled_forward, "np.where(alive, c_t, c[t])", "np.where(alive, c_t, 0)"),),
    ),
    Fault(
        "projection-bias-missing",
        "forward",
        "(15)",
        (Edit(project, 'logits += parameters["projection.bias"]', "pass"),),
        ("logits", 0),
        "Add the output bias: logits = W_v h + b_v.",
    ),
)

LOSS = (
    _loss(
        "loss-mean-over-vocabulary",
        "(16)",
        "losses = -log_probabilities[np.arange(len(targets)), targets]",
        "losses = -log_probabilities[np.arange(len(targets)), targets] / V",
        "loss",
        0,
        "The loss is -log p[target]: a mean over the one-hot vector divides it by V.",
        NOTEBOOK,
    ),
    _loss(
        "loss-in-bits",
        "(16)",
        "losses = -log_probabilities[np.arange(len(targets)), targets]",
        "losses = -log_probabilities[np.arange(len(targets)), targets] / np.log(2)",
        "loss",
        0,
        "The loss is in nats: use the natural logarithm.",
    ),
    *(
        _loss(
            f"eps-{eps}-inside-log",
            "(16)",
            "losses = -log_probabilities[np.arange(len(targets)), targets]",
            "losses = -np.log("
            f"np.exp(log_probabilities[np.arange(len(targets)), targets]) + {eps})",
            "loss",
            0,
            "Compute log-softmax with a shift by the maximum, and add nothing inside the log.",
            "the seed script's review" if eps == "1e-12" else "",
        )
        for eps in ("1e-12", "1e-10", "1e-8", "1e-7")
    ),
    _loss(
        "log-of-softmax",
        "(16)",
        "losses = -log_probabilities[np.arange(len(targets)), targets]",
        "losses = -np.log(np.exp(log_probabilities)[np.arange(len(targets)), targets])",
        "loss",
        0,
        "Compute log-softmax at once: a probability below 1e-308 is 0, and its log infinite.",
    ),
    Fault(
        "softmax-without-shift",
        "loss",
        "(16)",
        (Edit(log_softmax, "logits - np.real(logits).max(axis=-1, keepdims=True)", "logits - 0"),),
        ("loss", 0),
        "Subtract the largest logit before exp: it overflows above 709 (88 in float32).",
    ),
    _dlogits(
        "gradient-divided-by-vocabulary",
        "(17)",
        "dlogits *= dlosses[:, None]",
        "dlogits *= dlosses[:, None] / dlogits.shape[1]",
        "dlogits",
        LAST,
        "The gradient of -log p[target] is softmax - one_hot; nothing divides it by V.",
        NOTEBOOK,
    ),
    _dlogits(
        "one-hot-not-subtracted",
        "(17)",
        "dlogits[np.arange(len(cache.targets)), cache.targets] -= 1",
        "pass",
        "dlogits",
        LAST,
        "The gradient of the loss is softmax(logits) - one_hot(target).",
    ),
    _scale(
        "gradient-divided-by-tokens-twice",
        "(17)",
        "np.full(M, dloss, dtype)",
        "np.full(M, dloss / M, dtype)",
        "dlogits",
        LAST,
        "Divide by the number of tokens once, in the loss or in the gradient.",
    ),
    _scale(
        "gradient-of-the-sum",
        "(17)",
        "np.full(M, dloss, dtype)",
        "np.full(M, dloss * M, dtype)",
        "dlogits",
        LAST,
        "Loss and gradient in the same unit: the gradient of a mean over tokens is divided too.",
        NOTEBOOK,
    ),
    _model(
        "gradient-per-sequence",
        "(17)",
        "head_backward(p.dloss, ",
        "head_backward(p.dloss * len(losses) / packing.N, ",
        "dlogits",
        LAST,
        "Divide by the real tokens and not by the sequences, as the loss does.",
    ),
    _model(
        "gradient-divided-by-padded-tokens",
        "(17)",
        "head_backward(p.dloss, ",
        "head_backward(p.dloss * len(losses) / (packing.T * packing.N), ",
        "dlogits",
        LAST,
        "Divide by the real tokens, not by T * N with the padding.",
    ),
    _model(
        "W-v-gradient-from-h-prev",
        "(18)",
        "projection_gradients(dlogits, packing.pack(y))",
        "projection_gradients(dlogits, packing.pack(cache.directions[-1].h[:-1]))",
        "dW_v",
        None,
        "dW_v sums dlogits h_t^T with the h that made the logits; states stored from the initial"
        " one on are shifted by one.",
        NOTEBOOK_1,
    ),
)


def _slopes() -> tuple[Fault, ...]:
    """Wrong derivatives of each sigmoid gate, with s the gate's output."""
    equations = {"i": "(10)", "f": "(11)", "o": "(8)"}
    variants = {
        "missing": ("1", {"f": "the seed script"}),
        "is-sigmoid": ("sigmoid({s})", {"f": f"{CAPTAIN}; {NOTEBOOK_1}"}),
        "of-the-output": (
            "(sigmoid({s}) * (1 - sigmoid({s})))",
            dict.fromkeys("io", NOTEBOOK),
        ),
        "with-plus": ("({s} * (1 + {s}))", {}),
        "without-1-s": ("{s}", {}),
        "of-tanh": ("(1 - {s}**2)", {}),
    }
    faults = []
    for gate, equation in equations.items():
        for name, (wrong, seen) in variants.items():
            right = f"({gate} * (1 - {gate}))"
            fix = (
                f"The stored {gate} is the sigmoid's output already: multiply by"
                f" {gate} * (1 - {gate})."
            )
            wrong = wrong.format(s=gate)
            id, source = f"slope-of-{gate}-{name}", seen.get(gate, "")
            faults.append(_backward(id, equation, right, wrong, f"da_{gate}", LAST, fix, source))
    return tuple(faults)


def _gate_left_out(gate: str) -> Fault:
    parts = {each: f"da_{each}" for each in GATES}
    wrong = ", ".join((parts | {gate: f"0 * da_{gate}"}).values())
    return _backward(
        f"dh-prev-without-{gate}",
        "(14)",
        "dh_prev = da @ W_hh",
        f"dh_prev = np.concatenate([{wrong}], axis=-1) @ W_hh",
        "dh",
        BEFORE,
        "Sum dh_prev = da W_hh over all four gates.",
    )


BACKWARD = (
    _backward(
        "c-for-c-prev",
        "(11)",
        "da_f = dc * c_prev",
        "da_f = dc * c",
        "da_f",
        LAST,
        "The forget gate multiplied the state before: da_f = dc * c_prev * f * (1 - f).",
    ),
    _loop_backward(
        "c-prev-shifted",
        "(11)",
        "step = cache.steps[t]",
        "step = cache.steps[t]._replace(c_prev=cache.c[t - 1])",
        "da_f",
        LAST,
        "With the initial state stored at index 0, c_prev of step t is c[t]; c[t - 1] is one too"
        " early and wraps round to the last at t = 0.",
        f"the seed script; {NOTEBOOK_1}",
    ),
    _loop_backward(
        "c-prev-wraps-at-0",
        "(11)",
        "step = cache.steps[t]",
        "step = cache.steps[t]._replace(c_prev=cache.c[t] if t else cache.c[-1])",
        "da_f",
        0,
        "At t = 0 the previous state is the initial one; index -1 is the last step's.",
        "deeplearning.ai community, thread 67533",
    ),
    _loop_backward(
        "c-shifted",
        "(8)",
        "cell_backward(dm, dc, step)",
        "cell_backward(dm, dc, step._replace(c=cache.c[t]))",
        "da_o",
        LAST,
        "With the initial state stored at index 0, the state that step t made is c[t + 1].",
        f"the seed script; {NOTEBOOK_1}",
    ),
    _backward(
        "do-without-tanh",
        "(8)",
        "da_o = dh * tanh(c)",
        "da_o = dh * c",
        "da_o",
        LAST,
        "h = o * tanh(c), so da_o = dh * tanh(c) * o * (1 - o).",
    ),
    _backward(
        "do-from-dc",
        "(8)",
        "da_o = dh * tanh(c)",
        "da_o = (dc_next + dh * o * (1 - tanh(c)**2)) * tanh(c)",
        "da_o",
        LAST,
        "The output gate is reached from h: da_o = dh * tanh(c) * o * (1 - o), without dc.",
    ),
    _backward(
        "tanh-twice-in-dc",
        "(9)",
        "(1 - tanh(c) ** 2)",
        "(1 - tanh(tanh(c)) ** 2)",
        "dc",
        LAST,
        "The derivative of tanh(c) is 1 - tanh(c)^2: tanh is applied once.",
        f"the seed script; {NOTEBOOK_1}",
    ),
    _backward(
        "c-squared-in-dc",
        "(9)",
        "(1 - tanh(c) ** 2)",
        "(1 - c**2)",
        "dc",
        LAST,
        "The derivative of tanh(c) is 1 - tanh(c)^2, not 1 - c^2.",
    ),
    _backward(
        "tanh-slope-missing-in-dc",
        "(9)",
        " * (1 - tanh(c) ** 2)",
        "",
        "dc",
        LAST,
        "dh reaches c through tanh: dc = dc_next + dh * o * (1 - tanh(c)^2).",
    ),
    _backward(
        "o-missing-in-dc",
        "(9)",
        "dh * o * ",
        "dh * ",
        "dc",
        LAST,
        "dh reaches c through the output gate: dc = dc_next + dh * o * (1 - tanh(c)^2).",
    ),
    _backward(
        "dc-assigned",
        "(9)",
        "dc = dc_next + dh",
        "dc = dh",
        "dc",
        LAST,
        "Add to the carry, do not replace it: dc = dc_next + dh * o * (1 - tanh(c)^2).",
        "apache/mxnet issue 4057",
    ),
    _backward(
        "dc-next-added-twice",
        "(9)",
        "dc = dc_next + dh",
        "dc = 2 * dc_next + dh",
        "dc",
        LAST,
        "Add dc_next once: dc = dc_next + dh * o * (1 - tanh(c)^2).",
    ),
    _backward(
        "di-from-i",
        "(10)",
        "da_i = dc * g",
        "da_i = dc * i",
        "da_i",
        LAST,
        "c = f * c_prev + i * g, so da_i = dc * g * i * (1 - i).",
    ),
    _backward(
        "dg-from-g",
        "(12)",
        "da_g = dc * i",
        "da_g = dc * g",
        "da_g",
        LAST,
        "c = f * c_prev + i * g, so da_g = dc * i * (1 - g^2).",
    ),
    _backward(
        "di-and-dg-exchanged",
        "(10)",
        "da_i = dc * g",
        "da_i = dc * i",
        "da_i",
        LAST,
        "di has the factor g and dg the factor i: da_i = dc * g * i * (1 - i),"
        " da_g = dc * i * (1 - g^2).",
        also=(Edit(cell_backward, "da_g = dc * i", "da_g = dc * g"),),
    ),
    _backward(
        "df-from-g",
        "(11)",
        "da_f = dc * c_prev",
        "da_f = dc * g",
        "da_f",
        LAST,
        "c = f * c_prev + i * g, so da_f = dc * c_prev * f * (1 - f).",
    ),
    *_slopes(),
    *(
        _backward(
            f"slope-of-g-{name}",
            "(12)",
            "(1 - g**2)",
            wrong,
            "da_g",
            LAST,
            "The stored g is the tanh's output already: multiply by 1 - g^2.",
            seen,
        )
        for name, wrong, seen in (
            ("missing", "1", ""),
            ("of-the-output", "(1 - tanh(g) ** 2)", NOTEBOOK),
            ("of-sigmoid", "(g * (1 - g))", ""),
            ("without-square", "(1 - g)", ""),
        )
    ),
    _loop_backward(
        "dh-never-carried",
        "(14)",
        "dh_next = np.where(alive, gradients.dh_prev, dh_next)",
        "pass",
        "dh",
        BEFORE,
        "At the end of each step hand the gradient on: dh_next = dh_prev.",
        f"{NOTEBOOK_1}; {CAPTAIN}",
    ),
    _loop_backward(
        "dc-never-carried",
        "(14)",
        "dc_next = np.where(alive, gradients.dc_prev, dc_next)",
        "pass",
        "dc",
        BEFORE,
        "At the end of each step hand the gradient on: dc_next = dc_prev.",
        f"{NOTEBOOK_1}; {CAPTAIN}",
    ),
    _loop_backward(
        "dh-carry-lost",
        "(14)",
        "dh_next = np.where(alive, gradients.dh_prev, dh_next)",
        "dh_next = np.where(alive, 0, dh_next)",
        "dh",
        BEFORE,
        "At the end of each step hand the gradient on: dh_next = dh_prev.",
    ),
    _loop_backward(
        "dc-carry-lost",
        "(14)",
        "dc_next = np.where(alive, gradients.dc_prev, dc_next)",
        "dc_next = np.where(alive, 0, dc_next)",
        "dc",
        BEFORE,
        "At the end of each step hand the gradient on: dc_next = dc_prev.",
    ),
    _loop_backward(
        "dh-next-not-added",
        "(14)",
        "dy[t] + dh_next",
        "dy[t] + 0 * dh_next",
        "dh",
        LAST,
        "h_t feeds the output and the next step: dh = dy + dh_next.",
    ),
    _loop_backward(
        "dh-next-added-twice",
        "(14)",
        "dy[t] + dh_next",
        "dy[t] + 2 * dh_next",
        "dh",
        LAST,
        "Add dh_next once: dh = dy + dh_next.",
    ),
    _backward(
        "dh-prev-with-W-hh-transposed",
        "(14)",
        "dh_prev = da @ W_hh",
        f"dh_prev = da @ {BLOCKS_T}",
        "dh",
        BEFORE,
        "dh_prev = W_hh^T da with each gate's block; the forward pass uses W_hh, so do not"
        " transpose twice.",
    ),
    *(_gate_left_out(gate) for gate in GATES),
    _backward(
        "dc-prev-without-f",
        "(14)",
        "dc_prev = dc * f",
        "dc_prev = dc",
        "dc",
        BEFORE,
        "The state went through the forget gate: dc_prev = dc * f.",
    ),
    _loop_backward(
        "dc-prev-with-next-f",
        "(14)",
        "np.where(alive, gradients.dc_prev, dc_next)",
        "np.where(alive, gradients.dc * cache.steps[min(t + 1, len(dy) - 1)].f, dc_next)",
        "dc",
        -3,
        "dc_prev = dc * f with the forget gate of the same step, not of the next.",
    ),
    _loop_backward(
        "dc-prev-with-previous-f",
        "(14)",
        "np.where(alive, gradients.dc_prev, dc_next)",
        "np.where(alive, gradients.dc * cache.steps[t - 1].f, dc_next)",
        "dc",
        BEFORE,
        "dc_prev = dc * f with the forget gate of the same step, not of the previous.",
    ),
    _backward(
        "dc-prev-with-i",
        "(14)",
        "dc_prev = dc * f",
        "dc_prev = dc * i",
        "dc",
        BEFORE,
        "The old state went through the forget gate: dc_prev = dc * f.",
    ),
    _backward(
        "dc-prev-from-dc-next",
        "(14)",
        "dc_prev = dc * f",
        "dc_prev = dc_next * f",
        "dc",
        BEFORE,
        "Hand on all of dc, with what came through h: dc_prev = dc * f.",
    ),
    _loop_backward(
        "carries-cut-after-two-steps",
        "(14)",
        "dh = np.where(alive, dy[t] + dh_next, 0)",
        "dh = np.where(alive, dy[t] + dh_next * (t != len(dy) - 3), 0)",
        "dh",
        -3,
        "Carry dh_next and dc_next through every step down to the first.",
        also=(
            Edit(
                unrolled_backward,
                "dc = np.where(alive, dc_next, 0)",
                "dc = np.where(alive, dc_next, 0) * (t != len(dy) - 3)",
            ),
        ),
    ),
    _backward(
        "W-hh-gradient-from-h",
        "(13)",
        "dW_hh = da.T @ h_prev",
        "dW_hh = da.T @ (o * tanh(c))",
        "dW_hh",
        LAST,
        "W_hh multiplied the state before: dW_hh = da^T h_prev.",
    ),
    _loop_backward(
        "weight-gradients-assigned",
        "(13)",
        "parts[::-1].sum(axis=0)",
        '(parts[0] if name in ("W_ih", "W_hh") else parts[::-1].sum(axis=0))',
        "dW_ih",
        None,
        "Add up over the steps: dW += da^T x, with += and not =.",
    ),
    _loop_backward(
        "bias-gradient-assigned",
        "(13)",
        "parts[::-1].sum(axis=0)",
        '(parts[0] if name == "b" else parts[::-1].sum(axis=0))',
        "db",
        None,
        "Add up over the steps: db += da, with += and not =.",
    ),
    _backward(
        "bias-gradient-mean-over-batch",
        "(13)",
        "db = da.sum(axis=0)",
        "db = da.mean(axis=0)",
        "db",
        LAST,
        "Sum over the batch as in dW: db = sum of da.",
    ),
    _backward(
        "bias-gradient-doubled",
        "(13)",
        "db = da.sum(axis=0)",
        "db = 2 * da.sum(axis=0)",
        "db",
        LAST,
        "Count the bias's gradient once: db = sum of da.",
    ),
    _backward(
        "bias-gradients-from-da-f",
        "(13)",
        "db = da.sum(axis=0)",
        "db = np.concatenate([da_f, da_f, da_g, da_f], axis=-1).sum(axis=0)",
        "db",
        LAST,
        "Each gate's bias has its own gate's gradient: db_i from da_i, db_o from da_o.",
        "hanbt/learn_dl issue 53",
    ),
    Fault(
        "b-hh-gradient-missing",
        "backward",
        "(13)",
        (Edit(named_gradients, "gradient.copy()", 'gradient * (parameter != "bias_hh")'),),
        ("db_hh", LAST),
        "Both of PyTorch's biases have the gradient sum of da.",
    ),
    _backward(
        "embedding-gradient-loses-repeats",
        "(13)",
        "dW_ih = da.T @ x",
        "dW_ih = np.where(x.any(0), da[len(da) - 1 - (x[::-1] != 0).argmax(0)].T, 0)",
        "dW_ih",
        LAST,
        "Where a token is repeated in the batch, add up all its gradients: np.add.at(dE, ids, d),"
        " not dE[ids] += d.",
        "HIPS/autograd issue 39",
    ),
    _loop_backward(
        "embedding-gradient-assigned",
        "(13)",
        "parts[::-1].sum(axis=0)",
        "(np.sum([np.where(s.x.any(0) & ~np.any([r.x.any(0) for r in cache.steps[:t]], axis=0),"
        ' parts[t], 0) for t, s in enumerate(cache.steps)], axis=0) if name == "W_ih"'
        " else parts[::-1].sum(axis=0))",
        "dW_ih",
        None,
        "Add to the embedding's gradient at every step: dE[id] += d, not dE[id] = d.",
    ),
    _loop_backward(
        "mask-without-pass-through",
        "lengths",
        "dh_next = np.where(alive, gradients.dh_prev, dh_next)",
        "dh_next = np.where(alive, gradients.dh_prev, 0)",
        "dh",
        BEFORE,
        "Where a sequence has ended the state was passed on, so is its gradient: keep dh_next"
        " and dc_next.",
        also=(
            Edit(
                unrolled_backward,
                "dc_next = np.where(alive, gradients.dc_prev, dc_next)",
                "dc_next = np.where(alive, gradients.dc_prev, 0)",
            ),
        ),
    ),
    _loop_backward(
        "dh-n-ignored",
        "(9)",
        "dh_next, dc_next = dh_n, dc_n",
        "dh_next, dc_next = 0 * dh_n, dc_n",
        "dh",
        LAST,
        "The carry begins with the gradient of the last hidden state: dh_next = dh_n.",
    ),
    _loop_backward(
        "dc-n-ignored",
        "(9)",
        "dh_next, dc_next = dh_n, dc_n",
        "dh_next, dc_next = dh_n, 0 * dc_n",
        "dc",
        LAST,
        "The carry begins with the gradient of the last cell state: dc_next = dc_n.",
        "deeplearning4j/deeplearning4j issue 8838",
    ),
)


def _in_order(names: str, prefix: str) -> str:
    return ", ".join(f"{prefix}{gate}" for gate in names)


def _orders() -> tuple[Fault, ...]:
    """Every wrong gate order: of the forward pass, of its gradients, and of both alike."""
    seen = {"iofg": "CrispASR issue 106"}
    faults = []
    for names in permutations(GATES):
        order = "".join(names)
        if order == GATES:
            continue
        moved = [gate for gate, other in zip("ifg", order, strict=False) if gate != other]
        split = Edit(cell_forward, SPLIT, f"{_in_order(order, 'a_')} = np.split")
        renamed = f"da_i, da_f, da_g, da_o = {_in_order(order, 'da_')}"
        join = Edit(cell_backward, JOIN, f"{renamed}; {JOIN}")
        first_value = ("a_" + (moved[0] if moved else "o"), 0)
        first_gradient = ("da_" + ("o" if order[3] != "o" else moved[0]), LAST)
        blocks = "W_ih, W_hh and b hold their blocks in the order i, f, g, o"
        faults += [
            Fault(
                f"gates-read-as-{order}",
                "forward",
                "(1)",
                (split,),
                first_value,
                f"{blocks}; the forward pass reads them as {', '.join(order)}.",
                seen.get(order, ""),
            ),
            Fault(
                f"gates-and-gradients-as-{order}",
                "forward",
                "(1)",
                (split, join),
                first_value,
                f"{blocks}; forward and backward pass take them for {', '.join(order)}.",
            ),
            Fault(
                f"gradients-joined-as-{order}",
                "backward",
                "(13)",
                (join,),
                first_gradient,
                f"Join the gates' gradients in the order i, f, g, o, not {', '.join(order)}.",
            ),
        ]
    return tuple(faults)


ORDERS = _orders()
"""Gate orders, as families: 23 permutations in three places."""

ALIASING = (
    _loop_backward(
        "dy-overwritten",
        "(8)",
        "dh = np.where(alive, dy[t] + dh_next, 0)",
        "dy[t] += dh_next; dh = np.where(alive, dy[t], 0)",
        "dy",
        LAST,
        "Leave the caller's gradient as it is: dh = dy + dh_next, in an array of its own.",
        "apache/mxnet issue 18203",
    ),
    _dlogits(
        "cache-overwritten",
        "(17)",
        "dlogits = np.exp(cache.log_probabilities)",
        "dlogits = np.exp(cache.log_probabilities, out=cache.log_probabilities)",
        "dlogits",
        LAST,
        "Leave the cache as it is, so that a second backward pass gives the same gradients.",
        "keras-team/keras issue 20875",
    ),
)
"""Faults that show only afterwards: an argument is changed, or a second backward pass is wrong."""
