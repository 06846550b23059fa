"""Whole language models in PyTorch: a checkpoint of ours as an nn.Module, and back, bit for bit.

A model of one bias has it in `bias_ih`; `bias_hh` is zero and frozen. By that it is known again: a
`bias_hh` that trains is one of a pair, even where it is still zero.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import nn

from numpy_lstm.errors import InputError, check_parameters
from numpy_lstm.language_model import LanguageModel
from numpy_lstm.training.checkpoint import Checkpoint
from numpy_lstm.training.vocabulary import Vocabulary
from torch_oracle.weights.pt_files import to_array, to_tensor
from torch_oracle.weights.torch_language_model import TorchLanguageModel
from torch_oracle.weights.weight_holders import (
    WeightHolders,
    check_sizes,
    conversion_notes,
    losses_of_conversion,
    without_place,
)


def to_torch(checkpoint: Checkpoint) -> TorchLanguageModel:
    """The checkpoint's model with copies of its weights; torch's random numbers are not drawn.

    Raises:
        InputError: parameters that do not fit the model, or of a dtype that torch lacks.
    """
    model, parameters = checkpoint.model, checkpoint.parameters
    dtype = check_parameters(parameters, model.parameter_shapes())
    if dtype not in (np.float32, np.float64):
        raise InputError(f"parameters: expected float32 or float64, got {dtype}; convert them")
    tensors = {name: to_tensor(array) for name, array in parameters.items()}
    module = TorchLanguageModel(
        model.vocab_size,
        model.hidden_size,
        model.num_layers,
        device="meta",  # the weights are replaced at once
        dtype=tensors["projection.weight"].dtype,
    )
    if not model.bias_pair:
        for suffix in model.lstm.suffixes:
            bias = tensors.pop(f"lstm.bias{suffix}")
            tensors[f"lstm.bias_ih{suffix}"] = bias
            tensors[f"lstm.bias_hh{suffix}"] = torch.zeros_like(bias)
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
    holders = WeightHolders.of(module)
    impossible = without_place(module, holders)
    if impossible:
        raise InputError(f"a LanguageModel has no place for: {'; '.join(impossible)}")
    check_sizes(holders, vocabulary)
    lost = losses_of_conversion(holders, "would be")
    if lost and not allow_lossy:
        raise InputError(
            f"a LanguageModel cannot hold everything: {'; '.join(lost)};"
            " allow it with allow_lossy=True"
        )
    parameters, bias_pair = _parameters(holders)
    V, H = holders.projection.out_features, holders.lstm.hidden_size
    model = LanguageModel(V, H, holders.lstm.num_layers, bias_pair=bias_pair)
    check_parameters(parameters, model.parameter_shapes())
    all_notes = dict(notes or {})
    sentences = losses_of_conversion(holders, "were") + conversion_notes(module, holders)
    if sentences:
        all_notes["from_torch"] = [*all_notes.get("from_torch", ()), *sentences]
    ordered = {name: parameters[name] for name in model.parameter_shapes()}
    return Checkpoint(model, vocabulary, ordered, all_notes)


def _parameters(holders: WeightHolders) -> tuple[dict[str, np.ndarray], bool]:
    """Copies of the weights under our names, and whether both biases are kept."""
    lstm, projection = holders.lstm, holders.projection
    layers = range(lstm.num_layers)
    W_v = to_array(projection.weight)
    parameters = {"projection.weight": W_v, "projection.bias": np.zeros(len(W_v), W_v.dtype)}
    if projection.bias is not None:
        parameters["projection.bias"] = to_array(projection.bias)
    for k in layers:
        for name in (f"weight_ih_l{k}", f"weight_hh_l{k}"):
            parameters[f"lstm.{name}"] = to_array(getattr(lstm, name))
    if holders.embedding is not None:
        W_ih, E = parameters["lstm.weight_ih_l0"], to_array(holders.embedding.weight)
        folded = W_ih.astype(np.float64) @ E.astype(np.float64).T
        parameters["lstm.weight_ih_l0"] = folded.astype(W_ih.dtype)
    if not lstm.bias:
        for k in layers:
            parameters[f"lstm.bias_l{k}"] = np.zeros(4 * lstm.hidden_size, W_v.dtype)
        return parameters, False
    bias_pair = any(_is_second_bias(getattr(lstm, f"bias_hh_l{k}")) for k in layers)
    for k in layers:
        bias_ih = to_array(getattr(lstm, f"bias_ih_l{k}"))
        if bias_pair:
            parameters[f"lstm.bias_ih_l{k}"] = bias_ih
            parameters[f"lstm.bias_hh_l{k}"] = to_array(getattr(lstm, f"bias_hh_l{k}"))
        else:
            parameters[f"lstm.bias_l{k}"] = bias_ih
    return parameters, bias_pair


def _is_second_bias(bias_hh: torch.Tensor) -> bool:
    """Whether `bias_hh` trains, or has any bit that is not zero: frozen zeros are no bias."""
    return bias_hh.requires_grad or any(to_array(bias_hh).tobytes())
