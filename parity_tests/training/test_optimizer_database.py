"""Against PyTorch's own database of optimizer configurations."""

import numpy as np
import pytest
import torch
from torch.testing._internal.common_optimizers import optim_db

from numpy_lstm.errors import InputError
from numpy_lstm.roundoff import K, distance
from numpy_lstm.training.optimizers import SGD, Adam, AdamW

KINDS = {torch.optim.SGD: SGD, torch.optim.Adam: Adam, torch.optim.AdamW: AdamW}
CASES = [
    (info.optim_cls, case)
    for info in optim_db
    if info.optim_cls in KINDS
    for case in info.optim_inputs_func(device="cpu")
]
OFFERED = ("lr", "betas", "eps", "momentum", "weight_decay")
REFUSED = {"maximize", "amsgrad", "dampening", "nesterov", "tensor lr"}


def refused(case) -> bool:
    return bool(REFUSED & {*case.kwargs, case.desc})


def ids(cases) -> list[str]:
    return [f"{kind.__name__}: {case.desc}" for kind, case in cases]


KEPT = [(kind, case) for kind, case in CASES if not refused(case)]
OTHERS = [(kind, case) for kind, case in CASES if refused(case)]


def test_the_database_is_divided_without_remainder():
    assert len(CASES) == 19
    assert all(set(case.kwargs) <= set(OFFERED) for _, case in KEPT)
    assert {kind for kind, _ in KEPT} == set(KINDS)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("kind", "case"), KEPT, ids=ids(KEPT))
def test_ten_steps_of_every_configuration_we_offer(kind, case, dtype):
    rng = np.random.default_rng(0)
    shapes = {"W": (7, 5), "b": (11,)}
    parameters = {name: rng.standard_normal(shape).astype(dtype) for name, shape in shapes.items()}
    optimizer = KINDS[kind](**case.kwargs)
    state = optimizer.init(parameters)
    tensors = {n: torch.nn.Parameter(torch.from_numpy(p.copy())) for n, p in parameters.items()}
    reference = kind(list(tensors.values()), **case.kwargs)
    for step in range(10):
        gradients = {n: rng.standard_normal(s).astype(dtype) for n, s in shapes.items()}
        parameters, state = optimizer.update(parameters, gradients, state, optimizer.lr)
        for name, tensor in tensors.items():
            tensor.grad = torch.from_numpy(gradients[name])
        reference.step()
        for name, tensor in tensors.items():
            assert distance(parameters[name], tensor.detach().numpy()) <= K, (step, name)


@pytest.mark.parametrize(("kind", "case"), OTHERS, ids=ids(OTHERS))
def test_other_configurations_are_refused_by_name(kind, case):
    (name,) = REFUSED & {*case.kwargs, case.desc}
    with pytest.raises((TypeError, InputError), match=name.removeprefix("tensor ")):
        KINDS[kind](**case.kwargs)
