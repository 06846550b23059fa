"""Which LSTMs are in a file, and in whose layout: ranked hypotheses with reasons.

A hypothesis is a row of the table with a prefix, whose every tensor is there and of shapes that fit
together. Names decide; where they do not, shapes alone are tried, and whatever leaves more than one
reading that would give different weights is called ambiguous.
"""

import re
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from functools import cache
from itertools import pairwise, permutations

import numpy as np

from numpy_lstm.errors import InputError
from numpy_lstm.porting.formats.archive import Archive
from numpy_lstm.porting.layouts.arrangement import sizes_of, to_canonical
from numpy_lstm.porting.layouts.canonical import RuntimeFacts
from numpy_lstm.porting.layouts.layout import Layout, Tensor
from numpy_lstm.porting.layouts.placed_lstm import PlacedLSTM
from numpy_lstm.porting.layouts.table import ROWS, TABLE

RECURRENT = ("W_hh", "W_xh", "W_hx")
"""What no LSTM can be without."""
REQUIRED = ("W_ih", *RECURRENT)
EQUATIONS = re.compile("norm|peep|gamma|beta|diag")
"""In names of tensors that change an LSTM's equations, where no prefix says whose they are."""
MOST_BY_SHAPE = 4
"""Tensors of a layer whose names say nothing are tried in every order up to this many."""


@dataclass(frozen=True)
class Hypothesis:
    """One way to read some of a file's tensors as an LSTM.

    Args:
        lstm: the LSTM so read.
        names: the tensors that it explains.
        score: what is evidence: how many tensors it explains, whether everything fits, and whether
            the prefix is one that only this framework gives.
        usual: whether the separators are those of the framework; it ranks, but proves nothing.
        reasons: what speaks for it and against it, a sentence each.
        problem: what does not fit; "" if everything does.
    """

    lstm: PlacedLSTM
    names: Set[str]
    score: tuple[int, ...]
    usual: bool
    reasons: tuple[str, ...]
    problem: str = ""


@dataclass(frozen=True)
class FoundLSTM:
    """One LSTM of a file, with its readings, the likeliest first."""

    hypotheses: tuple[Hypothesis, ...]

    @property
    def best(self) -> Hypothesis:
        """The likeliest."""
        return self.hypotheses[0]

    @property
    def equals(self) -> tuple[Hypothesis, ...]:
        """All that are as likely as the best."""
        return tuple(h for h in self.hypotheses if h.score == self.best.score)

    @property
    def ambiguous(self) -> bool:
        """Whether equally likely readings give different weights."""
        if self.best.problem:
            return False
        return len({to_canonical(h.lstm).digest() for h in self.equals}) > 1

    @property
    def prefixes(self) -> tuple[str, ...]:
        """What precedes the tensors' names: one for each layer, or one for all."""
        return tuple(dict.fromkeys(self.best.lstm.prefixes))

    @property
    def label(self) -> str:
        """What a person calls it."""
        return ",".join(self.prefixes)


def recognise(
    archive: Archive, row: str | None = None, facts: RuntimeFacts | None = None
) -> list[FoundLSTM]:
    """Every LSTM in a file.

    Args:
        archive: the file.
        row: the layout, if it is known.
        facts: what the file leaves unsaid, if it is known.

    Raises:
        InputError: a row that is not in the table.
    """
    keys = (row,) if row else archive.rows
    unknown = [key for key in keys if key not in TABLE]
    if unknown:
        raise InputError(f"layout: expected one of {', '.join(TABLE)}, got {unknown[0]!r}")
    rows = [TABLE[key] for key in keys] or ROWS
    floating = {
        name: array
        for name, array in archive.tensors.items()
        if array.dtype.name in ("float16", "bfloat16", "float32", "float64")
    }
    found = [h for each in rows for h in _by_names(each, floating, archive, bool(row))]
    if not found:
        found = [h for each in rows for h in _by_shapes(each, floating)]
    found = [replace(h, lstm=_with_facts(h.lstm, archive, facts)) for h in found]
    return _findings(found)


def _findings(found: Sequence[Hypothesis]) -> list[FoundLSTM]:
    """Readings of the same tensors together, the likeliest first."""
    ranked = sorted(found, key=lambda h: (*h.score, h.usual), reverse=True)
    findings: list[list[Hypothesis]] = []
    first: dict[str, int] = {}  # by tensor: the finding whose best reading explains it
    for hypothesis in ranked:
        shared = [first[name] for name in hypothesis.names if name in first]
        if shared:
            findings[min(shared)].append(hypothesis)
        else:
            first |= dict.fromkeys(hypothesis.names, len(findings))
            findings.append([hypothesis])
    ordered = sorted(findings, key=lambda finding: finding[0].lstm.prefixes)
    return [FoundLSTM(tuple(finding)) for finding in ordered]


