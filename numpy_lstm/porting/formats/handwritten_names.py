"""Names that programs written from scratch give an LSTM's matrices, a gate each.

Wf, Wi, Wg, Wo on z = [h; x], and Wxf with Whf, W_f with U_f, kernel_f with recurrent_kernel_f and
so on. Only names whose shapes leave one reading are changed to those of a layout.
"""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from numpy_lstm.porting.formats.archive import Archive, module_of

CANDIDATES = ("g", "c", "C", "a")
"""What the candidate's gate is called."""
SCHEMES = (
    ("W{}", "", "b{}"),
    ("W_{}", "", "b_{}"),
    ("W{}", "U{}", "b{}"),
    ("W_{}", "U_{}", "b_{}"),
    ("Wx{}", "Wh{}", "b{}"),
    ("Wx_{}", "Wh_{}", "b_{}"),
    ("W_x{}", "W_h{}", "b_{}"),
    ("w_x{}", "w_h{}", "b_{}"),
    ("W_{}x", "W_{}h", "b_{}"),
    ("W_i{}", "W_h{}", "b_{}"),
    ("kernel_{}", "recurrent_kernel_{}", "bias_{}"),
)
"""Names of the input matrix (or of the only one), of the recurrent matrix, and of the bias."""


def with_usual_names(archive: Archive) -> Archive:
    """The archive with such tensors under names of the layouts seed and keras-1, and notes."""
    modules: dict[str, dict[str, np.ndarray]] = {}
    for name, array in archive.tensors.items():
        module = module_of(name)
        modules.setdefault(module, {})[name.removeprefix(module)] = array
    renamed: dict[str, tuple[str, np.ndarray]] = {}
    notes, others = [], []
    for module, own in modules.items():
        found = _scheme_of(own)
        if found is None:
            continue
        names, gates = found
        new = _placed(own, names, gates)
        if not new:
            listed = ", ".join(f"{module}{name.format(gates[0])}" for name in names if name)
            others.append(
                f"{listed} ... are an LSTM's by their names, and their shapes fit both [H, I] and"
                " [I, H], or none; save them under the names of a layout"
            )
            continue
        unchanged = [
            old == fresh and own[old].shape == array.shape for old, (fresh, array) in new.items()
        ]
        if all(unchanged):
            continue
        renamed |= {module + old: (module + fresh, array) for old, (fresh, array) in new.items()}
        layout = "keras-1" if names[1] else "seed, on z = [h; x]"
        notes.append(f"{', '.join(module + old for old in new)} are read as the layout {layout}")
    if not renamed and not others:
        return archive
    tensors = {}
    for name, array in archive.tensors.items():
        new_name, new_array = renamed.get(name, (name, array))
        tensors[new_name] = new_array
    return replace(
        archive,
        tensors=tensors,
        notes=(*archive.notes, *notes),
        others=(*archive.others, *others),
    )


def _scheme_of(own: Mapping[str, np.ndarray]) -> tuple[tuple[str, str, str], str] | None:
    """The names that all gates of a module have, and the letters of the gates i, f, g, o."""
    for names in reversed(SCHEMES):  # those of two matrices first
        for candidate in CANDIDATES:
            gates = f"if{candidate}o"
            wanted = [name.format(gate) for name in names if name for gate in gates]
            if all(name in own for name in wanted):
                return names, gates
    return None


def _placed(
    own: Mapping[str, np.ndarray], names: tuple[str, str, str], gates: str
) -> dict[str, tuple[str, np.ndarray]]:
    """New name and array by old name; none if the shapes fit several readings, or none."""
    input_name, recurrent_name, bias_name = names
    shapes = {name: {own[name.format(gate)].shape for gate in gates} for name in names if name}
    if any(len(of_gates) > 1 for of_gates in shapes.values()):
        return {}
    (matrix,) = shapes[input_name]
    (bias,) = shapes[bias_name]
    H = int(np.prod(bias))
    if len(matrix) != 2 or H not in (*bias,) or H not in matrix:
        return {}
    result: dict[str, tuple[str, np.ndarray]] = {}
    if not recurrent_name:
        if matrix[0] != H or matrix[1] <= H:
            return {}
        for gate, letter in zip(gates, "ifgo", strict=True):
            W, b = input_name.format(gate), bias_name.format(gate)
            result[W] = f"W_{letter}", own[W]
            result[b] = f"b_{letter}", own[b].reshape(H, 1)
        return result
    (recurrent,) = shapes[recurrent_name]
    if recurrent != (H, H) or matrix[0] == matrix[1]:
        return {}
    rows_are_units = matrix[0] == H
    for gate, letter in zip(gates, "ifco", strict=True):
        W, U, b = (name.format(gate) for name in names)
        arrays = (own[W], own[U])
        if rows_are_units:
            arrays = (own[W].T, own[U].T)
        result[W] = f"W_{letter}", np.ascontiguousarray(arrays[0])
        result[U] = f"U_{letter}", np.ascontiguousarray(arrays[1])
        result[b] = f"b_{letter}", own[b].reshape(H)
    return result
