"""The ways in which torch computes a step for the trace: exactly as users do, and with noise.

`Kernel` is the reference: nn.LSTMCell and autograd. For variants, which torch lacks, `Exact` gives
its single operations (`torch_cells.py` composes them). `Noisy` measures how much of a difference
means nothing. It computes the same with every activation moved by one to two units of roundoff, at
random, forward and in the derivative that is taken from it. (Moving the inputs alone would not do:
a saturated gate hardly feels its input, and yet the last digit of g decides 1 - g^2.) It is Monte
Carlo arithmetic (Parker 1997) with the noise where LSTM implementations legitimately differ.

`numpy_lstm.roundoff.Noise` draws it.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from numpy_lstm.roundoff import Noise

Tensors = dict[str, torch.Tensor]


class Exact:
    """Torch's own functions, as they are."""

    def weight(self, weight: torch.Tensor) -> torch.Tensor:
        """One step's own copy of a parameter of any shape, whose gradient is that step's share."""
        return weight.clone()

    def sigmoid(self, a: torch.Tensor) -> torch.Tensor:
        """Of a tensor of any shape."""
        return a.sigmoid()

    def tanh(self, a: torch.Tensor) -> torch.Tensor:
        """Of a tensor of any shape."""
        return a.tanh()

    def complement(self, i: torch.Tensor) -> torch.Tensor:
        """1 - i of coupled gates."""
        return 1 - i

    def standardised(self, v: torch.Tensor, epsilon: float) -> torch.Tensor:
        """Values [N, H] with mean 0 and deviation 1 over the units."""
        return functional.layer_norm(v, v.shape[1:], eps=epsilon)

    def log_softmax(self, logits: torch.Tensor) -> torch.Tensor:
        """Log-probabilities [N, V] of the symbols."""
        return functional.log_softmax(logits, dim=1)


class Kernel:
    """nn.LSTMCell itself, fed the pre-activations: weight_ih the identity, weight_hh zero.

    So the gradient of a, which the kernel keeps to itself, becomes the gradient of its input.
    """

    def __init__(self, hidden_size: int, dtype: torch.dtype) -> None:
        G = 4 * hidden_size
        self._cell = nn.LSTMCell(G, hidden_size, bias=False, dtype=dtype)
        with torch.no_grad():
            self._cell.weight_ih.copy_(torch.eye(G))
            self._cell.weight_hh.zero_()
        self._cell.requires_grad_(False)

    def cell(self, blocks: Sequence[torch.Tensor], c_prev: torch.Tensor) -> Tensors:
        """All values of a step from its pre-activations a_i, a_f, a_g, a_o and c_prev [N, H].

        `m` is o tanh(c). The kernel does not return its gates; they are recomputed.
        """
        m, c = self._cell(torch.cat(list(blocks), dim=1), (torch.zeros_like(c_prev), c_prev))
        a_i, a_f, a_g, a_o = blocks
        values = {"a_i": a_i, "a_f": a_f, "a_g": a_g, "a_o": a_o, "c": c, "m": m}
        values |= {name: values[f"a_{name}"].detach().sigmoid() for name in "ifo"}
        return values | {"g": a_g.detach().tanh()}


class Noisy:
    """The same functions with one to two units of roundoff of noise on every value."""

    def __init__(self, noise: Noise) -> None:
        self._noise = noise

    def weight(self, weight: torch.Tensor) -> torch.Tensor:
        """One step's own copy of a parameter of any shape, whose gradient is that step's share."""
        return weight * torch.from_numpy(self._noise.factors(tuple(weight.shape)))

    def _computed(self, output: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
        return torch.from_numpy(self._noise.computed(output.numpy(), scale.numpy()))

    def sigmoid(self, a: torch.Tensor) -> torch.Tensor:
        """Of a tensor of any shape."""
        exact = a.detach().sigmoid()
        s = self._computed(exact, exact)
        return _FromOutput.apply(a, s, s * (1 - s))

    def tanh(self, a: torch.Tensor) -> torch.Tensor:
        """Of a tensor of any shape."""
        exact = a.detach().tanh()
        y = self._computed(exact, exact)
        return _FromOutput.apply(a, y, 1 - y * y)

    def complement(self, i: torch.Tensor) -> torch.Tensor:
        """1 - i of coupled gates, whose rounding is relative to itself and not to a small i."""
        exact = 1 - i.detach()
        return _FromOutput.apply(i, self._computed(exact, exact), -torch.ones_like(exact))

    def standardised(self, v: torch.Tensor, epsilon: float) -> torch.Tensor:
        """Values [N, H] with mean 0 and deviation 1 over the units.

        The noise is that of the values' own scale, which subtracting the mean cancels; and in the
        derivative that of the gradient's scale, which cancels likewise: with two units and a small
        epsilon, nearly all of it.
        """
        centred = (v - v.mean(dim=1, keepdim=True)).detach()
        deviation = (centred.pow(2).mean(dim=1, keepdim=True) + epsilon).sqrt()
        scale = v.detach().abs().amax(dim=1, keepdim=True) / deviation
        output = self._computed(centred / deviation, scale)
        return _NoisyStandardised.apply(v, output, deviation, self._computed)

    def log_softmax(self, logits: torch.Tensor) -> torch.Tensor:
        """Log-probabilities [N, V].

        The noise is that of the logits' scale, which the shift cancels.
        """
        exact = functional.log_softmax(logits.detach(), dim=1)
        scale = logits.detach().abs().amax(dim=1, keepdim=True).clamp(min=1)
        return _NoisyLogSoftmax.apply(logits, self._computed(exact, scale))


Arithmetic = Exact | Noisy


class _FromOutput(torch.autograd.Function):
    """Returns the given output, and takes the given derivative for that of the function."""

    @staticmethod
    def forward(
        ctx: Any, a: torch.Tensor, output: torch.Tensor, derivative: torch.Tensor
    ) -> torch.Tensor:
        ctx.save_for_backward(derivative)
        return output

    @staticmethod
    def backward(ctx: Any, *grad_outputs: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        (derivative,) = ctx.saved_tensors
        return grad_outputs[0] * derivative, None, None


class _NoisyStandardised(torch.autograd.Function):
    """Returns the given values, and takes the derivative from them, with noise where it cancels."""

    @staticmethod
    def forward(
        ctx: Any,
        v: torch.Tensor,
        output: torch.Tensor,
        deviation: torch.Tensor,
        computed: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
    ) -> torch.Tensor:
        ctx.save_for_backward(output, deviation)
        ctx.computed = computed
        return output

    @staticmethod
    def backward(ctx: Any, *grad_outputs: torch.Tensor) -> tuple[torch.Tensor, None, None, None]:
        output, deviation = ctx.saved_tensors
        (d,) = grad_outputs
        along = (d * output).mean(dim=1, keepdim=True)
        dv = (d - d.mean(dim=1, keepdim=True) - output * along) / deviation
        scale = d.abs().amax(dim=1, keepdim=True) / deviation
        return ctx.computed(dv, scale), None, None, None


class _NoisyLogSoftmax(torch.autograd.Function):
    """Returns the given log-probabilities, and takes softmax from them in the backward pass."""

    @staticmethod
    def forward(ctx: Any, logits: torch.Tensor, output: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(output.exp())
        return output

    @staticmethod
    def backward(ctx: Any, *grad_outputs: torch.Tensor) -> tuple[torch.Tensor, None]:
        (probabilities,) = ctx.saved_tensors
        (d,) = grad_outputs
        return d - probabilities * d.sum(dim=1, keepdim=True), None
