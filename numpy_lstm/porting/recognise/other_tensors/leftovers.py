"""Tensors that no layout explains and that may still belong to an LSTM, by name and by shape.

An LSTM with a layer norm, a bias or a projection that its layout does not know computes something
else. Whatever may be such a part is a reason to refuse the file, however deep under the LSTM's
prefix it lies.
"""

import re
from collections.abc import Mapping, Set

import numpy as np

from numpy_lstm.porting.formats.archive import Archive, module_of
from numpy_lstm.porting.layouts.all_frameworks import ROWS
from numpy_lstm.porting.layouts.placed_lstm import PlacedLSTM

EQUATION_CHANGES = re.compile(
    r"norm|peep|gamma|beta|diag|raw$|original|parametriz|(^|[./_])(ln|bn)(\d*|_\w*)([./]|$)",
    re.IGNORECASE,
)
"""Words in the names of tensors that change an LSTM's equations, or that its weights come from."""
PARTS = re.compile(r"proj|attn|attention|mask|lora|zoneout", re.IGNORECASE)
"""Words that do so within a module of the LSTM's own, and are common names elsewhere."""
WHOLE_MODELS = frozenset(
    "module model net network state_dict model_state_dict weights params ema _orig_mod".split()
)
"""Parts of prefixes that are those of a whole model, and not of an LSTM in it."""


def tensors_and_neighbours(lstm: PlacedLSTM, archive: Archive) -> dict[str, np.ndarray]:
    """An LSTM's tensors, and those beside or below them that might belong to it."""
    result = dict(lstm.tensors)
    sizes = _sizes(lstm)
    own = _local_names(lstm)
    for prefix in dict.fromkeys(lstm.prefixes):
        # PyTorch's WeightDrop keeps the raw weights beside the module that has the dropped ones.
        outer = re.sub(r"(^|(?<=\.))module\.$", "", prefix)
        for name, array in archive.tensors.items():
            if name in result:
                continue
            is_source = name.startswith(outer) and _extends(name.removeprefix(outer), own)
            if is_source or (
                name.startswith(prefix) and _may_belong(name, prefix, archive.tensors, own, sizes)
            ):
                result[name] = array
    return result


def unnamed_parts(lstm: PlacedLSTM, names: Set[str], archive: Archive) -> list[str]:
    """Tensors that may be parts of an LSTM of which the caller has named all tensors.

    They lie in the same module as the named ones, are vectors with the size of a bias, a norm or a
    peephole or have such a name, and no matrix beside them explains them.
    """
    sizes = _sizes(lstm)
    modules = {module_of(name) for name in names}
    with_matrices = {
        group_of(name)
        for name, array in archive.tensors.items()
        if name not in names and array.squeeze().ndim == 2
    }
    found = []
    for name, array in archive.tensors.items():
        if name in names or module_of(name) not in modules or array.size <= 1:
            continue
        is_vector = array.size == max(array.shape)
        belongs = is_vector and array.size in sizes and group_of(name) not in with_matrices - {""}
        if belongs or EQUATION_CHANGES.search(name):
            found.append(f"{name} {list(array.shape)}")
    return found


def group_of(name: str) -> str:
    """What stands before the last separator of any kind: layer0_ of layer0_W."""
    match = re.match(r".*[./_:-]", name)
    return match[0] if match else ""


def is_gate_sized(shape: tuple[int, ...], sizes: Set[int]) -> bool:
    """Whether a vector, maybe with axes of 1, has numbers for three, four or eight gates.

    Args:
        shape: of the tensor.
        sizes: H, 3H, 4H and 8H.
    """
    longer = [size for size in shape if size > 1]
    return len(longer) == 1 and longer[0] in sizes - {min(sizes, default=0)}


def _may_belong(
    name: str, prefix: str, tensors: Mapping[str, np.ndarray], own: Set[str], sizes: Set[int]
) -> bool:
    """Whether the LSTM with this prefix may have a tensor of this name."""
    rest = name.removeprefix(prefix)
    if _is_in_table(rest) or _extends(rest, own):
        return True
    if any(rest.startswith(f"{local}/") for local in own):
        return False  # what an optimiser or an average keeps of a weight in TensorFlow
    shape = tensors[name].shape
    nested = re.search("[./]", rest) is not None
    changes = EQUATION_CHANGES.search(rest) is not None
    if set(re.findall(r"\w+", prefix)) <= WHOLE_MODELS:
        # Every tensor of the file begins alike.
        if nested:
            return changes and max(shape, default=0) in sizes
        return changes or (is_gate_sized(shape, sizes) and not _has_bias(prefix, own, tensors))
    if not nested:
        return True
    if tensors[name].size <= 1:
        return False
    if changes or PARTS.search(rest):
        return True
    return is_gate_sized(shape, sizes) and not _is_linear(name, tensors)


def _has_bias(prefix: str, own: Set[str], tensors: Mapping[str, np.ndarray]) -> bool:
    """Whether one of the LSTM's own tensors is a bias, by its shape."""
    return any(tensors[prefix + n].squeeze().ndim == 1 for n in own if prefix + n in tensors)


def _is_linear(name: str, tensors: Mapping[str, np.ndarray]) -> bool:
    """Whether a vector is the bias of a matrix beside it, as a Linear layer has it."""
    module, _, leaf = name.rpartition(".")
    matrix = tensors.get(f"{module}.weight")
    return leaf == "bias" and matrix is not None and matrix.ndim == 2


def _extends(rest: str, own: Set[str]) -> bool:
    """Whether this is the name of one of the LSTM's tensors and more: weight_hh_l0_raw."""
    match = re.fullmatch(r"(.+?)_(raw|g|v|u|orig|mask|scale|zero_point)", rest)
    return match is not None and match[1] in own


def _local_names(lstm: PlacedLSTM) -> set[str]:
    """The names that an LSTM's tensors have, or would have, after their prefixes."""
    return {place.name.removeprefix(lstm.prefixes[place.layer]) for place in lstm.places}


def _sizes(lstm: PlacedLSTM) -> set[int]:
    """H, 3H, 4H and 8H, by the recurrent matrix; empty if it is too odd to tell."""
    for place in lstm.present:
        letters, groups = place.tensor.letters, place.tensor.groups
        if place.tensor.holds in ("W_hh", "W_xh", "W_hx") and "u" in letters:
            shape = lstm.tensors[place.name].shape
            for group, size in zip(groups, shape, strict=False):
                if "u" in group:
                    blocks = len(lstm.gates) if "g" in group else 1
                    hidden_size = size // blocks
                    return {hidden_size * k for k in (1, 3, 4, 8)} - {0}
    return set()


def _is_in_table(name: str) -> bool:
    """Whether some row has a tensor of exactly this name, whatever the layer and direction."""
    for row in ROWS:
        for directions in (1, 2):
            for _, pattern in row.name_patterns(directions):
                match = pattern.fullmatch(name)
                if match and not match["prefix"]:
                    return True
    return False
