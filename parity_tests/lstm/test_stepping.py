"""One step at a time: the same numbers, and what does not fit is refused."""

from dataclasses import replace

import numpy as np
import pytest

from numpy_lstm.errors import InputError
from numpy_lstm.fast.stepping import LSTMStepper
from numpy_lstm.lstm import lstm_forward
from numpy_lstm.roundoff import K, distance
from parity_tests.support.problems import TORCH_OPTIONS, random_problem
from torch_oracle.proof.torch_cells import TORCH_CELLS

STEPPED = {
    name: options
    for name, options in TORCH_OPTIONS.items()
    if not {"bidirectional", "dropout"} & set(options)
}
STEPPED |= {variant: {"variant": variant, "proj_size": 2} for variant in TORCH_CELLS}


@pytest.mark.parametrize("options", STEPPED.values(), ids=STEPPED)
@pytest.mark.parametrize("tokens", [False, True])
def test_one_step_at_a_time_is_the_whole_sequence(options, tokens):
    p = random_problem(1, sizes=(5, 3, 4, 6), **options)
    x = np.random.default_rng(0).integers(0, 4, (5, 3)) if tokens else p.x
    (y, h_n, c_n), _ = lstm_forward(p.config, p.parameters, x, p.h0, p.c0)
    stepper, state = LSTMStepper(p.config, p.parameters), (p.h0, p.c0)
    for t, x_t in enumerate(x):
        before = [array.copy() for array in state]
        y_t, following = stepper.step(x_t, state)
        for array, copy in zip(state, before, strict=True):
            np.testing.assert_array_equal(array, copy)
        assert distance(y_t, y[t]) <= K
        state = following
        assert not np.shares_memory(y_t, state[0])
    assert distance(state[0], h_n) <= K
    assert distance(state[1], c_n) <= K
    begun, _ = stepper.step(x[0], stepper.zero_state(3))
    assert distance(begun, lstm_forward(p.config, p.parameters, x[:1])[0][0][0]) <= K


P = random_problem(1, sizes=(5, 3, 4, 6))
STEPPER = LSTMStepper(P.config, P.parameters)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: LSTMStepper(replace(P.config, bidirectional=True), P.parameters),
            "bidirectional: expected False; the reverse direction needs the whole sequence",
        ),
        (
            lambda: STEPPER.step(np.array([1, 4, 0]), STEPPER.zero_state(3)),
            "x (tokens): expected integers 0 to I - 1 = 3 in an array [N], got [1 4 0]",
        ),
        (
            lambda: STEPPER.step(P.x[0, :, :3], STEPPER.zero_state(3)),
            "x: expected [N, I] = [3, 4], got [3, 3]",
        ),
        (
            lambda: STEPPER.step(P.x[0], STEPPER.zero_state(2)),
            "state: expected shapes (1, 3, 6) and (1, 3, 6), got (1, 2, 6) and (1, 2, 6)",
        ),
        (
            lambda: STEPPER.step(
                P.x[0], tuple(s.astype(np.float32) for s in STEPPER.zero_state(3))
            ),
            "state: expected dtype float64, got float32 and float32",
        ),
        (
            lambda: STEPPER.zero_state(0),
            "N: expected an integer of at least 1, got 0",
        ),
    ],
    ids=["bidirectional", "token", "input", "state", "dtype", "no sequence"],
)
def test_a_step_that_does_not_fit_is_refused(call, message):
    with pytest.raises(InputError) as caught:
        call()
    assert str(caught.value) == message


def test_a_stepper_keeps_its_own_copy_of_all_weights():
    p = random_problem(1, sizes=(5, 3, 4, 6), proj_size=2)
    stepper = LSTMStepper(p.config, p.parameters)
    before, _ = stepper.step(p.x[0], (p.h0, p.c0))
    for parameter in p.parameters.values():
        parameter[...] = 0
    after, _ = stepper.step(p.x[0], (p.h0, p.c0))
    np.testing.assert_array_equal(after, before)
