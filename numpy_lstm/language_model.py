"""The language model: tokens -> one-hot -> LSTM -> projection W_v, b_v -> cross-entropy, and back.

Parameter names are those of the PyTorch module with an `nn.LSTM` called `lstm` and an `nn.Linear`
called `projection`: W_v is `projection.weight` [V, H], b_v is `projection.bias` [V].
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Int, Shaped

from numpy_lstm.errors import InputError, Shape, check, check_parameters, check_positive
from numpy_lstm.loss import CrossEntropyCache, cross_entropy_backward, cross_entropy_forward
from numpy_lstm.lstm import (
    LSTM,
    LSTMCache,
    Parameters,
    StepGradients,
    final_states,
    packed_backward,
    packed_forward,
    parameter_gradients,
)
from numpy_lstm.packing import Packing, make_packing

State = tuple[np.ndarray, np.ndarray]
"""(h, c), each [N, H]."""


@dataclass(frozen=True)
class LanguageModel:
    """Configuration of the language model.

    Args:
        vocab_size: V, symbols in and out (the input is one-hot, so I = V).
        hidden_size: H.
        bias_pair: see `LSTM`.
    """

    vocab_size: int
    hidden_size: int
    bias_pair: bool = False

    def __post_init__(self) -> None:
        check_positive(vocab_size=self.vocab_size, hidden_size=self.hidden_size)

    @property
    def lstm(self) -> LSTM:
        """The layer inside."""
        return LSTM(self.vocab_size, self.hidden_size, bias_pair=self.bias_pair)

    def parameter_shapes(self) -> dict[str, Shape]:
        """Name and shape of every parameter."""
        shapes = {f"lstm.{name}": shape for name, shape in self.lstm.parameter_shapes().items()}
        V = ("V", self.vocab_size)
        return shapes | {"projection.weight": (V, ("H", self.hidden_size)), "projection.bias": (V,)}


@dataclass(frozen=True)
class LanguageModelCache:
    """What the backward pass needs of the forward pass."""

    parameters: Parameters
    lstm: LSTMCache
    logits: Shaped[np.ndarray, "M V"]
    loss: CrossEntropyCache | None
    """None for a forward pass without targets."""

    @property
    def packing(self) -> Packing:
        """Where the real tokens lie."""
        return self.lstm.packing


@dataclass(frozen=True)
class Outputs:
    """What the model says of a batch.

    `losses` [M] are in nats, one for each real token, packed; `h_n` and `c_n` [N, H] are the
    states at each sequence's own end.
    """

    losses: Shaped[np.ndarray, " M"]
    h_n: Shaped[np.ndarray, "N H"]
    c_n: Shaped[np.ndarray, "N H"]


@dataclass(frozen=True)
class LanguageModelGradients:
    """Gradients of parameters and initial states; and each step's own, packed."""

    parameters: dict[str, np.ndarray]
    dh0: Shaped[np.ndarray, "N H"]
    dc0: Shaped[np.ndarray, "N H"]
    dlogits: Shaped[np.ndarray, "M V"]
    steps: StepGradients


def lstm_parameters(parameters: Parameters) -> dict[str, np.ndarray]:
    """The layer's own parameters, under the layer's own names."""
    prefix = "lstm."
    return {k.removeprefix(prefix): p for k, p in parameters.items() if k.startswith(prefix)}