def _with_facts(lstm: PlacedLSTM, archive: Archive, facts: RuntimeFacts | None) -> PlacedLSTM:
    """With what the caller knows, else what the file says, else what is usual."""
    said = facts or archive.facts.get(lstm.prefixes[0], RuntimeFacts())
    fixed = lstm.layout.forget_bias
    return (
        replace(lstm, facts=replace(said, forget_bias=fixed))
        if isinstance(fixed, float)
        else replace(lstm, facts=said)
    )


def missing_facts(lstm: PlacedLSTM, archive: Archive) -> dict[str, str]:
    """Sentences about what the equations need and this file does not say, by field."""
    result, layout = {}, lstm.layout
    if layout.forget_bias == "told":
        result["forget_bias"] = (
            "forget_bias, which is added at run time (TensorFlow's default is 1.0)"
        )
    if layout.activations == "told" and lstm.prefixes[0] not in archive.facts:
        result["activations"] = "activations, taken to be sigmoid and tanh (else: --activations)"
    return result


def own_tensors(lstm: PlacedLSTM, archive: Archive) -> dict[str, np.ndarray]:
    """The LSTM's tensors, and those right beside them that might belong to it."""

    def beside(name: str) -> bool:
        rests = {p: name.removeprefix(p) for p in lstm.prefixes if name.startswith(p)}
        return any(
            is_named_like_lstm(rest)
            or (not set("./") & set(rest) and bool(prefix or EQUATIONS.search(rest)))
            for prefix, rest in rests.items()
        )

    return {**lstm.tensors, **{n: a for n, a in archive.tensors.items() if beside(n)}}


# --- by names ---------------------------------------------------------------------------------


def _by_names(
    row: Layout, tensors: Mapping[str, np.ndarray], archive: Archive, told: bool
) -> Iterator[Hypothesis]:
    """Readings of a row, by the names of its tensors."""
    remaining = dict(tensors)
    for directions in (2, 1):
        if directions == 2 and row.directions is None:
            continue
        cells = _cells(row, directions, remaining)
        for prefixes in _stacks(row, cells, directions, remaining, archive):
            lstm = PlacedLSTM(row, {}, prefixes, directions)
            names = {place.name for place in lstm.places if place.name in tensors}
            lstm = replace(lstm, tensors={name: tensors[name] for name in sorted(names)})
            hypothesis = _judged(_with_leading(lstm), tensors, archive.chains is not None)
            yield hypothesis if told else _not_a_gru(hypothesis)
            for name in names:
                remaining.pop(name, None)


def _with_leading(lstm: PlacedLSTM) -> PlacedLSTM:
    """With two directions if they are an axis of the tensors, and it is 2."""
    first = next(p for p in lstm.places if p.name in lstm.tensors)
    two = "d" in first.tensor.letters and lstm.tensors[first.name].shape[:1] == (2,)
    return replace(lstm, directions=2) if two else lstm


def pattern(row: Layout, tensor: Tensor, directions: int) -> re.Pattern[str]:
    """What the names of this tensor look like, after any prefix that ends in a separator."""
    order = row.peepholes if tensor.holds == "W_ch" else row.gates
    choices = {
        "layer": r"(?P<layer>\d+)",
        "direction": f"(?P<direction>{_either(row.tokens(directions))})",
        "gate": f"(?P<gate>{_either([row.gate_name(gate, tensor) for gate in order])})",
    }
    parts = re.split(r"\{(\w+)\}", tensor.name)
    body = "".join(choices[p] if k % 2 else re.escape(p) for k, p in enumerate(parts))
    # Names with slashes are paths: "basic_lstm_cell" is no "lstm_cell" under the prefix "basic_".
    separators = "/" if "/" in tensor.name else "./_:-"
    return re.compile(rf"(?P<prefix>|.*[{separators}]){body}")


def is_named_like_lstm(name: str) -> bool:
    """Whether some row has a tensor of exactly this name, whatever the layer and direction."""
    matches = (each.fullmatch(name) for each in _patterns())
    return any(match is not None and not match["prefix"] for match in matches)


@cache
def _patterns() -> tuple[re.Pattern[str], ...]:
    """Of all tensors of all rows."""
    return tuple(
        pattern(row, tensor, directions)
        for row in ROWS
        for tensor in row.tensors
        for directions in (1, 2)
    )


def _either(words: Sequence[str]) -> str:
    return "|".join(re.escape(word) for word in sorted(words, key=len, reverse=True))


