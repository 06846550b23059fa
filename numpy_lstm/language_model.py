"""The language model: tokens -> one-hot -> LSTM -> projection W_v, b_v -> cross-entropy, and back.

Parameter names are those of the PyTorch module with an `nn.LSTM` called `lstm` and an `nn.Linear`
called `projection`: W_v is `projection.weight` [V, H], b_v is `projection.bias` [V].
"""

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Int, Shaped

from numpy_lstm.errors import InputError, Shape, check, check_parameters, check_positive
from numpy_lstm.fast.layer import LayerGradients
from numpy_lstm.fast.packing import Packing, make_packing
from numpy_lstm.loss import CrossEntropyCache, cross_entropy_backward, cross_entropy_forward
from numpy_lstm.lstm import (
    LSTM,
    LSTMCache,
    Parameters,
    State,
    packed_backward,
    packed_forward,
)


@dataclass(frozen=True)
class LanguageModel:
    """Configuration of the language model.

    Args:
        vocab_size: V, symbols in and out (the input is one-hot, so I = V).
        hidden_size: H.
        num_layers: see `LSTM`.
        bias_pair: see `LSTM`.
    """

    vocab_size: int
    hidden_size: int
    num_layers: int = 1
    bias_pair: bool = False

    def __post_init__(self) -> None:
        check_positive(
            vocab_size=self.vocab_size, hidden_size=self.hidden_size, num_layers=self.num_layers
        )

    @property
    def lstm(self) -> LSTM:
        """The LSTM inside."""
        return LSTM(self.vocab_size, self.hidden_size, self.num_layers, bias_pair=self.bias_pair)

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
    y: Shaped[np.ndarray, "M H"]
    """The LSTM's outputs, packed."""
    logits: Shaped[np.ndarray, "M V"]
    state: State
    """The states at each sequence's own end."""
    loss: CrossEntropyCache | None
    """None for a forward pass without targets."""

    @property
    def packing(self) -> Packing:
        """Where the real tokens lie."""
        return self.lstm.packing


@dataclass(frozen=True)
class Outputs:
    """What the model says of a batch.

    `losses` [M] are in nats, one for each real token, packed; `h_n` and `c_n` [layers, N, H] are
    the states at each sequence's own end.
    """

    losses: Shaped[np.ndarray, " M"]
    h_n: Shaped[np.ndarray, "layers N H"]
    c_n: Shaped[np.ndarray, "layers N H"]


@dataclass(frozen=True)
class LanguageModelGradients:
    """Gradients of parameters and initial states; `dlogits` and the layers' own are packed."""

    parameters: dict[str, np.ndarray]
    dh0: Shaped[np.ndarray, "layers N H"]
    dc0: Shaped[np.ndarray, "layers N H"]
    dlogits: Shaped[np.ndarray, "M V"]
    layers: tuple[LayerGradients, ...]


def lstm_parameters(parameters: Parameters) -> dict[str, np.ndarray]:
    """The layer's own parameters, under the layer's own names."""
    prefix = "lstm."
    return {k.removeprefix(prefix): p for k, p in parameters.items() if k.startswith(prefix)}


def _check_tokens(name: str, tokens: np.ndarray) -> None:
    integers = isinstance(tokens, np.ndarray) and tokens.dtype.kind in "iu"
    kind = getattr(tokens, "dtype", type(tokens).__name__)
    check(integers, f"{name}: expected an array of integers, got {kind}")


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
    _check_tokens("tokens", tokens)
    check(tokens.ndim == 2, f"tokens: expected [T, N], got {list(tokens.shape)}")
    packing = make_packing(tokens.shape[0], tokens.shape[1], lengths)
    h0, c0 = state if state is not None else (None, None)
    (y, h_n, c_n), lstm_cache = packed_forward(
        model.lstm,
        lstm_parameters(parameters),
        packing.pack(tokens),
        packing,
        h0,
        c0,
        keep_preactivations=keep_preactivations,
    )
    logits = y @ parameters["projection.weight"].T  # (15)
    logits += parameters["projection.bias"]  # (15)
    return LanguageModelCache(parameters, lstm_cache, y, logits, (h_n, c_n), None)


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
    _check_tokens("tokens", tokens)
    _check_tokens("targets", targets)
    check(
        targets.shape == tokens.shape,
        f"targets: expected the shape of tokens {list(tokens.shape)}, got {list(targets.shape)}",
    )
    cache = predict(model, parameters, tokens, lengths, state, keep_preactivations)
    losses, loss_cache = cross_entropy_forward(cache.logits, cache.packing.pack(targets))
    return Outputs(losses, *cache.state), replace(cache, loss=loss_cache)


def language_model_backward(
    dloss: float,
    cache: LanguageModelCache,
    dh_n: Shaped[np.ndarray, "layers N H"] | None = None,
    dc_n: Shaped[np.ndarray, "layers N H"] | None = None,
    *,
    keep_steps: bool = False,
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
        keep_steps: keep each step's gradients and dx in `layers`, for inspection.
    """
    if cache.loss is None:
        raise InputError("cache: expected that of language_model_forward, with targets")
    dtype = cache.logits.dtype
    dlogits = cross_entropy_backward(np.full(len(cache.logits), dloss, dtype), cache.loss)
    W_v = cache.parameters["projection.weight"]
    lstm = packed_backward(
        dlogits @ W_v,  # (18)
        cache.lstm,
        dh_n,
        dc_n,
        need_dx=keep_steps,
        keep_steps=keep_steps,
    )
    gradients = {f"lstm.{name}": gradient for name, gradient in lstm.parameters.items()}
    gradients |= projection_gradients(dlogits, cache.y)
    return LanguageModelGradients(gradients, lstm.dh0, lstm.dc0, dlogits, lstm.layers)


def projection_gradients(
    dlogits: Shaped[np.ndarray, "m V"], y: Shaped[np.ndarray, "m H"]
) -> dict[str, np.ndarray]:
    """(18): the sum over these tokens."""
    ones = np.ones(len(dlogits), dlogits.dtype)
    return {"projection.weight": dlogits.T @ y, "projection.bias": ones @ dlogits}  # (18)
