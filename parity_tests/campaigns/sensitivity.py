"""The smallest error that each way of checking gradients finds:

python -m parity_tests.campaigns.sensitivity

The real code is broken: one term of one time step is multiplied by 1 + e, forward or backward. The
table shows the smallest e that is found, on a grid of ten to a decade; "always" where the check
rejects the correct code too. Exit status 1 if the parity rule rejects the correct code, or misses
an error of the size that it must find.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import torch
import tyro
from rich.console import Console
from rich.progress import track
from rich.table import Table
from threadpoolctl import threadpool_limits

from numpy_lstm.commands.reporting import one_line_errors
from numpy_lstm.errors import check_positive
from numpy_lstm.fast import recurrence
from numpy_lstm.lstm import lstm_backward, lstm_forward
from numpy_lstm.roundoff import K
from parity_tests.support.planting import planted
from parity_tests.support.problems import random_problem
from torch_oracle.proof.compare import Comparison, compare, noise_moves
from torch_oracle.proof.numpy_trace import numpy_trace
from torch_oracle.proof.torch_trace import torch_trace
from torch_oracle.proof.trace import Problem, Trace, in_dtype

FORWARD = ("i", "f", "g", "o")
"""Gate values, as `recurrence.advance` calls them."""
BACKWARD = {
    "da_i": "products[1]",
    "da_f": "products[2]",
    "da_g": "products[3]",
    "da_o": "products[4]",
    "dh_next": "dh_next",
    "dc_next": "products[0]",
}
"""Gradients and the carries to the step before, as `recurrence.block_backward` calls them."""
TERMS = (*FORWARD, *BACKWARD)
REQUIRED = {"float64": 1e-6, "float32": 1e-3}
"""The error that the parity rule must find in any term of one step."""
GRID = 10.0 ** np.arange(-17, 1.01, 0.1)
"""Errors e that are tried: from far below float64's roundoff to ten."""


@dataclass(frozen=True)
class Settings:
    """Sizes of the problem for all checks but gradcheck, which has a small one."""

    steps: int = 64
    batch_size: int = 32
    input_size: int = 65
    hidden_size: int = 128


@contextmanager
def scaled(term: str, t: int, e: float) -> Iterator[None]:
    """Run with one term of step t multiplied by 1 + e."""
    factor = f"(1 + {e!r})"
    if term in BACKWARD:
        line = "np.matmul(weights.W_hh_T, da_t, out=dh_next)"
        scaling = f"if block.steps[k] == {t}: {BACKWARD[term]}[...] *= {factor}"
        lines = (line, scaling) if term == "dh_next" else (scaling, line)
        with planted(recurrence.block_backward, line, "\n        ".join(lines)):
            yield
        return
    call = "advance(weights, a, block.gates[k], c, block.c[k + 1], h_out[k], scratch)"
    # advance does not know its step; the weights, which are copied anew for every run, can tell it.
    tell = f"weights.now = block.steps[k]\n        {call}"
    line = "np.multiply(f, c_prev, out=c)"
    scaling = f"if getattr(weights, 'now', None) == {t}: {term}[...] *= {factor}"
    with (
        planted(recurrence.block_forward, call, tell),
        planted(recurrence.advance, line, f"{scaling}\n    {line}"),
    ):
        yield


class Checks:
    """All checks of one problem but gradcheck; the references are computed once."""

    def __init__(self, problem: Problem) -> None:
        self.problem, self.t = problem, len(problem.x) // 2
        self._reference = torch_trace(problem)
        double = problem.h0.dtype == np.float64
        exact = self._reference if double else torch_trace(in_dtype(problem, np.float64))
        self._noise = noise_moves(problem, exact=exact)

    def parity(self, term: str, e: float) -> Comparison:
        """By the parity rule, with all quantities of all steps."""
        return compare(self._actual(term, e), self._reference, self._noise)

    def found(self, term: str, e: float) -> dict[str, bool]:
        """Whether each check rejects the code with this error."""
        actual, totals = self._actual(term, e), self._reference.totals
        comparison = compare(actual, self._reference, self._noise)
        names = [name for name in totals if name not in ("y", "h_n", "c_n")]
        pairs = [(actual.totals[name], totals[name]) for name in names]
        return {
            "parity rule": comparison.first is not None,
            "parity rule, final gradients": any(comparison.totals[name] > K for name in names),
            "assert_close": any(_not_close(a, b) for a, b in pairs),
            "rtol 1e-4, atol 1e-8": not all(np.allclose(a, b, 1e-4, 1e-8) for a, b in pairs),
            "rtol 1e-4, atol 0": not all(np.allclose(a, b, 1e-4, 0) for a, b in pairs),
        }

    def _actual(self, term: str, e: float) -> Trace:
        with scaled(term, self.t, e):
            return numpy_trace(self.problem)


