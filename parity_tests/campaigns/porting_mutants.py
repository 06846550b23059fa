"""Wrong ways to read a layout, each of which the conformance vectors must object to.

    python -m parity_tests.campaigns.porting_mutants

A mutant is a row of the table with one thing wrong (an order of gates, an orientation, a bias, the
fused halves, interleaving), or the right row with tensors or states mixed up. It is killed if it
cannot be read at all, or if its outputs are further than K roundoffs from the vector's. A mutant
that reads the very same weights is equivalent; such are found by comparing weights, not outputs.
"""

import time
from collections import Counter
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from numpy_lstm.commands.reporting import one_line_errors
from numpy_lstm.errors import InputError
from numpy_lstm.porting.layouts.arrangement import to_canonical
from numpy_lstm.porting.layouts.bias_pair import with_forget_bias
from numpy_lstm.porting.layouts.placed_lstm import PlacedLSTM
from numpy_lstm.porting.proof.run_as_placed import Outputs, moves_of_twins, run_as_placed
from numpy_lstm.roundoff import K, distance
from parity_tests.campaigns.wrong_readings import Mutant, mutants
from parity_tests.support.conformance import FOLDER, Inputs, load_vector

FLOAT64 = np.dtype(np.float64)
NOISE_SEED = 5


def effective(lstm: PlacedLSTM) -> dict[str, np.ndarray]:
    """What the equations see: the weights, and one bias in which all is added."""
    model = to_canonical(lstm)
    config = model.config
    result = with_forget_bias(dict(model.parameters), config, model.facts.forget_bias)
    if config.bias_pair:
        for suffix in config.suffixes:
            b_ih, b_hh = result.pop(f"bias_ih{suffix}"), result.pop(f"bias_hh{suffix}")
            result[f"bias{suffix}"] = b_ih + b_hh
    return result


def equivalent(mutant: Mutant, lstm: PlacedLSTM, inputs: Inputs) -> bool:
    """Whether the mutant reads the very same numbers."""
    if mutant.lstm.facts.activations != lstm.facts.activations:
        return False
    same = all(np.array_equal(a, b) for a, b in zip(mutant.inputs, inputs, strict=True))
    ours, theirs = effective(mutant.lstm), effective(lstm)
    if not same or ours.keys() != theirs.keys():
        return False
    return all(np.array_equal(ours[name], theirs[name]) for name in ours)


def killed(mutant: Mutant, outputs: Outputs, noise: list[list[np.ndarray]]) -> bool:
    """Whether the vector objects: the reading is refused, or gives other outputs."""
    try:
        to_canonical(mutant.lstm)
        got = run_as_placed(mutant.lstm, *mutant.inputs)
    except (InputError, ValueError, KeyError):
        return True
    return any(
        actual.shape != reference.shape or distance(actual, reference, moves) > K
        for actual, reference, moves in zip(got, outputs, noise, strict=True)
    )


def campaign(paths: list[Path]) -> tuple[Counter[str], Counter[str], list[str]]:
    """Mutants by kind, equivalent ones by kind, and the survivors that are not equivalent."""
    made: Counter[str] = Counter()
    same: Counter[str] = Counter()
    survivors = []
    for path in paths:
        lstm, inputs, outputs = load_vector(path)
        noise = moves_of_twins(lstm, inputs, outputs, FLOAT64, NOISE_SEED)
        for mutant in mutants(lstm, inputs):
            made[mutant.kind] += 1
            if not killed(mutant, outputs, noise):
                if equivalent(mutant, lstm, inputs):
                    same[mutant.kind] += 1
                else:
                    survivors.append(f"{path.stem}: {mutant.kind}: {mutant.what}")
    return made, same, survivors


def main() -> int:
    """Print the table; 1 if one survives, or if none was killed."""
    start = time.perf_counter()
    made, same, survivors = campaign(sorted(FOLDER.glob("*.safetensors")))
    if not made:
        raise InputError(f"{FOLDER}: expected test vectors (*.safetensors), found none")
    table = Table(title="Porting mutants")
    for column in ("kind", "mutants", "equivalent", "killed"):
        table.add_column(column)
    alive = Counter(survivor.split(": ")[1] for survivor in survivors)
    for kind in made:
        dead = made[kind] - same[kind] - alive[kind]
        table.add_row(kind, str(made[kind]), str(same[kind]), str(dead))
    console = Console()
    console.print(table)
    for survivor in survivors:
        console.print(f"survives: {survivor}", markup=False)
    dead = made.total() - same.total() - len(survivors)
    print(
        f"{dead} of {made.total() - same.total()} killed, {same.total()} equivalent,"
        f" {time.perf_counter() - start:.1f} s"
    )
    return 0 if dead and not survivors else 1


if __name__ == "__main__":
    with one_line_errors():
        raise SystemExit(main())
