"""Faults of training: batches, divisors, carried state, clipping and optimisers, as code edits.

The stages are those in which `stages` judges a training step. Where a bug was seen in public code,
repository and issue are named; the rest are the neighbouring slips.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from numpy_lstm.language_model import language_model_backward
from numpy_lstm.training.clipping import clip_coefficient, clip_global_norm, global_norm
from numpy_lstm.training.loop import (
    apply_gradients,
    batch_gradients,
    clip,
    loss_divisor,
    training_step,
)
from numpy_lstm.training.optimizers import SGD, Adam, AdamW, learning_rate
from torch_oracle.diagnose.faults.fault import Fault
from torch_oracle.diagnose.injection import Edit


@dataclass(frozen=True)
class TrainingFault(Fault):
    """A bug of a training program; `first` is what shows it first in the case `case`."""

    case: str = ""
    """The name of one of `training_cases` in which it is active."""
    needs: str = ""
    """When it is active: what the batches or the recipe must have; empty if always."""


def _fault(
    id: str,
    rule: str,
    edits: tuple[Edit, ...],
    first: tuple[str, int],
    fix: str,
    case: str,
    needs: str = "",
    seen: str = "",
) -> TrainingFault:
    return TrainingFault(id, "training", rule, edits, first, fix, seen, case, needs)


def _edit(function: Callable[..., Any], right: str, wrong: str) -> tuple[Edit]:
    return (Edit(function, right, wrong),)


RAGGED = "sequences of different lengths in a batch"
CARRIED = "batches that continue the one before"
CLIPPING = "gradients whose norm exceeds max_norm"
DECAY = "weight decay above zero"
ADD_OLD = Edit(
    apply_gradients,
    "clipped, coefficients = clip(",
    'for name, old in before.optimizer.get("gradients", {}).items():\n'
    "        gradients[name] += old\n"
    "    clipped, coefficients = clip(",
)
"""Add what the step before left among the optimiser's state."""

BATCH = (
    _fault(
        "padding-counted-as-tokens",
        "batch",
        (
            Edit(batch_gradients, "batch.lengths,", "None,"),
            Edit(training_step, "loss_sum / batch.tokens", "loss_sum / batch.inputs.size"),
            Edit(loss_divisor, "batch.tokens if", "batch.inputs.size if"),
        ),
        ("loss", 0),
        "Leave padding out of the mean: sum each sequence's first `length` losses, and divide by"
        " lengths.sum() (in torch, ignore_index or a mask).",
        "sgd",
        RAGGED,
    ),
    _fault(
        "padding-in-the-loss",
        "batch",
        _edit(batch_gradients, "batch.lengths,", "None,"),
        ("loss", 0),
        "Leave padding out: sum the losses of each sequence's first `length` tokens only.",
        "sgd",
        RAGGED,
    ),
    _fault(
        "loss-divided-by-padded-tokens",
        "batch",
        _edit(training_step, "loss_sum / batch.tokens", "loss_sum / batch.inputs.size"),
        ("loss", 0),
        "The loss per token divides by the real tokens, lengths.sum(), not by T * N.",
        "sgd",
        RAGGED,
    ),
    _fault(
        "step-divided-by-padded-tokens",
        "batch",
        _edit(loss_divisor, "batch.tokens if", "batch.inputs.size if"),
        ("gradient", 0),
        "The gradient of the mean divides by the real tokens, lengths.sum(), not by T * N.",
        "sgd",
        f"{RAGGED}; divisor tokens",
    ),
    _fault(
        "loss-per-sequence",
        "batch",
        _edit(training_step, "loss_sum / batch.tokens", "loss_sum / len(batch.lengths)"),
        ("loss", 0),
        "Report the loss per token: divide the sum by lengths.sum(), not by N.",
        "sgd",
    ),
    _fault(
        "loss-per-T-twice",
        "batch",
        _edit(
            training_step,
            "loss_sum / batch.tokens",
            "loss_sum / batch.tokens / len(batch.inputs)",
        ),
        ("loss", 0),
        "A mean over all tokens is already one over the steps: do not divide by T again.",
        "sgd",
    ),
    _fault(
        "loss-of-the-sum",
        "batch",
        _edit(training_step, "loss_sum / batch.tokens", "loss_sum"),
        ("loss", 0),
        "Report the loss per token: divide the sum by lengths.sum().",
        "sgd",
    ),
    _fault(
        "step-per-sequence",
        "batch",
        _edit(loss_divisor, "batch.tokens if", "len(batch.lengths) if"),
        ("gradient", 0),
        "With divisor tokens, divide the gradient of the summed loss by lengths.sum(), not by N.",
        "sgd",
        "divisor tokens",
    ),
    _fault(
        "step-per-token",
        "batch",
        _edit(loss_divisor, "else len(batch.lengths)", "else batch.tokens"),
        ("gradient", 0),
        "With divisor sequences, divide the gradient of the summed loss by N.",
        "momentum",
        "divisor sequences",
    ),
    _fault(
        "step-per-T-twice",
        "batch",
        _edit(batch_gradients, "1.0 / divisor", "1.0 / divisor / len(batch.inputs)"),
        ("gradient", 0),
        "Divide the gradient once, by the tokens or by the sequences, and not by T again.",
        "sgd",
    ),
    _fault(
        "step-of-the-sum",
        "batch",
        _edit(batch_gradients, "1.0 / divisor", "1.0"),
        ("gradient", 0),
        "Divide the gradient of the summed loss by the tokens or the sequences, as the loss.",
        "sgd",
    ),
    _fault(
        "sequences-averaged-for-tokens",
        "batch",
        (
            Edit(
                batch_gradients,
                "outputs.losses.sum()",
                "(cache.packing.unpack(outputs.losses).sum(axis=0) / batch.lengths).mean()"
                " * batch.tokens",
            ),
            Edit(
                language_model_backward,
                "dlogits, dy = head_backward(dloss, cache.parameters, cache.head)\n",
                "dlogits, dy = head_backward(1.0, cache.parameters, cache.head)\n"
                "    ones = cache.packing.unpack(np.ones_like(cache.head.y[:, :1]))\n"
                "    shares = cache.packing.pack(ones / ones.sum(axis=0)) / cache.packing.N\n"
                "    dlogits, dy = dlogits * shares, dy * shares\n",
            ),
        ),
        ("loss", 0),
        "Average over all real tokens of the batch, sum(losses) / lengths.sum(): a mean of the"
        " sequences' own means depends on how they are batched.",
        "sgd",
        RAGGED,
        "facebookresearch/ParlAI issue 623",
    ),
)

