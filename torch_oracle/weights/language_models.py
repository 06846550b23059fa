"""Whole language models in PyTorch: a checkpoint of ours as an nn.Module, and back, bit for bit.

A model of one bias has it in `bias_ih`; `bias_hh` is zero and frozen. By that it is known again: a
`bias_hh` that trains is one of a pair, even where it is still zero.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import nn
from torch.nn import functional

from numpy_lstm.errors import InputError, check, check_parameters
from numpy_lstm.language_model import LanguageModel
from numpy_lstm.training.checkpoint import Checkpoint
from numpy_lstm.training.sampling import check_sampling
from numpy_lstm.training.vocabulary import Vocabulary
from torch_oracle.weights.pt_files import to_array, to_tensor

State = tuple[torch.Tensor, torch.Tensor]
"""(h, c), each [layers, N, H]."""
NO_COMPUTATION = (
    *(nn.Dropout, nn.Identity, nn.Softmax, nn.LogSoftmax, nn.modules.loss._Loss),
    *(nn.Sequential, nn.ModuleList, nn.ModuleDict),
)
"""Modules without weights that leave the distribution of the next token as it is."""


class TorchLanguageModel(nn.Module):
    """tokens -> one-hot or embedding -> nn.LSTM -> nn.Linear; state_dict keys are our names.

    Args:
        vocab_size: V.
        hidden_size: H.
        num_layers: of the LSTM.
        embedding_size: features of an nn.Embedding; None for one-hot inputs.
        device: see torch.nn.LSTM.
        dtype: see torch.nn.LSTM.
    """

    def __init__(
        self,
        vocab_size: int,
        hidden_size: int,
        num_layers: int = 1,
        *,
        embedding_size: int | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.vocab_size = vocab_size
        self.embedding = None
        if embedding_size is not None:
            self.embedding = nn.Embedding(vocab_size, embedding_size, device=device, dtype=dtype)
        inputs = embedding_size or vocab_size
        self.lstm = nn.LSTM(inputs, hidden_size, num_layers, device=device, dtype=dtype)
        self.projection = nn.Linear(hidden_size, vocab_size, device=device, dtype=dtype)

    def forward(
        self, tokens: Int[torch.Tensor, "T N"], state: State | None = None
    ) -> tuple[Float[torch.Tensor, "T N V"], State]:
        """Logits of the next token after every token (int64), and the states at the end."""
        if self.embedding is None:
            x = functional.one_hot(tokens, self.vocab_size).to(self.projection.weight.dtype)
        else:
            x = self.embedding(tokens)
        y, last = self.lstm(x, state)
        return self.projection(y), last


def to_torch(checkpoint: Checkpoint) -> TorchLanguageModel:
    """The checkpoint's model with copies of its weights; torch's random numbers are not drawn.

    Raises:
        InputError: parameters that do not fit the model, or of a dtype that torch lacks.
    """
    model, parameters = checkpoint.model, checkpoint.parameters
    dtype = check_parameters(parameters, model.parameter_shapes())
    check(
        dtype in (np.float32, np.float64),
        f"parameters: expected float32 or float64, got {dtype}; convert them",
    )
    tensors = {name: to_tensor(array) for name, array in parameters.items()}
    module = TorchLanguageModel(
        model.vocab_size,
        model.hidden_size,
        model.num_layers,
        device="meta",  # the weights are replaced at once
        dtype=tensors["projection.weight"].dtype,
    )
    for suffix in model.lstm.suffixes if not model.bias_pair else ():
        bias = tensors.pop(f"lstm.bias{suffix}")
        tensors |= {f"lstm.bias_ih{suffix}": bias, f"lstm.bias_hh{suffix}": torch.zeros_like(bias)}
        getattr(module.lstm, f"bias_hh{suffix}").requires_grad_(False)
    module.load_state_dict(tensors, assign=True)
    return module


def from_torch(
    module: nn.Module,
    vocabulary: Vocabulary,
    notes: Mapping[str, Any] | None = None,
    *,
    allow_lossy: bool = False,
) -> Checkpoint:
    """The checkpoint of a `TorchLanguageModel`, or of a module of one's own; the inverse of
    `to_torch`.

    The module must have exactly one nn.LSTM and one nn.Linear, and at most one nn.Embedding, found
    by type. Their types do not say what its `forward` does: that must be tokens -> one-hot or
    embedding -> LSTM -> Linear.

    Args:
        module: whose weights are copied.
        vocabulary: tokens of its indices.
        notes: of the checkpoint; what is said of the conversion is added under "from_torch".
        allow_lossy: multiply an embedding into W_ih, in float64 and rounded once; and put zeros
            where there is no bias.

    Raises:
        InputError: everything that has no place in a `LanguageModel`, by name.
    """
    parts = _Parts.of(module)
    impossible = _impossible(module, parts)
    if impossible:
        raise InputError(f"a LanguageModel has no place for: {'; '.join(impossible)}")
    _check_sizes(parts, vocabulary)
    lost = _lost(parts)
    if lost and not allow_lossy:
        raise InputError(
            f"a LanguageModel cannot hold everything: {'; '.join(lost)};"
            " allow it with allow_lossy=True"
        )
    parameters, pair = _parameters(parts)
    V, H = parts.projection.out_features, parts.lstm.hidden_size
    model = LanguageModel(V, H, parts.lstm.num_layers, bias_pair=pair)
    check_parameters(parameters, model.parameter_shapes())
    all_notes = dict(notes or {})
    said = [sentence.replace("would be", "were") for sentence in lost] + _said(module, parts)
    if said:
        all_notes["from_torch"] = [*all_notes.get("from_torch", ()), *said]
    ordered = {name: parameters[name] for name in model.parameter_shapes()}
    return Checkpoint(model, vocabulary, ordered, all_notes)


@dataclass(frozen=True)
class _Parts:
    """The modules that hold the weights, and their names."""

    lstm: nn.LSTM
    projection: nn.Linear
    embedding: nn.Embedding | None
    names: dict[type, str]

    @classmethod
    def of(cls, module: nn.Module) -> "_Parts":
        found: dict[type, nn.Module] = {}
        names: dict[type, str] = {}
        for kind in (nn.LSTM, nn.Linear, nn.Embedding):
            own = [(n, m) for n, m in module.named_modules() if isinstance(m, kind)]
            expected = "at most" if kind is nn.Embedding else "exactly"
            right = len(own) == 1 or (len(own) == 0 and kind is nn.Embedding)
            got = ", ".join(name or "the module itself" for name, _ in own) or "none"
            check(right, f"module: expected {expected} one nn.{kind.__name__}, got {got}")
            for name, part in own:
                found[kind], names[kind] = part, name or kind.__name__
        lstm, projection, embedding = (found.get(k) for k in (nn.LSTM, nn.Linear, nn.Embedding))
        assert isinstance(lstm, nn.LSTM)
        assert isinstance(projection, nn.Linear)
        assert isinstance(embedding, nn.Embedding | None)
        return cls(lstm, projection, embedding, names)

    @property
    def weights(self) -> list[torch.Tensor]:
        """All of them."""
        own = [self.projection.weight, self.projection.bias]
        own += [weight for layer in self.lstm.all_weights for weight in layer]
        own += [self.embedding.weight] if self.embedding is not None else []
        return [weight for weight in own if weight is not None]


def _impossible(module: nn.Module, parts: _Parts) -> list[str]:
    """What the equations of a `LanguageModel` lack, by name."""
    lstm, name = parts.lstm, parts.names[nn.LSTM]
    found = {
        f"{name}.bidirectional (one direction only)": lstm.bidirectional,
        f"{name}.proj_size = {lstm.proj_size} (no projection of h)": lstm.proj_size > 0,
    }
    if parts.embedding is not None and parts.embedding.max_norm is not None:
        name = parts.names[nn.Embedding]
        found[f"{name}.max_norm = {parts.embedding.max_norm:g} (renormalised when read)"] = True
    known = {id(weight) for weight in parts.weights}
    for own, tensor in (*module.named_parameters(), *module.named_buffers()):
        found[f"{own} {list(tensor.shape)}"] = id(tensor) not in known
    holders = (parts.lstm, parts.projection, parts.embedding)
    for own, each in module.named_modules():
        kind = type(each)
        if any(each is holder for holder in holders):
            usual = (nn.LSTM, nn.Linear, nn.Embedding)
            original = any(kind.forward is base.forward for base in usual)
            found[f"{own or 'module'} (a {kind.__name__} with a forward of its own)"] = not original
        elif not list(each.children()):
            found[f"{own} ({kind.__name__})"] = not isinstance(each, NO_COMPUTATION)
    return [what for what, is_there in found.items() if is_there]


def _check_sizes(parts: _Parts, vocabulary: Vocabulary) -> None:
    """Raise unless sizes and dtypes of the parts fit together, and the vocabulary."""
    lstm, projection, embedding = parts.lstm, parts.projection, parts.embedding
    V, H, names = projection.out_features, lstm.hidden_size, parts.names
    features, source = V, f"vocab_size = {V}, of one-hot inputs"
    if embedding is not None:
        E = names[nn.Embedding]
        features, source = embedding.embedding_dim, f"{E}.embedding_dim = {embedding.embedding_dim}"
        check(
            embedding.num_embeddings == V,
            f"{E}.num_embeddings: expected {names[nn.Linear]}.out_features = {V},"
            f" got {embedding.num_embeddings}",
        )
    check(
        lstm.input_size == features,
        f"{names[nn.LSTM]}.input_size: expected {source}, got {lstm.input_size}",
    )
    check(
        projection.in_features == H,
        f"{names[nn.Linear]}.in_features: expected {names[nn.LSTM]}.hidden_size = {H},"
        f" got {projection.in_features}",
    )
    check(
        len(vocabulary) == V,
        f"vocabulary: expected {names[nn.Linear]}.out_features = {V} tokens, got {len(vocabulary)}",
    )
    kinds = {str(weight.dtype).removeprefix("torch.") for weight in parts.weights}
    check(
        len(kinds) == 1 and kinds <= {"float32", "float64"},
        f"module: expected weights of float32 or of float64, got {', '.join(sorted(kinds))};"
        " convert it with .float() or .double()",
    )
    check(
        not any(weight.is_meta for weight in parts.weights),
        "module: expected weights, got a module on the device meta, which has none; load them",
    )


def _lost(parts: _Parts) -> list[str]:
    """What could be held in another form only."""
    lost = []
    if parts.embedding is not None:
        E, lstm = parts.names[nn.Embedding], parts.names[nn.LSTM]
        lost.append(
            f"{E}: would be multiplied into {lstm}.weight_ih_l0, in float64 and rounded once,"
            " which cannot be undone"
        )
    if not parts.lstm.bias:
        lost.append(f"{parts.names[nn.LSTM]}.bias: zeros would be put where there is none")
    if parts.projection.bias is None:
        lost.append(f"{parts.names[nn.Linear]}.bias: zeros would be put where there is none")
    return lost


def _said(module: nn.Module, parts: _Parts) -> list[str]:
    """What a person should know, and is lost nevertheless."""
    said = []
    if parts.lstm.dropout:
        said.append(f"{parts.names[nn.LSTM]}.dropout = {parts.lstm.dropout:g} is no weight")
    for name, each in module.named_modules():
        if isinstance(each, nn.Dropout):
            said.append(f"{name}: dropout of {each.p:g} is no weight")
    if parts.embedding is not None and parts.embedding.weight is parts.projection.weight:
        said.append(
            f"{parts.names[nn.Embedding]}.weight and {parts.names[nn.Linear]}.weight were tied;"
            " here they are apart, and will train apart"
        )
    return said


def _parameters(parts: _Parts) -> tuple[dict[str, np.ndarray], bool]:
    """Copies of the weights under our names, and whether both biases are kept."""
    lstm = parts.lstm
    layers = range(lstm.num_layers)
    W_v = to_array(parts.projection.weight)
    b_v = parts.projection.bias
    named = {
        "projection.weight": W_v,
        "projection.bias": np.zeros(len(W_v), W_v.dtype) if b_v is None else to_array(b_v),
    }
    for k in layers:
        for name in ("weight_ih", "weight_hh"):
            named[f"lstm.{name}_l{k}"] = to_array(getattr(lstm, f"{name}_l{k}"))
    if parts.embedding is not None:
        W_ih, E = named["lstm.weight_ih_l0"], to_array(parts.embedding.weight)
        folded = W_ih.astype(np.float64) @ E.astype(np.float64).T
        named["lstm.weight_ih_l0"] = folded.astype(W_ih.dtype)
    if not lstm.bias:
        zeros = np.zeros(4 * lstm.hidden_size, W_v.dtype)
        return named | {f"lstm.bias_l{k}": zeros.copy() for k in layers}, False
    second = [getattr(lstm, f"bias_hh_l{k}") for k in layers]
    pair = any(b.requires_grad or to_array(b).tobytes().strip(b"\0") for b in second)
    for k in layers:
        named[f"lstm.bias{'_ih' * pair}_l{k}"] = to_array(getattr(lstm, f"bias_ih_l{k}"))
        if pair:
            named[f"lstm.bias_hh_l{k}"] = to_array(second[k])
    return named, pair


def log_probabilities(
    module: TorchLanguageModel, tokens: Int[np.ndarray, "T N"]
) -> Float[np.ndarray, "T N V"]:
    """Of the next token after every token, from zero states.

    Raises:
        InputError: a token outside the vocabulary.
    """
    logits, _ = _read(module, tokens)
    return functional.log_softmax(logits, dim=-1).numpy()


def generate(
    module: TorchLanguageModel,
    prompt: Int[np.ndarray, " tokens"],
    *,
    temperature: float = 1.0,
    rng: np.random.Generator | None = None,
) -> Iterator[int]:
    """Token after token, without end; `numpy_lstm.generate` with torch's arithmetic.

    Equal seeds give equal tokens, unless a draw falls between the two cumulative distributions,
    which differ by rounding.

    Args:
        module: the model.
        prompt: indices that are read first; at least one.
        temperature: divides the logits before sampling; 0 takes the most probable token (greedy).
        rng: source of randomness; needed unless greedy.

    Raises:
        InputError: an empty prompt, a token outside the vocabulary, or a temperature that is
            negative or not finite.
    """
    check_sampling(prompt, temperature, rng)
    return _generate(module, prompt, temperature, rng)


def _generate(
    module: TorchLanguageModel,
    prompt: Int[np.ndarray, " tokens"],
    temperature: float,
    rng: np.random.Generator | None,
) -> Iterator[int]:
    """`generate`, its arguments checked."""
    logits, state = _read(module, prompt[:, None])
    while True:
        token = _choose(logits[-1, 0].double(), temperature, rng)
        yield token
        logits, state = _read(module, np.array([[token]]), state)


@torch.no_grad()
def _read(
    module: TorchLanguageModel, tokens: Int[np.ndarray, "T N"], state: State | None = None
) -> tuple[torch.Tensor, State]:
    """Logits and states, without a graph."""
    V = module.vocab_size
    check(
        tokens.min(initial=0) >= 0 and tokens.max(initial=0) < V,
        f"tokens: expected integers 0 to V - 1 = {V - 1},"
        f" got {tokens.min(initial=0)} to {tokens.max(initial=0)}",
    )
    return module(torch.from_numpy(tokens.astype(np.int64)), state)


def _choose(
    logits: Float[torch.Tensor, " V"], temperature: float, rng: np.random.Generator | None
) -> int:
    """A token, drawn from softmax(logits / temperature) by inversion; or the most probable one."""
    if rng is None or temperature == 0:
        return int(logits.argmax())
    cumulative = torch.exp((logits - logits.max()) / temperature).cumsum(0)
    return int(torch.searchsorted(cumulative, rng.random() * cumulative[-1], right=True))
