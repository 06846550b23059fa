"""The language model: tokens -> one-hot -> LSTM -> projection W_v, b_v -> cross-entropy, and back.

Parameter names are those of the PyTorch module with an `nn.LSTM` called `lstm` and an `nn.Linear`
called `projection`: W_v is `projection.weight` [V, H], b_v is `projection.bias` [V].
"""

from dataclasses import dataclass

import numpy as np

from numpy_lstm.config import LSTM, Parameters, State
from numpy_lstm.errors import InputError, Shape, check_parameters, check_positive
from numpy_lstm.fast.layer import LayerGradients
from numpy_lstm.fast.packing import Packing, make_packing
from numpy_lstm.fast.stack import PackedCache, packed_backward, packed_forward
from numpy_lstm.loss import CrossEntropyCache, cross_entropy_backward, cross_entropy_forward
from numpy_lstm.shapes import Int, Shaped


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
        """Configuration of the LSTM that the model contains."""
        return LSTM(self.vocab_size, self.hidden_size, self.num_layers, bias_pair=self.bias_pair)

    def parameter_shapes(self) -> dict[str, Shape]:
        """Name and shape of every parameter."""
        shapes = {f"lstm.{name}": shape for name, shape in self.lstm.parameter_shapes().items()}
        V = ("V", self.vocab_size)
        return shapes | {"projection.weight": (V, ("H", self.hidden_size)), "projection.bias": (V,)}


@dataclass(frozen=True)
class HeadCache:
    """What the head's backward pass needs of its forward pass; all packed."""

    y: Shaped[np.ndarray, "M H"]
    loss: CrossEntropyCache


@dataclass(frozen=True)
class Prediction:
    """Scores of the next token after every real token, packed, and the states at the end.

    `logits` [M, V] are those of `packing`; `state` is (h, c) at each sequence's own end.
    """

    logits: Shaped[np.ndarray, "M V"]
    packing: Packing
    state: State


@dataclass(frozen=True)
class LanguageModelCache:
    """What the backward pass needs of the forward pass."""

    parameters: Parameters
    lstm: PackedCache
    head: HeadCache

    @property
    def packing(self) -> Packing:
        """Where the real tokens lie."""
        return self.lstm.packing


@dataclass(frozen=True)
class LanguageModelOutputs:
    """What the model says of a batch.

    `losses` [M] are in nats, one for each real token, packed, and `logits` [M, V] what they come
    from; `h_n` and `c_n` [layers, N, H] are the states at each sequence's own end.
    """

    losses: Shaped[np.ndarray, " M"]
    logits: Shaped[np.ndarray, "M V"]
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
    """The parameters of the LSTM inside, under the names that they have in an LSTM."""
    prefix = "lstm."
    return {k.removeprefix(prefix): p for k, p in parameters.items() if k.startswith(prefix)}


def project(parameters: Parameters, y: Shaped[np.ndarray, "M H"]) -> Shaped[np.ndarray, "M V"]:
    """Scores of every symbol, from the LSTM's outputs.

    ::

        (15) logits = W_v h + b_v
    """
    logits = y @ parameters["projection.weight"].T  # (15)
    logits += parameters["projection.bias"]  # (15)
    return logits


def head_forward(
    parameters: Parameters, y: Shaped[np.ndarray, "M H"], targets: Int[np.ndarray, " M"]
) -> tuple[tuple[Shaped[np.ndarray, "M V"], Shaped[np.ndarray, " M"]], HeadCache]:
    """Scores and loss of every token, from the LSTM's outputs: (15) and (16).

    Args:
        parameters: the model's; only W_v and b_v are read.
        y: outputs of the LSTM, packed.
        targets: index of the right symbol of each token.

    Returns:
        ``(logits, losses), cache``.
    """
    logits = project(parameters, y)
    losses, loss = cross_entropy_forward(logits, targets)
    return (logits, losses), HeadCache(y, loss)


def head_backward(
    dloss: float, parameters: Parameters, cache: HeadCache
) -> tuple[Shaped[np.ndarray, "M V"], Shaped[np.ndarray, "M H"]]:
    """Gradients of the scores and of the LSTM's outputs: (17), and dy of (18).

    ::

        (18) dW_v = dlogits^T h, db_v = sum of dlogits, dy = dlogits W_v

    Args:
        dloss: gradient of every token's loss.
        parameters: those of the forward pass.
        cache: what `head_forward` returned; not changed.

    Returns:
        ``dlogits, dy``; the parameters' part of (18) is `projection_gradients`.
    """
    M, dtype = len(cache.y), cache.y.dtype
    dlogits = cross_entropy_backward(np.full(M, dloss, dtype), cache.loss)
    dy = dlogits @ parameters["projection.weight"]  # (18)
    return dlogits, dy


def projection_gradients(
    dlogits: Shaped[np.ndarray, "m V"], y: Shaped[np.ndarray, "m H"]
) -> dict[str, np.ndarray]:
    """dW_v and db_v of (18): the sums over these tokens."""
    ones = np.ones(len(dlogits), dlogits.dtype)
    return {"projection.weight": dlogits.T @ y, "projection.bias": ones @ dlogits}  # (18)