STATE = (
    _fault(
        "state-not-reset-at-an-epoch",
        "state",
        _edit(batch_gradients, "before.state if batch.continues else None", "before.state"),
        ("state", 3),
        "Start from zero states where a batch does not continue the one before: at every epoch.",
        "text",
        "more than one epoch, or batches that continue nothing",
    ),
    _fault(
        "state-always-reset",
        "state",
        _edit(batch_gradients, "before.state if batch.continues else None", "None"),
        ("state", 1),
        "Start from the last states of the batch before, where this one continues it.",
        "text",
        CARRIED,
    ),
    _fault(
        "gradients-not-zeroed",
        "gradient",
        (
            ADD_OLD,
            Edit(
                apply_gradients,
                "Position(parameters, optimizer, state)",
                'Position(parameters, {**optimizer, "gradients": clipped}, state)',
            ),
        ),
        ("gradient", 1),
        "Set all gradients to zero before each backward pass (optimizer.zero_grad()): they are"
        " added to what the step before left, clipped.",
        "sgd",
        "more than one step",
    ),
    _fault(
        "unclipped-gradients-not-zeroed",
        "gradient",
        (
            ADD_OLD,
            Edit(
                apply_gradients,
                "Position(parameters, optimizer, state)",
                'Position(parameters, {**optimizer, "gradients": gradients}, state)',
            ),
        ),
        ("gradient", 1),
        "Set all gradients to zero before each backward pass: they are added to those of all"
        " steps before, as they were before clipping.",
        "sgd",
        "more than one step",
    ),
)

