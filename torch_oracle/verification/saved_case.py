"""A failing case on disk: its arrays, PyTorch's results, and a script that runs the LSTM again."""

import io
from pathlib import Path

import numpy as np

from numpy_lstm.errors import InputError
from numpy_lstm.files import write_atomically
from torch_oracle.proof.torch_trace import torch_trace
from torch_oracle.verification.adapters import Adapter
from torch_oracle.verification.results import CaseResult

SCRIPT = '''\
"""Give {name} the arrays of {case}, and compare what it returns with PyTorch's."""

import os
from pathlib import Path

import numpy as np

from torch_oracle.adapters import load

arrays = np.load(Path(__file__).with_name({archive!r}))
arguments, expected = {{}}, {{}}
for key in arrays.files:
    kind, _, name = key.partition("/")
    if kind == "weights":
        arguments.setdefault("weights", {{}})[name] = arrays[key]
    elif kind == "arguments":
        arguments[name] = arrays[key]
    else:
        expected[name] = arrays[key]

os.chdir({folder!r})  # where the adapter is found
returned = load({name!r}).function(**arguments)
for name, array in expected.items():
    value = returned[name]
    if hasattr(value, "detach"):
        value = value.detach().numpy()
    print(f"{{name}}: largest difference from PyTorch {{np.abs(value - array).max():.3g}}")
'''


def save_case(folder: Path, adapter: Adapter, result: CaseResult) -> Path:
    """Write the arrays of a case as .npz, and beside them a script.

    The archive has ``weights/NAME``, ``arguments/NAME``, and ``torch/NAME`` for what PyTorch gives
    in the place of each array that the adapter returned.

    Args:
        folder: where to; it is made if it is not there.
        adapter: whose name the script can load.
        result: what came of the case.

    Returns:
        The script.

    Raises:
        InputError: the files cannot be written.
    """
    name = result.case.name
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **_arrays(adapter, result))
    script = SCRIPT.format(
        name=adapter.name, case=name, archive=f"{name}.npz", folder=str(Path.cwd())
    )
    path = folder / f"{name}.py"
    try:
        folder.mkdir(exist_ok=True)
        write_atomically({folder / f"{name}.npz": buffer.getvalue(), path: script.encode()})
    except OSError as error:
        raise InputError(f"{folder}: cannot be written ({error.strerror})") from error
    return path


def _arrays(adapter: Adapter, result: CaseResult) -> dict[str, np.ndarray]:
    problem = result.case.problem(adapter)
    arguments = adapter.arguments(problem)
    weights = arguments.pop("weights")
    arrays = {f"weights/{name}": array for name, array in weights.items()}
    arrays |= {f"arguments/{name}": array for name, array in arguments.items()}
    reference, returnable = torch_trace(problem), adapter.returnable(problem)
    everything = reference.steps | reference.totals
    for tensor, name in result.names:
        shape = [size for _, size in returnable[name].shape]
        arrays[f"torch/{name}"] = everything[tensor].reshape(shape)
    return arrays