def predict(
    model: LanguageModel,
    parameters: Parameters,
    tokens: Int[np.ndarray, "T N"],
    lengths: Int[np.ndarray, " N"] | None = None,
    state: State | None = None,
    keep_preactivations: bool = False,
) -> LanguageModelCache:
    """Logits of the next token after every real token; (15) logits = W_v h + b_v.

    Args:
        model: sizes.
        parameters: as `LanguageModel.parameter_shapes` says.
        tokens: indices [T, N]; what stands beyond a length is ignored.
        lengths: real tokens of each sequence [N]; all T when None.
        state: initial (h, c); zero when None.
        keep_preactivations: keep (1) in the cache, for inspection.

    Raises:
        InputError: parameters, tokens, lengths or states that do not fit the model.
    """
    check_parameters(parameters, model.parameter_shapes())
    check(tokens.ndim == 2, f"tokens: expected [T, N], got {list(tokens.shape)}")
    packing = make_packing(tokens.shape[0], tokens.shape[1], lengths)
    h0, c0 = state if state is not None else (None, None)
    lstm_cache = packed_forward(
        model.lstm,
        lstm_parameters(parameters),
        packing.pack(tokens),
        packing,
        h0,
        c0,
        keep_preactivations,
    )
    logits = lstm_cache.y @ parameters["projection.weight"].T + parameters["projection.bias"]
    return LanguageModelCache(parameters, lstm_cache, logits, None)


def language_model_forward(
    model: LanguageModel,
    parameters: Parameters,
    tokens: Int[np.ndarray, "T N"],
    targets: Int[np.ndarray, "T N"],
    lengths: Int[np.ndarray, " N"] | None = None,
    state: State | None = None,
    keep_preactivations: bool = False,
) -> tuple[Outputs, LanguageModelCache]:
    """Loss of every real token; arguments as of `predict`, with the targets [T, N]."""
    check(
        targets.shape == tokens.shape,
        f"targets: expected the shape of tokens {list(tokens.shape)}, got {list(targets.shape)}",
    )
    cache = predict(model, parameters, tokens, lengths, state, keep_preactivations)
    losses, loss_cache = cross_entropy_forward(cache.logits, cache.packing.pack(targets))
    outputs = Outputs(losses, *final_states(cache.lstm))
    return outputs, LanguageModelCache(parameters, cache.lstm, cache.logits, loss_cache)


def language_model_backward(
    dloss: float,
    cache: LanguageModelCache,
    dh_n: Shaped[np.ndarray, "N H"] | None = None,
    dc_n: Shaped[np.ndarray, "N H"] | None = None,
) -> LanguageModelGradients:
    """Gradients of ``dloss * sum of the losses + <dh_n, h_n> + <dc_n, c_n>``.

    ::

        (18) dW_v = dlogits^T h,  db_v = sum of dlogits,  dy = dlogits W_v

    Args:
        dloss: gradient of every token's loss: 1 / tokens for the mean over tokens, 1 / N for
            the summed loss of a sequence, averaged over sequences.
        cache: what `language_model_forward` returned; not changed.
        dh_n: gradient of the final hidden states; zero when None.
        dc_n: gradient of the final cell states; zero when None.
    """
    if cache.loss is None:
        raise InputError("cache: expected that of language_model_forward, with targets")
    dtype = cache.logits.dtype
    dlogits = cross_entropy_backward(np.full(len(cache.logits), dloss, dtype), cache.loss)
    dy = dlogits @ cache.parameters["projection.weight"]  # (18)
    steps, dh0, dc0 = packed_backward(dy, cache.lstm, dh_n, dc_n)
    gradients = all_parameter_gradients(cache, dlogits, steps)
    return LanguageModelGradients(gradients, dh0, dc0, dlogits, steps)


def all_parameter_gradients(
    cache: LanguageModelCache,
    dlogits: Shaped[np.ndarray, "M V"],
    steps: StepGradients,
    t: int | None = None,
) -> dict[str, np.ndarray]:
    """(13) and (18), summed over all tokens, or the contribution of step t alone."""
    rows = slice(None) if t is None else cache.packing.rows(t)
    dlogits = dlogits[rows]
    lstm = {f"lstm.{k}": d for k, d in parameter_gradients(cache.lstm, steps, t).items()}
    return lstm | {
        "projection.weight": dlogits.T @ cache.lstm.y[rows],  # (18)
        "projection.bias": np.ones(len(dlogits), dlogits.dtype) @ dlogits,  # (18)
    }