def _cells(row: Layout, directions: int, tensors: Mapping[str, np.ndarray]) -> dict[str, set[int]]:
    """Prefixes under which a recurrent matrix lies, with the layers that the names say."""
    cells: dict[str, dict[int, set[str]]] = {}
    for tensor in row.tensors:
        if tensor.holds not in RECURRENT:
            continue
        shape = pattern(row, tensor, directions)
        for name in tensors:
            if match := shape.fullmatch(name):
                groups = match.groupdict()
                layers = cells.setdefault(match["prefix"], {})
                layers.setdefault(int(groups.get("layer") or 0), set()).add(
                    groups.get("direction") or ""
                )
    tokens = set(row.tokens(directions))
    return {
        prefix: {k for k, seen in layers.items() if directions == 1 or seen == tokens}
        for prefix, layers in cells.items()
        if row.prefix in prefix
    }


def _stacks(
    row: Layout,
    cells: Mapping[str, set[int]],
    directions: int,
    tensors: Mapping[str, np.ndarray],
    archive: Archive,
) -> Iterator[tuple[str, ...]]:
    """Prefixes, layer by layer, of each LSTM.

    Layers follow each other as the container says or, if it does not, as their names count up; and
    only where sizes fit and activations are the same.
    """
    if row.layers_in_names:
        for prefix, layers in cells.items():
            # A number beyond that of the tensors is no layer's.
            layers = {k for k in layers if k < len(tensors)}
            if layers:
                yield (prefix,) * (1 + max(layers))
        return
    ordered = sorted((*_number(prefix), prefix) for prefix, layers in cells.items() if layers)
    counting = (
        (below, above)
        for (name, k, below), (other, n, above) in pairwise(ordered)
        if name == other and n == k + 1
    )
    there, facts = {prefix for *_, prefix in ordered}, archive.facts
    above = {
        below: above
        for below, above in sorted(counting if archive.chains is None else archive.chains)
        if {below, above} <= there
        and facts.get(below) == facts.get(above)
        and _feeds(row, below, above, directions, tensors)
    }
    fed = set(above.values())
    for *_, prefix in ordered:
        if prefix not in fed:
            stack = [prefix]
            while stack[-1] in above:
                stack.append(above.pop(stack[-1]))
            yield tuple(stack)


def _number(prefix: str) -> tuple[str, int]:
    """The prefix without its last number, and that number: lstm_1/ gives lstm/ and 1."""
    match = re.fullmatch(r"(.*?)_?(\d+)(\D*)", prefix)
    return (match[1] + match[3], int(match[2])) if match else (prefix, 0)


def _feeds(
    row: Layout, below: str, above: str, directions: int, tensors: Mapping[str, np.ndarray]
) -> bool:
    """Whether one layer's outputs fit the next one's inputs, and both have as many units."""
    sizes = []
    for prefix in (below, above):
        lstm = _with_leading(PlacedLSTM(row, tensors, (prefix,), directions))
        try:
            sizes.append(sizes_of(lstm, 0) | {"D": lstm.directions})
        except InputError:
            return False
    first, second = sizes
    return second["i"] == first["r"] * first["D"] and second["u"] == first["u"]


def _judged(lstm: PlacedLSTM, tensors: Mapping[str, np.ndarray], said: bool) -> Hypothesis:
    """What speaks for a reading by names; ``said``: whether the container says what feeds what."""
    row, names = lstm.layout, frozenset(lstm.tensors)
    problem = fault(lstm)
    prefix = lstm.prefixes[0]
    style = _separator(row)
    usual = bool(style) and prefix.endswith(style)
    own = bool(row.own_prefix) and re.search(rf"(^|/)({row.own_prefix})$", prefix) is not None
    prefixes = tuple(p for p in dict.fromkeys(lstm.prefixes) if p)
    others = [name for name in tensors if name.startswith(prefixes) and name not in names]
    reasons = [f"{len(names)} tensors have the names of {row.title}"]
    if prefix:
        reasons.append(f"under {', '.join(prefixes)}")
    if lstm.num_layers > 1 and not row.layers_in_names:
        guess = "taken for one stack, since the names count up and the sizes fit"
        reasons.append("one stack, as the file says" if said else guess)
    if others:
        reasons.append(f"{len(others)} others beside them are not explained")
    reasons.append(f"shapes: {problem}" if problem else f"shapes fit: {sizes_text(lstm)}")
    # What explains more comes first, even if something is wrong with it: a broken LSTM with biases
    # is not to be taken for a whole one without.
    score = (len(names), int(not problem), int(own))
    return Hypothesis(lstm, names, score, usual, tuple(reasons), problem)


