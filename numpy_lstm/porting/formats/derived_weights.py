"""Weights that a file holds as what they are computed from, by the formulas of PyTorch.

Sources: torch.nn.utils weight_norm, spectral_norm and prune; torch.nn.utils.parametrizations;
WeightDrop of AWD-LSTM (Merity et al. 2018, "Regularizing and Optimizing LSTM Language Models").
"""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np

from numpy_lstm.porting.formats.archive import Archive
from numpy_lstm.porting.layouts.canonical import WEIGHT_DTYPES

WEIGHT = r"(?P<weight>(weight|bias)_(ih|hh|hr)(_l\d+)?(_reverse)?)"
Formula = Callable[..., np.ndarray | None]


def _weight_norm(v: np.ndarray, g: np.ndarray) -> np.ndarray | None:
    """g v / |v|, where g has one number for each row (or column, or one alone)."""
    if g.ndim not in (0, v.ndim):
        return None
    pairs = zip(g.shape, v.shape, strict=False)
    if g.ndim and any(size not in (1, full) for size, full in pairs):
        return None
    summed = tuple(k for k in range(v.ndim) if g.ndim == 0 or g.shape[k] == 1)
    return g * v / np.sqrt(np.square(v).sum(summed, keepdims=True))


def _spectral_norm(weight: np.ndarray, u: np.ndarray, v: np.ndarray) -> np.ndarray | None:
    """W / (u' W v), where u and v are what power iteration has found."""
    if weight.ndim != 2 or (*u.shape, *v.shape) != weight.shape:
        return None
    return weight / (u @ weight @ v)


def _pruned(weight: np.ndarray, mask: np.ndarray) -> np.ndarray | None:
    """W with zeros where the mask has them."""
    if mask.shape != weight.shape or not np.isin(mask, (0, 1)).all():
        return None
    return weight * mask


def _raw(weight: np.ndarray) -> np.ndarray | None:
    """W before the dropout of training was applied to it."""
    return weight


@dataclass(frozen=True)
class Derivation:
    """A way in which PyTorch keeps a weight as other tensors.

    Args:
        title: what it is called, with its formula.
        pattern: of the name of the first of these tensors, with groups `module` and `weight`.
        sources: the names of all of them, in the order of the formula's arguments.
        formula: from the tensors to the weight; None if their shapes do not fit.
    """

    title: str
    pattern: str
    sources: tuple[str, ...]
    formula: Formula


_MODULE = r"(?P<module>|.*[./])"
_PARAMETRIZED = "{module}parametrizations.{weight}"
DERIVATIONS = (
    Derivation(
        "g v / |v| (weight_norm)",
        rf"{_MODULE}{WEIGHT}_v",
        ("{module}{weight}_v", "{module}{weight}_g"),
        _weight_norm,
    ),
    Derivation(
        "g v / |v| (weight_norm)",
        rf"{_MODULE}parametrizations\.{WEIGHT}\.original1",
        (f"{_PARAMETRIZED}.original1", f"{_PARAMETRIZED}.original0"),
        _weight_norm,
    ),
    Derivation(
        "W / (u' W v) (spectral_norm)",
        rf"{_MODULE}{WEIGHT}_orig",
        ("{module}{weight}_orig", "{module}{weight}_u", "{module}{weight}_v"),
        _spectral_norm,
    ),
    Derivation(
        "W / (u' W v) (spectral_norm)",
        rf"{_MODULE}parametrizations\.{WEIGHT}\.original",
        (f"{_PARAMETRIZED}.original", f"{_PARAMETRIZED}.0._u", f"{_PARAMETRIZED}.0._v"),
        _spectral_norm,
    ),
    Derivation(
        "W mask (prune)",
        rf"{_MODULE}{WEIGHT}_orig",
        ("{module}{weight}_orig", "{module}{weight}_mask"),
        _pruned,
    ),
    Derivation(
        "the raw weights, without the dropout of training (WeightDrop of AWD-LSTM)",
        rf"{_MODULE}{WEIGHT}_raw",
        ("{module}{weight}_raw",),
        _raw,
    ),
)


def with_derived_weights(archive: Archive) -> Archive:
    """The archive with weights in place of what they are computed from, and a note of each.

    Where the tensors do not fit the formula they stay, and are found beside the LSTM as what may
    be a part of it.
    """
    tensors = dict(archive.tensors)
    notes = []
    for derivation, words in _matches(archive.tensors):
        sources = [source.format(**words) for source in derivation.sources]
        if not all(source in tensors for source in sources):
            continue
        weight = _computed(derivation.formula, [tensors[source] for source in sources])
        name = _name_of(words, tensors, derivation.formula)
        if weight is None or name is None:
            continue
        for source in sources:
            del tensors[source]
        tensors[name] = weight
        notes.append(f"{name} was computed from {', '.join(sources)}: {derivation.title}")
    others = _not_computed(tensors)
    if not notes and not others:
        return archive
    return replace(
        archive,
        tensors=tensors,
        notes=(*archive.notes, *notes),
        others=(*archive.others, *others),
    )


def _not_computed(tensors: Mapping[str, np.ndarray]) -> list[str]:
    """A sentence with the cure for each weight that is not there but in parts without a formula."""
    parts: dict[str, str] = {}
    for name in tensors:
        match = re.fullmatch(rf"{_MODULE}parametrizations\.{WEIGHT}\..*", name)
        match = match or re.fullmatch(rf"{_MODULE}{WEIGHT}_(v|g|u|orig|mask)", name)
        if match and f"{match['module']}{match['weight']}" not in tensors:
            parts.setdefault(match["weight"], name)
    return [
        f"{weight} is not in the file, but {part}, from which it is computed in a way that is not"
        " known here; make it plain before it is saved"
        " (torch.nn.utils.parametrize.remove_parametrizations, remove_weight_norm or prune.remove)"
        for weight, part in parts.items()
    ]


def _matches(names: Mapping[str, np.ndarray]) -> Iterator[tuple[Derivation, dict[str, str]]]:
    """Each derivation that a name in the file begins, with the words of the name."""
    candidates = [n for n in names if re.search(r"_(v|orig|raw)$|\.original1?$", n)]
    for derivation in DERIVATIONS:
        for name in candidates:
            match = re.fullmatch(derivation.pattern, name)
            if match:
                yield derivation, match.groupdict()


def _computed(formula: Formula, sources: list[np.ndarray]) -> np.ndarray | None:
    """The weight in the dtype of the first source, computed in float64 and rounded once."""
    dtype = sources[0].dtype
    if any(source.dtype.name not in (*WEIGHT_DTYPES, "bool") for source in sources):
        return None
    with np.errstate(all="ignore"):  # what is not finite is refused later, by name
        if formula is _raw:
            return sources[0]
        weight = formula(*(source.astype(np.float64) for source in sources))
    return None if weight is None else weight.astype(dtype)


def _name_of(
    words: Mapping[str, str], tensors: Mapping[str, np.ndarray], formula: Formula
) -> str | None:
    """What a derived weight is called; None if there is another of that name.

    The raw weights of WeightDrop take the place of a copy that dropout has been applied to, which
    may be in the module within.
    """
    name = f"{words['module']}{words['weight']}"
    if formula is not _raw:
        return None if name in tensors else name
    within = f"{words['module']}module.{words['weight']}"
    beside = [n for n in tensors if n.startswith(f"{words['module']}module.")]
    return within if beside and name not in tensors else name
