"""Tensors whose names the caller says: which of them is which part of an LSTM of a layout."""

from collections.abc import Mapping
from dataclasses import replace
from difflib import get_close_matches
from pathlib import Path

from numpy_lstm.porting.formats.archive import Archive
from numpy_lstm.porting.layouts.all_frameworks import TABLE
from numpy_lstm.porting.layouts.layout import Layout, Tensor
from numpy_lstm.porting.options import OptionError, ReadOptions
from numpy_lstm.porting.recognise.by_shape import with_axes


def with_given_names(path: Path, archive: Archive, options: ReadOptions) -> Archive:
    """The tensors that the caller names, alone, under the names of their layout.

    Args:
        path: for messages.
        archive: the file.
        options: the layout, and the names: by kind of tensor or name in the layout, that in the
            file, such as {"W_ih": "w1", "W_hh": "w2"}.

    Raises:
        OptionError: no layout is given; the file lacks such a tensor, or the layout such a part.
    """
    assert options.names is not None
    if options.layout not in TABLE:
        raise OptionError(
            f"names: which layout do they have? say one of {', '.join(TABLE)} with ", "layout"
        )
    row = TABLE[options.layout]
    tensors = {}
    for part, name in options.names.items():
        if name not in archive.tensors:
            close = get_close_matches(name, archive.tensors, n=1)
            hint = f"; did you mean {close[0]!r}?" if close else ""
            raise OptionError(f"{path}: has no tensor {name!r}; mend ", "names", hint)
        tensor, new = _place_of(row, part)
        tensors[new] = with_axes(archive.tensors[name], tensor)
    return replace(archive, tensors=tensors, facts={}, rows=(), chains=None)


def _place_of(row: Layout, part: str) -> tuple[Tensor, str]:
    """The row's tensor that is called this, by its kind or by a name of the layout, and its name.

    Raises:
        OptionError: there is none.
    """
    for tensor in row.tensors:
        if tensor.holds == part and "{gate}" not in tensor.name:
            return tensor, tensor.name.format(layer=0, direction=row.tokens(1)[0])
    for directions in (2, 1):
        for tensor, pattern in row.name_patterns(directions):
            if pattern.fullmatch(part):
                return tensor, part
    expected = [tensor.name if "{gate}" in tensor.name else tensor.holds for tensor in row.tensors]
    raise OptionError(
        f"{row.key} has no part {part!r}; expected some of {', '.join(expected)} in ", "names"
    )


def names_text(names: Mapping[str, str]) -> str:
    """The names as `--names` takes them: W_ih=w1,W_hh=w2."""
    return ",".join(f"{part}={name}" for part, name in names.items())