CLIP = (
    _fault(
        "clip-per-tensor-for-global",
        "clipping",
        _edit(
            clip,
            'rule = clip_global_norm if recipe.clipping == "global" else clip_each_norm',
            "rule = clip_each_norm",
        ),
        ("clip", 0),
        "One norm over all gradients together, and one coefficient: min(1, max_norm / (norm +"
        " 1e-6)).",
        "sgd",
        f"{CLIPPING}; clipping global",
    ),
    _fault(
        "clip-global-for-per-tensor",
        "clipping",
        _edit(
            clip,
            'rule = clip_global_norm if recipe.clipping == "global" else clip_each_norm',
            "rule = clip_global_norm",
        ),
        ("clip", 0),
        "Each tensor has its own norm and its own coefficient, as the recipe says.",
        "adamw",
        f"{CLIPPING}; clipping per_tensor",
    ),
    _fault(
        "clip-by-value",
        "clipping",
        _edit(
            clip_global_norm,
            "{name: coefficient * g for name, g in gradients.items()}",
            "{name: g.clip(-max_norm, max_norm) for name, g in gradients.items()}",
        ),
        ("clip", 0),
        "Scale all gradients by one coefficient, min(1, max_norm / (norm + 1e-6)); cutting each"
        " element to max_norm changes the direction.",
        "sgd",
        f"{CLIPPING}; clipping global",
    ),
    _fault(
        "clip-never",
        "clipping",
        _edit(
            clip,
            "return rule(gradients, recipe.max_norm)",
            "return gradients, dict.fromkeys(gradients, 1.0)",
        ),
        ("clip", 0),
        "Clip the gradients: scale them by min(1, max_norm / (norm + 1e-6)).",
        "sgd",
        CLIPPING,
    ),
    _fault(
        "clip-after-the-update",
        "clipping",
        _edit(
            apply_gradients,
            "before.parameters, clipped, before.optimizer",
            "before.parameters, gradients, before.optimizer",
        ),
        ("moment", 0),
        "Clip before the optimiser's step, so that it takes the clipped gradients.",
        "momentum",
        CLIPPING,
    ),
    _fault(
        "clip-scales-up",
        "clipping",
        _edit(clip_coefficient, "min(1.0,", "max(0.0,"),
        ("clip", 1),
        "The coefficient is at most 1: min(1, max_norm / (norm + 1e-6)).",
        "sgd",
        "gradients whose norm is below max_norm",
    ),
    _fault(
        "clip-on-the-squared-norm",
        "clipping",
        _edit(global_norm, "float(np.linalg.norm(norms))", "float(np.linalg.norm(norms)) ** 2"),
        ("clip", 0),
        "Divide max_norm by the norm, the root of the sum of squares.",
        "sgd",
        CLIPPING,
    ),
    _fault(
        "clip-without-1e-6",
        "clipping",
        _edit(clip_coefficient, "(norm + 1e-6))\n", "norm)\n"),
        ("clip", 0),
        "Torch's coefficient is min(1, max_norm / (norm + 1e-6)).",
        "sgd",
        f"{CLIPPING}; float64, for it lies below the roundoff of float32",
    ),
)

ADAM = (
    _fault(
        "adam-t-off-by-one",
        "Adam",
        (
            Edit(Adam.update, "(1 - beta1**t)", "(1 - beta1 ** (t + 1))"),
            Edit(Adam.update, "(1 - beta2**t)", "(1 - beta2 ** (t + 1))"),
        ),
        ("update", 0),
        "t counts the steps from 1: the first divides by 1 - beta1 and 1 - beta2.",
        "adam",
        "Adam or AdamW",
    ),
    _fault(
        "adam-without-bias-correction",
        "Adam",
        _edit(
            Adam.update,
            "step_size, root = lr / (1 - beta1**t), math.sqrt(1 - beta2**t)",
            "step_size, root = lr, 1.0",
        ),
        ("update", 0),
        "Divide m by 1 - beta1^t and v by 1 - beta2^t.",
        "adam",
        "Adam or AdamW",
    ),
    _fault(
        "adam-bias-correction-of-m-only",
        "Adam",
        _edit(Adam.update, "math.sqrt(1 - beta2**t)", "1.0"),
        ("update", 0),
        "Divide v too, by 1 - beta2^t.",
        "adam",
        "Adam or AdamW",
    ),
    _fault(
        "adam-eps-inside-the-root",
        "Adam",
        _edit(
            Adam.update,
            "(np.sqrt(v[k]) / root + self.eps)",
            "np.sqrt(v[k] / root**2 + self.eps)",
        ),
        ("update", 0),
        "Add eps to the root: sqrt(v / (1 - beta2^t)) + eps.",
        "adam",
        "Adam or AdamW",
    ),
    _fault(
        "adam-eps-before-the-correction",
        "Adam",
        _edit(
            Adam.update,
            "(np.sqrt(v[k]) / root + self.eps)",
            "((np.sqrt(v[k]) + self.eps) / root)",
        ),
        ("update", 0),
        "Correct first, then add eps: sqrt(v) / sqrt(1 - beta2^t) + eps.",
        "adam",
        "Adam or AdamW",
    ),
    _fault(
        "adam-eps-1e-7",
        "Adam",
        _edit(Adam.update, "self.eps", "1e-7"),
        ("update", 0),
        "Use the recipe's eps (1e-8 in the paper and in torch; Keras has 1e-7).",
        "adam",
        "Adam or AdamW; eps other than 1e-7",
    ),
    _fault(
        "adam-beta2-rounded-to-float32",
        "Adam",
        _edit(Adam.update, "(1 - beta2) * (g * g)", "(1 - g.dtype.type(beta2)) * (g * g)"),
        ("moment", 0),
        "Compute 1 - beta2 in double precision: in float32, 1 - 0.999 is off by 1.3e-5 of itself.",
        "adamw-float32",
        "Adam or AdamW; float32",
    ),
)

