"""Conformance vectors: for every layout an LSTM, its inputs, and what it must give; all small.

    python -m parity_tests.support.conformance          # writes parity_tests/vectors/*.safetensors

Each file holds the tensors of one LSTM under their framework's names, beside `input/x` [T, N, I],
`input/h0`, `input/c0`, `output/y`, `output/h_n` and `output/c_n`, in float64; its metadata say the
layout, the prefixes, the directions, the forget bias and the activations. The outputs are torch's,
by `torch_oracle.proof`; nothing of this package computes them. A program that loads such
weights and gives these outputs, to within K roundoffs, reads the layout rightly: T, N, I and H
differ, nothing is zero, and three layers in both directions are used where the layout has them.
"""

import json
from dataclasses import asdict, replace
from pathlib import Path
from zlib import crc32

import numpy as np
from safetensors import safe_open

from numpy_lstm.files import write_atomically
from numpy_lstm.lstm import LSTM
from numpy_lstm.porting.formats.safetensors_file import safetensors_bytes
from numpy_lstm.porting.layouts.all_frameworks import ROWS, TABLE
from numpy_lstm.porting.layouts.arrangement import to_layout
from numpy_lstm.porting.layouts.bias_pair import with_forget_bias
from numpy_lstm.porting.layouts.canonical import CanonicalLSTM, RuntimeFacts
from numpy_lstm.porting.layouts.fitting import fit_to_layout
from numpy_lstm.porting.layouts.layout import Layout
from numpy_lstm.porting.layouts.placed_lstm import PlacedLSTM
from numpy_lstm.porting.proof.run_as_placed import Outputs
from parity_tests.support.problems import random_parameters
from torch_oracle.proof.torch_trace import torch_trace
from torch_oracle.proof.trace import Problem

FOLDER = Path(__file__).parents[1] / "vectors"
T, N, I, H, P = 4, 2, 3, 5, 4
Inputs = tuple[np.ndarray, np.ndarray, np.ndarray]
"""x, h0 and c0."""


def model_for(row: Layout, rng: np.random.Generator) -> CanonicalLSTM:
    """An LSTM that uses everything the row has a place for, with weights that make it matter."""
    config = LSTM(
        I,
        H,
        3 if row.several_layers else 1,
        bias_pair=row.bias_pair,
        bidirectional=row.both_directions,
        proj_size=P if row.holds("W_hr") else 0,
        variant="peephole" if row.holds("W_ch") else None,
    )
    parameters = random_parameters(config.parameter_shapes(), rng, np.float64, scale=2.0)
    forget_bias = 1.5 if row.forget_bias == "given" else row.fixed_forget_bias
    states = {}
    if row.holds("initial_h"):
        L = len(config.suffixes)
        states["initial_h"] = rng.standard_normal((L, config.output_size))
        states["initial_c"] = rng.standard_normal((L, H))
    return CanonicalLSTM(config, parameters, RuntimeFacts(forget_bias=forget_bias), **states)


def expected(model: CanonicalLSTM, inputs: Inputs) -> Outputs:
    """What torch computes, with the forget bias of run time added to the bias."""
    config = model.config
    parameters = with_forget_bias(model.parameters, config, model.facts.forget_bias)
    x, h0, c0 = inputs
    zeros = np.zeros((T, N, config.directions * config.output_size))
    problem = Problem(
        config=config,
        parameters=parameters,
        x=x,
        lengths=np.full(N, T),
        h0=h0,
        c0=c0,
        dh_n=np.zeros_like(h0),
        dc_n=np.zeros_like(c0),
        dy=zeros,
    )
    totals = torch_trace(problem).totals
    return totals["y"], totals["h_n"], totals["c_n"]


def vector_of(row: Layout) -> dict[Path, bytes]:
    """The path and the content of the file of one layout."""
    rng = np.random.default_rng([7, crc32(row.key.encode())])
    model, _ = fit_to_layout(model_for(row, rng), row)
    L, c = len(model.config.suffixes), model.config

    def initial_states(learned: np.ndarray | None, size: int) -> np.ndarray:
        if learned is None:
            return rng.standard_normal((L, N, size))
        return np.repeat(learned[:, None], N, axis=1)

    h0 = initial_states(model.initial_h, c.output_size)
    c0 = initial_states(model.initial_c, H)
    inputs = rng.standard_normal((T, N, I)), h0, c0
    outputs = expected(model, inputs)
    lstm = to_layout(model, row)
    tensors = dict(lstm.tensors)
    tensors |= {f"input/{n}": a for n, a in zip(("x", "h0", "c0"), inputs, strict=True)}
    tensors |= {f"output/{n}": a for n, a in zip(("y", "h_n", "c_n"), outputs, strict=True)}
    said = {
        "layout": row.key,
        "prefixes": list(lstm.prefixes),
        "directions": lstm.directions,
        "facts": asdict(lstm.facts),
    }
    data = safetensors_bytes(tensors, {"lstm": json.dumps(said)})
    return {FOLDER / f"{row.key}.safetensors": data}


def load_vector(path: Path) -> tuple[PlacedLSTM, Inputs, Outputs]:
    """An LSTM of a file, its inputs, and the outputs that it must give."""
    with safe_open(path, framework="numpy") as file:
        said = json.loads(file.metadata()["lstm"])
        arrays = {name: file.get_tensor(name) for name in file.keys()}
    inputs = tuple(arrays.pop(f"input/{name}") for name in ("x", "h0", "c0"))
    outputs = tuple(arrays.pop(f"output/{name}") for name in ("y", "h_n", "c_n"))
    facts = RuntimeFacts(said["facts"]["forget_bias"], tuple(said["facts"]["activations"]))
    prefixes = tuple(said["prefixes"])
    lstm = PlacedLSTM(TABLE[said["layout"]], arrays, prefixes, said["directions"], facts)
    return replace(lstm, tensors=arrays), inputs, outputs  # type: ignore[return-value]


def main() -> None:
    """Write the files of all layouts."""
    for row in ROWS:
        write_atomically(vector_of(row))


if __name__ == "__main__":
    main()
