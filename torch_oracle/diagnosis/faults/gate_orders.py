"""The faults of a wrong gate order: 23 permutations, each in three places."""

from collections.abc import Iterator
from itertools import permutations

from numpy_lstm.cell import cell_backward, cell_forward
from torch_oracle.diagnosis.faults.fault import Fault
from torch_oracle.diagnosis.injection import Edit

GATES = "ifgo"
SPLIT = "a_i, a_f, a_g, a_o = np.split"
JOIN = "da = np.concatenate([da_i, da_f, da_g, da_o], axis=-1)"
SUM = "W_ih x + W_hh h_prev + b"
RIGHT_VALUES = f"[a_i, a_f, a_g, a_o] = {SUM}"
RIGHT_GRADIENTS = "da = [da_i, da_f, da_g, da_o]"
BLOCKS = "W_ih, W_hh and b hold their blocks in the order i, f, g, o"
SEEN = {"iofg": "CrispASR issue 106"}
"""Where the forward pass was found to read the gates in this order."""


def gate_order_faults() -> Iterator[Fault]:
    """Every wrong order: of the forward pass, of both passes alike, and of the gradients."""
    for gates in permutations(GATES):
        order = "".join(gates)
        if order != GATES:
            yield from _faults_of(order)


def _faults_of(order: str) -> Iterator[Fault]:
    """The three faults of one order, such as "iofg"."""
    values, gradients = _blocks("a", order), _blocks("da", order)
    wrong_values, wrong_gradients = f"[{values}] = {SUM}", f"da = [{gradients}]"
    split = Edit(cell_forward, SPLIT, f"{values} = np.split")
    join = Edit(cell_backward, JOIN, f"da_i, da_f, da_g, da_o = {gradients}; {JOIN}")
    moved = [gate for gate, other in zip(GATES, order, strict=True) if gate != other]
    last_moved = "o" if "o" in moved else moved[0]
    in_words = ", ".join(order)
    yield Fault(
        id=f"gates-read-as-{order}",
        stage="forward",
        equation="(1)",
        wrong=wrong_values,
        right=RIGHT_VALUES,
        first=(f"a_{moved[0]}", 0),
        fix=f"{BLOCKS}; the forward pass reads them as {in_words}.",
        seen=SEEN.get(order, ""),
        edits=(split,),
    )
    yield Fault(
        id=f"gates-and-gradients-as-{order}",
        stage="forward",
        equation="(1)",
        wrong=f"{wrong_values}, {wrong_gradients}",
        right=f"{RIGHT_VALUES}, {RIGHT_GRADIENTS}",
        first=(f"a_{moved[0]}", 0),
        fix=f"{BLOCKS}; forward and backward pass take them for {in_words}.",
        edits=(split, join),
    )
    yield Fault(
        id=f"gradients-joined-as-{order}",
        stage="backward",
        equation="(13)",
        wrong=wrong_gradients,
        right=RIGHT_GRADIENTS,
        first=(f"da_{last_moved}", -1),
        fix=f"Join the gates' gradients in the order i, f, g, o, not {in_words}.",
        edits=(join,),
    )


def _blocks(name: str, order: str) -> str:
    """The blocks of the gates in an order: "a_i, a_o, a_f, a_g"."""
    return ", ".join(f"{name}_{gate}" for gate in order)