DECAYS = (
    _fault(
        "L2-for-decoupled-decay",
        "weight decay",
        _edit(
            AdamW.update,
            "return self._adam.update(decayed, gradients, state, lr)",
            "return Adam(self.lr, self.betas, self.eps, self.weight_decay).update("
            "parameters, gradients, state, lr)",
        ),
        ("moment", 0),
        "AdamW leaves the gradient alone: p = p - lr * weight_decay * p, then Adam's step.",
        "adamw",
        f"AdamW; {DECAY}",
    ),
    _fault(
        "decoupled-decay-for-L2",
        "weight decay",
        _edit(
            Adam.update,
            "gradients = {k: g + self.weight_decay * parameters[k] for k, g in gradients.items()}",
            "parameters = {k: p * (1 - lr * self.weight_decay) for k, p in parameters.items()}",
        ),
        ("moment", 0),
        "Adam's weight decay is L2: g = gradient + weight_decay * p enters the moments.",
        "adam",
        f"Adam; {DECAY}",
    ),
    _fault(
        "decay-not-times-lr",
        "weight decay",
        _edit(AdamW.update, "1 - lr * self.weight_decay", "1 - self.weight_decay"),
        ("update", 0),
        "The decoupled decay is scaled by the learning rate: p = p - lr * weight_decay * p.",
        "adamw",
        f"AdamW; {DECAY}",
    ),
    _fault(
        "decay-after-the-update",
        "weight decay",
        (
            Edit(
                AdamW.update,
                "return self._adam.update(decayed, gradients, state, lr)",
                "return decayed, state",
            ),
            Edit(AdamW.update, "in parameters.items()", "in updated.items()"),
            Edit(
                AdamW.update,
                "decayed = {",
                "updated, state = self._adam.update(parameters, gradients, state, lr)\n"
                "    decayed = {",
            ),
        ),
        ("update", 0),
        "Decay the parameters before Adam's step, as torch does.",
        "adamw",
        f"AdamW; {DECAY}",
    ),
    _fault(
        "biases-without-decoupled-decay",
        "weight decay",
        _edit(AdamW.update, "self.weight_decay)", "self.weight_decay * (p.ndim > 1))"),
        ("update", 0),
        "The recipe's decay is for all parameters, biases too.",
        "adamw",
        f"AdamW; {DECAY}",
    ),
    _fault(
        "biases-without-L2",
        "weight decay",
        (
            Edit(Adam.update, "+ self.weight_decay *", "+ self.weight_decay * (g.ndim > 1) *"),
            Edit(SGD.update, "+ self.weight_decay *", "+ self.weight_decay * (g.ndim > 1) *"),
        ),
        ("moment", 0),
        "The recipe's decay is for all parameters, biases too.",
        "momentum",
        f"SGD or Adam; {DECAY}",
    ),
    _fault(
        "momentum-dampened",
        "SGD",
        _edit(
            SGD.update,
            'self.momentum * state["momentum"][k] + d',
            'self.momentum * state["momentum"][k] + (1 - self.momentum) * d',
        ),
        ("moment", 0),
        "Torch's momentum adds the whole gradient: b = momentum * b + d.",
        "momentum",
        "SGD with momentum",
    ),
    _fault(
        "schedule-one-step-ahead",
        "schedule",
        _edit(learning_rate, "progress = step /", "progress = (step + 1) /"),
        ("update", 0),
        "The first step takes the first learning rate: step the schedule after the optimiser.",
        "adam",
        "a schedule that is not constant",
    ),
)

TRAINING_FAULTS: tuple[TrainingFault, ...] = (*BATCH, *STATE, *CLIP, *ADAM, *DECAYS)
"""All of them; of two that fit equally well, the first is named first."""
