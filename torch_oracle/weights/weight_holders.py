"""The parts of somebody's language model in PyTorch that hold its weights, and what of them a
`LanguageModel` of `numpy_lstm` can hold."""

from dataclasses import dataclass

import torch
from torch import nn

from numpy_lstm.errors import InputError
from numpy_lstm.training.vocabulary import Vocabulary

HOLDERS = (nn.LSTM, nn.Linear, nn.Embedding)
NO_COMPUTATION = (
    nn.Dropout,
    nn.Identity,
    nn.Softmax,
    nn.LogSoftmax,
    nn.modules.loss._Loss,
    nn.Sequential,
    nn.ModuleList,
    nn.ModuleDict,
)
"""Modules without weights that leave the distribution of the next token as it is."""


@dataclass(frozen=True)
class WeightHolders:
    """The modules that hold the weights, and their names by type."""

    lstm: nn.LSTM
    projection: nn.Linear
    embedding: nn.Embedding | None
    names: dict[type, str]

    @classmethod
    def of(cls, module: nn.Module) -> "WeightHolders":
        """The holders in a module, found by type.

        Raises:
            InputError: more or fewer than one nn.LSTM or nn.Linear, or several nn.Embedding.
        """
        found: dict[type, nn.Module] = {}
        names: dict[type, str] = {}
        for kind in HOLDERS:
            optional = kind is nn.Embedding
            parts = [(n, m) for n, m in module.named_modules() if isinstance(m, kind)]
            if len(parts) > 1 or not (parts or optional):
                expected = "at most" if optional else "exactly"
                got = ", ".join(name or "the module itself" for name, _ in parts) or "none"
                raise InputError(f"module: expected {expected} one nn.{kind.__name__}, got {got}")
            for name, part in parts:
                found[kind] = part
                names[kind] = name or kind.__name__
        lstm, projection, embedding = (found.get(kind) for kind in HOLDERS)
        assert isinstance(lstm, nn.LSTM)
        assert isinstance(projection, nn.Linear)
        assert isinstance(embedding, nn.Embedding | None)
        return cls(lstm, projection, embedding, names)

    @property
    def weights(self) -> list[torch.Tensor]:
        """All weights of the holders."""
        weights = [self.projection.weight, self.projection.bias]
        for layer in self.lstm.all_weights:
            weights += layer
        if self.embedding is not None:
            weights.append(self.embedding.weight)
        return [weight for weight in weights if weight is not None]


def without_place(module: nn.Module, holders: WeightHolders) -> list[str]:
    """What of a module the equations of a `LanguageModel` lack, by name."""
    lstm, embedding, names, found = holders.lstm, holders.embedding, holders.names, []
    if lstm.bidirectional:
        found.append(f"{names[nn.LSTM]}.bidirectional (one direction only)")
    if lstm.proj_size > 0:
        found.append(f"{names[nn.LSTM]}.proj_size = {lstm.proj_size} (no projection of h)")
    if embedding is not None and embedding.max_norm is not None:
        max_norm = f"max_norm = {embedding.max_norm:g}"
        found.append(f"{names[nn.Embedding]}.{max_norm} (renormalised when read)")
    held = {id(weight) for weight in holders.weights}
    for name, tensor in (*module.named_parameters(), *module.named_buffers()):
        if id(tensor) not in held:
            found.append(f"{name} {list(tensor.shape)}")
    for name, part in module.named_modules():
        kind = type(part)
        if any(part is holder for holder in (lstm, holders.projection, embedding)):
            if not any(kind.forward is base.forward for base in HOLDERS):
                found.append(f"{name or 'module'} (a {kind.__name__} with a forward of its own)")
        elif not list(part.children()) and not isinstance(part, NO_COMPUTATION):
            found.append(f"{name} ({kind.__name__})")
    return found


def check_sizes(holders: WeightHolders, vocabulary: Vocabulary) -> None:
    """Raise unless sizes and dtypes of the holders fit together, and the vocabulary."""
    lstm, projection, embedding = holders.lstm, holders.projection, holders.embedding
    names = {kind.__name__: name for kind, name in holders.names.items()}
    V, H = projection.out_features, lstm.hidden_size
    features, source = V, f"vocab_size = {V}, of one-hot inputs"
    if embedding is not None:
        features = embedding.embedding_dim
        source = f"{names['Embedding']}.embedding_dim = {features}"
        if embedding.num_embeddings != V:
            raise InputError(
                f"{names['Embedding']}.num_embeddings: expected {names['Linear']}.out_features ="
                f" {V}, got {embedding.num_embeddings}"
            )
    if lstm.input_size != features:
        raise InputError(f"{names['LSTM']}.input_size: expected {source}, got {lstm.input_size}")
    if projection.in_features != H:
        raise InputError(
            f"{names['Linear']}.in_features: expected {names['LSTM']}.hidden_size = {H},"
            f" got {projection.in_features}"
        )
    if len(vocabulary) != V:
        raise InputError(
            f"vocabulary: expected {names['Linear']}.out_features = {V} tokens,"
            f" got {len(vocabulary)}"
        )
    dtypes = {str(weight.dtype).removeprefix("torch.") for weight in holders.weights}
    if len(dtypes) != 1 or not dtypes <= {"float32", "float64"}:
        raise InputError(
            f"module: expected weights of float32 or of float64, got {', '.join(sorted(dtypes))};"
            " convert it with .float() or .double()"
        )
    if any(weight.is_meta for weight in holders.weights):
        raise InputError(
            "module: expected weights, got a module on the device meta, which has none; load them"
        )


def losses_of_conversion(holders: WeightHolders, verb: str) -> list[str]:
    """What a `LanguageModel` can hold in another form only.

    Args:
        holders: of the weights.
        verb: "would be" before the conversion, "were" after it.
    """
    names, lost = holders.names, []
    if holders.embedding is not None:
        lost.append(
            f"{names[nn.Embedding]}: {verb} multiplied into {names[nn.LSTM]}.weight_ih_l0, in"
            " float64 and rounded once, which cannot be undone"
        )
    if not holders.lstm.bias:
        lost.append(f"{names[nn.LSTM]}.bias: zeros {verb} put where there is none")
    if holders.projection.bias is None:
        lost.append(f"{names[nn.Linear]}.bias: zeros {verb} put where there is none")
    return lost


def conversion_notes(module: nn.Module, holders: WeightHolders) -> list[str]:
    """What a conversion leaves behind that is no weight, a sentence each."""
    names, embedding, notes = holders.names, holders.embedding, []
    if holders.lstm.dropout:
        notes.append(f"{names[nn.LSTM]}.dropout = {holders.lstm.dropout:g} is no weight")
    for name, part in module.named_modules():
        if isinstance(part, nn.Dropout):
            notes.append(f"{name}: dropout of {part.p:g} is no weight")
    if embedding is not None and embedding.weight is holders.projection.weight:
        notes.append(
            f"{names[nn.Embedding]}.weight and {names[nn.Linear]}.weight were tied;"
            " here they are apart, and will train apart"
        )
    return notes