def _not_a_gru(hypothesis: Hypothesis) -> Hypothesis:
    """With a problem if only the layout, told by the caller, could tell it from a GRU."""
    lstm = hypothesis.lstm
    kinds = {p.tensor.holds for p in lstm.places if p.name in lstm.tensors}
    if hypothesis.problem or not lstm.coupled or kinds - {*REQUIRED, "W_hr"}:
        return hypothesis
    problem = (
        "three blocks and no other tensor: a GRU, or an LSTM with coupled gates? If the latter,"
        f" say the layout, {lstm.layout.key}"
    )
    return replace(hypothesis, problem=problem, reasons=(*hypothesis.reasons, problem))


def _separator(row: Layout) -> str:
    """What the row's own prefixes end with."""
    own = row.stacked or row.single
    return own[-1:] if own[-1:] in "./_" else ""


def sizes_text(lstm: PlacedLSTM) -> str:
    """Sizes, for a person."""
    sizes = sizes_of(lstm, 0)
    text = f"I = {sizes['i']}, H = {sizes['u']}"
    if sizes["r"] != sizes["u"]:
        text += f", P = {sizes['r']}"
    text += f", {lstm.num_layers} layer{'s' * (lstm.num_layers > 1)}"
    return text + (", both directions" if lstm.directions == 2 else "")


def needed(lstm: PlacedLSTM) -> set[str]:
    """What the tensors of an LSTM must hold, given what some of them do hold."""
    row, rows_own = lstm.layout, {tensor.holds for tensor in lstm.layout.tensors}
    kinds = {p.tensor.holds for p in lstm.places if p.name in lstm.tensors} | set(REQUIRED)
    if row.bias_required:
        kinds |= {holds for holds in rows_own if holds.startswith("b")}
    for pair in (("b_ih", "b_hh"), ("initial_h", "initial_c")):
        kinds |= set(pair) if kinds & set(pair) else set()
    return kinds & rows_own


def fault(lstm: PlacedLSTM, kinds: Set[str] | None = None) -> str:
    """Why these tensors are no LSTM in this layout; "" if they are one.

    Args:
        lstm: the tensors.
        kinds: what they must hold, as `needed` has it, if more of the LSTM says so.
    """
    kinds = needed(lstm) if kinds is None else kinds
    missing = [
        place.name
        for place in lstm.places
        if place.tensor.holds in kinds and place.name not in lstm.tensors
    ]
    if missing:
        return f"missing {', '.join(missing)}"
    dtypes = sorted({array.dtype.name for array in lstm.tensors.values()})
    if len(dtypes) > 1:
        return f"tensors are of different dtypes: {', '.join(dtypes)}"
    try:
        layers = [sizes_of(lstm, layer) for layer in range(lstm.num_layers)]
    except InputError as error:
        return str(error)
    for below, above in pairwise(layers):
        if (above["i"], above["u"]) != (below["r"] * lstm.directions, layers[0]["u"]):
            return (
                f"a layer reads {above['i']} features and has {above['u']} units; expected the"
                f" {below['r'] * lstm.directions} of the layer below, and {layers[0]['u']}"
            )
    if "W_hr" not in kinds and any(sizes["r"] != sizes["u"] for sizes in layers):
        return f"recurrent matrix reads {layers[0]['r']} units of {layers[0]['u']}"
    return ""


# --- by shapes --------------------------------------------------------------------------------


def _by_shapes(row: Layout, tensors: Mapping[str, np.ndarray]) -> Iterator[Hypothesis]:
    """Readings of one layer whose names say nothing, by the shapes of its tensors."""
    parts = [t for t in row.tensors if t.holds in (*REQUIRED, "b", "b_ih", "b_hh", "b_pair")]
    if any("{gate}" in tensor.name for tensor in parts):
        return
    names_of = [t.name.format(layer=0, direction=row.tokens(1)[0]) for t in parts]
    for names in _together(tensors).values():
        if len(names) > MOST_BY_SHAPE or len(names) not in _counts(parts, row):
            continue
        for chosen in permutations(names):
            own = {o: tensors[name] for o, name in zip(names_of, chosen, strict=False)}
            lstm = _with_leading(PlacedLSTM(row, own, ("",)))
            if not fault(lstm):
                reasons = (
                    f"by shape alone: {', '.join(chosen)} could be {', '.join(own)}",
                    f"shapes fit: {sizes_text(lstm)}",
                )
                yield Hypothesis(lstm, frozenset(chosen), (0, 1, 0), False, reasons)


def _counts(parts: Sequence[Tensor], row: Layout) -> set[int]:
    """With how many tensors a layer can do."""
    needed = sum(t.holds in REQUIRED for t in parts)
    return {len(parts)} if row.bias_required else {needed, len(parts)}


def _together(tensors: Mapping[str, np.ndarray]) -> dict[str, list[str]]:
    """Names by what precedes their last separator."""
    result: dict[str, list[str]] = {}
    for name in tensors:
        result.setdefault("".join(re.findall(r"^.*[./_:-]", name)), []).append(name)
    return result