def predict(
    model: LanguageModel,
    parameters: Parameters,
    tokens: Int[np.ndarray, "T N"],
    lengths: Int[np.ndarray, " N"] | None = None,
    state: State | None = None,
) -> Prediction:
    """Scores of the next token after every real token.

    Args:
        model: sizes.
        parameters: as `LanguageModel.parameter_shapes` says.
        tokens: indices [T, N]; what stands beyond a length is ignored.
        lengths: real tokens of each sequence [N]; all T when None.
        state: initial (h, c); zero when None.

    Raises:
        InputError: parameters, tokens, lengths or states that do not fit the model.
    """
    y, final, cache = _run_lstm(model, parameters, tokens, lengths, state, False)
    return Prediction(project(parameters, y), cache.packing, final)


def language_model_forward(
    model: LanguageModel,
    parameters: Parameters,
    tokens: Int[np.ndarray, "T N"],
    targets: Int[np.ndarray, "T N"],
    lengths: Int[np.ndarray, " N"] | None = None,
    state: State | None = None,
    keep_preactivations: bool = False,
) -> tuple[LanguageModelOutputs, LanguageModelCache]:
    """Loss of every real token.

    Args:
        model: sizes.
        parameters: as `LanguageModel.parameter_shapes` says.
        tokens: indices [T, N]; what stands beyond a length is ignored.
        targets: the token that follows each token [T, N].
        lengths: real tokens of each sequence [N]; all T when None.
        state: initial (h, c); zero when None.
        keep_preactivations: keep (1) in the cache, for inspection.

    Raises:
        InputError: parameters, tokens, targets, lengths or states that do not fit the model.
    """
    _check_tokens("tokens", tokens)
    _check_tokens("targets", targets)
    if targets.shape != tokens.shape:
        raise InputError(
            f"targets: expected the shape of tokens {list(tokens.shape)}, got {list(targets.shape)}"
        )
    y, (h_n, c_n), cache = _run_lstm(model, parameters, tokens, lengths, state, keep_preactivations)
    (logits, losses), head = head_forward(parameters, y, cache.packing.pack(targets))
    outputs = LanguageModelOutputs(losses, logits, h_n, c_n)
    return outputs, LanguageModelCache(parameters, cache, head)


def language_model_backward(
    dloss: float,
    cache: LanguageModelCache,
    dh_n: Shaped[np.ndarray, "layers N H"] | None = None,
    dc_n: Shaped[np.ndarray, "layers N H"] | None = None,
    *,
    keep_steps: bool = False,
) -> LanguageModelGradients:
    """Gradients of ``dloss * sum of the losses + <dh_n, h_n> + <dc_n, c_n>``.

    Args:
        dloss: gradient of every token's loss: 1 / tokens for the mean over tokens, 1 / N for
            the summed loss of a sequence, averaged over sequences.
        cache: what `language_model_forward` returned; not changed.
        dh_n: gradient of the final hidden states; zero when None.
        dc_n: gradient of the final cell states; zero when None.
        keep_steps: keep each step's gradients and dx in `layers`, for inspection.
    """
    if not isinstance(cache, LanguageModelCache):
        raise InputError("cache: expected that of language_model_forward, with targets")
    dlogits, dy = head_backward(dloss, cache.parameters, cache.head)
    lstm = packed_backward(dy, cache.lstm, dh_n, dc_n, need_dx=keep_steps, keep_steps=keep_steps)
    gradients = {f"lstm.{name}": gradient for name, gradient in lstm.parameters.items()}
    gradients |= projection_gradients(dlogits, cache.head.y)
    return LanguageModelGradients(gradients, lstm.dh0, lstm.dc0, dlogits, lstm.layers)


def _run_lstm(
    model: LanguageModel,
    parameters: Parameters,
    tokens: np.ndarray,
    lengths: np.ndarray | None,
    state: State | None,
    keep_preactivations: bool,
) -> tuple[Shaped[np.ndarray, "M H"], State, PackedCache]:
    """Outputs of the LSTM inside, packed, and its states at the end."""
    check_parameters(parameters, model.parameter_shapes())
    _check_tokens("tokens", tokens)
    if tokens.ndim != 2:
        raise InputError(f"tokens: expected [T, N], got {list(tokens.shape)}")
    packing = make_packing(tokens.shape[0], tokens.shape[1], lengths)
    h0, c0 = (None, None) if state is None else state
    (y, h_n, c_n), cache = packed_forward(
        model.lstm,
        lstm_parameters(parameters),
        packing.pack(tokens),
        packing,
        h0,
        c0,
        keep_preactivations=keep_preactivations,
    )
    return y, (h_n, c_n), cache


def _check_tokens(name: str, tokens: np.ndarray) -> None:
    if not isinstance(tokens, np.ndarray) or tokens.dtype.kind not in "iu":
        kind = getattr(tokens, "dtype", type(tokens).__name__)
        raise InputError(f"{name}: expected an array of integers, got {kind}")