def _not_close(actual: np.ndarray, expected: np.ndarray) -> bool:
    try:
        torch.testing.assert_close(torch.from_numpy(actual), torch.from_numpy(expected))
    except AssertionError:
        return True
    return False


class _ByHand(torch.autograd.Function):
    """The hand-written LSTM for torch: x, h0, c0 and the parameters to y, h_n and c_n."""

    @staticmethod
    def forward(ctx: Any, problem: Problem, *inputs: torch.Tensor) -> tuple[torch.Tensor, ...]:
        x, h0, c0, *weights = (tensor.detach().numpy() for tensor in inputs)
        parameters = dict(zip(problem.parameters, weights, strict=True))
        outputs, ctx.cache = lstm_forward(problem.lstm, parameters, x, h0, c0, problem.lengths)
        return tuple(torch.from_numpy(output.copy()) for output in outputs)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        dy, dh_n, dc_n = (np.ascontiguousarray(d.numpy()) for d in grad_outputs)
        g = lstm_backward(dy, ctx.cache, dh_n, dc_n)
        arrays = (g.dx, g.dh0, g.dc0, *g.parameters.values())
        return None, *(torch.from_numpy(array) for array in arrays)


def gradcheck_finds(problem: Problem, term: str, e: float) -> bool:
    """Whether torch.autograd.gradcheck, with its default tolerances, rejects this error."""
    arrays = (problem.x, problem.h0, problem.c0, *problem.parameters.values())
    inputs = [torch.from_numpy(array).clone().requires_grad_() for array in arrays]

    def function(*inputs: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return _ByHand.apply(problem, *inputs)

    with scaled(term, len(problem.x) // 2, e):
        return not torch.autograd.gradcheck(function, inputs, raise_exception=False)


def smallest(found: Callable[[float], bool]) -> float:
    """The smallest e of the grid that is found, by bisection; 0 where the correct code is rejected.

    A larger error is taken to be found if a smaller one is; infinity where none is.
    """
    if found(0.0):
        return 0.0
    low, high = -1, len(GRID)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if found(float(GRID[middle])) else (middle, high)
    return float(GRID[high]) if high < len(GRID) else np.inf


def limits(problem: Problem, *, gradcheck: bool = False) -> dict[str, dict[str, float]]:
    """By check and term, the smallest e that is found."""
    checks = Checks(problem)
    table: dict[str, dict[str, float]] = {}
    for term in track(TERMS, f"{problem.h0.dtype}, x {problem.x.shape}"):
        found = cache(lambda e, term=term: checks.found(term, e))
        for name in found(0.0):
            limit = smallest(lambda e, name=name, found=found: found(e)[name])
            table.setdefault(name, {})[term] = limit
        if gradcheck:
            limit = smallest(lambda e, term=term: gradcheck_finds(problem, term, e))
            table.setdefault("gradcheck", {})[term] = limit
    return table


def main(settings: Settings) -> int:
    """Print the table; 1 if the parity rule finds less than is required."""
    s = settings
    check_positive(
        steps=s.steps,
        batch_size=s.batch_size,
        input_size=s.input_size,
        hidden_size=s.hidden_size,
    )
    sizes = (s.steps, s.batch_size, s.input_size, s.hidden_size)
    table = Table(title=f"Smallest relative error found, in a term of step {s.steps // 2}")
    for column in ("T, N, I, H", "dtype", "check", *TERMS):
        table.add_column(column, no_wrap=True)
    cases = [(sizes, "float64"), (sizes, "float32"), ((6, 2, 3, 4), "float64")]
    missed = []
    for shape, dtype in cases:
        problem = random_problem(0, dtype=np.dtype(dtype).type, sizes=shape)
        for check, row in limits(problem, gradcheck=shape != sizes).items():
            cells = ["always" if e == 0 else f"{e:.0e}" for e in row.values()]
            table.add_row(", ".join(map(str, shape)), dtype, check, *cells)
            if check == "parity rule":
                missed += [
                    f"{dtype} {term}" for term, e in row.items() if not 0 < e <= REQUIRED[dtype]
                ]
        table.add_section()
    console = Console(width=200)
    console.print(table)
    console.print(f"the parity rule fails for: {', '.join(missed) or 'no term'}")
    return int(bool(missed))


if __name__ == "__main__":
    torch.set_num_threads(1)  # the problems are small: waiting for threads takes most of the time
    with one_line_errors(Settings), threadpool_limits(1):
        raise SystemExit(main(tyro.cli(Settings, description=__doc__)))
