"""Rows of the table against frameworks that the suite's environment cannot hold, run once by hand.

    python -m parity_tests.campaigns.old_frameworks_check [chainer] [mxnet] [haste]

from the root of the project, in an environment that has them:

- chainer 7.8.1 and mxnet 1.9.1 run on Python 3.11 with NumPy 1.23.5:
  ``pip install numpy==1.23.5 "scipy<1.12" chainer==7.8.1 mxnet==1.9.1``, and what numpy_lstm needs:
  ``safetensors threadpoolctl``;
- haste needs torch, and its sources' folder ``frameworks/pytorch`` on the path under the name
  ``haste_pytorch``. Its compiled half, which only a GPU needs, is left out.

For each row: our weights in the framework under its own names, and the framework's own weights read
by the row, as in `test_frameworks`; the larger of both distances, in roundoffs of the
framework's dtype, must be at most K. None exceeded 1.2 with these
versions and haste's last revision.
"""

import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from types import ModuleType
from typing import Any

import numpy as np

from numpy_lstm.commands.reporting import one_line_errors
from numpy_lstm.errors import InputError
from numpy_lstm.lstm import LSTM
from numpy_lstm.porting.layouts.all_frameworks import TABLE
from numpy_lstm.porting.layouts.arrangement import to_canonical, to_layout
from numpy_lstm.porting.layouts.canonical import CanonicalLSTM
from numpy_lstm.porting.layouts.layout import Layout, Tensor
from numpy_lstm.porting.proof.run_as_placed import Outputs, run_as_placed
from numpy_lstm.roundoff import K
from parity_tests.support.frameworks import (
    H,
    I,
    Inputs,
    P,
    random_inputs,
    random_model,
    renamed,
    worst_distance,
)

Result = tuple[str, float]
"""What was checked, and the larger distance."""
Arrays = dict[str, np.ndarray]
Run = Callable[[Arrays | None, Inputs], tuple[Arrays, Outputs]]
"""Loads the weights given, or keeps the framework's own; returns all of them, and the outputs."""


def check(
    what: str, layout: Layout, config: LSTM, run: Run, prefixes: tuple[str, ...], dtype: type
) -> Result:
    """Both ways; raises AssertionError if names or shapes are not as the row says."""
    model, inputs = random_model(config, dtype), random_inputs(config, dtype)
    ours = renamed(to_layout(model, layout), prefixes)
    assert to_canonical(ours).digest() == model.digest()
    worst = 0.0
    for given in (dict(ours.tensors), None):
        held, outputs = run(given, inputs)
        shapes = {name: array.shape for name, array in ours.tensors.items()}
        found = {name: array.shape for name, array in held.items()}
        assert found == shapes, f"{what}: the framework has {found}, the row {shapes}"
        for name, array in (given or {}).items():
            np.testing.assert_array_equal(held[name], array, err_msg=name)
        own = replace(ours, tensors=held)
        worst = max(worst, worst_distance(own, inputs, outputs, run_in_own_layout))
    return what, worst


def run_in_own_layout(model: CanonicalLSTM, inputs: Inputs) -> Outputs:
    """What `lstm_forward` does, which needs a newer NumPy than old frameworks bear."""
    row = TABLE["torch" if model.config.bias_pair else "numpy-lstm"]
    return run_as_placed(to_layout(model, row), *inputs)


# --- Chainer ------------------------------------------------------------------------------------

NSTEP = Layout(
    "chainer-nstep",
    "Chainer links.NStepLSTM",
    "ifgo",
    (
        Tensor("W_ih", "x{gate}", "u i"),
        Tensor("W_hh", "h{gate}", "u r"),
        Tensor("b_ih", "bx{gate}", "u"),
        Tensor("b_hh", "bh{gate}", "u"),
    ),
    stacked="{layer}/",
    single="0/",
    bias_required=True,
)
"""Not in the table: the names w0 to w7 give a gate two numbers, and folder 2 k + d is direction d
of layer k. Here the gates' names are their letters; `_numbered` gives them their numbers."""


def _numbered(name: str) -> str:
    """x and bx of i f g o are 0 to 3, h and bh are 4 to 7."""
    layer, own = name.split("/")
    number = "ifgo".index(own[-1]) + (4 if "h" in own else 0)
    return f"{layer}/{'b' if own[0] == 'b' else 'w'}{number}"


def chainer() -> Iterator[Result]:
    """Chainer's links.LSTM, StatelessLSTM and NStepLSTM."""
    import chainer as ch  # pyright: ignore[reportMissingImports]

    row = TABLE["chainer"]
    with ch.using_config("dtype", np.float64):
        for link in (ch.links.LSTM, ch.links.StatelessLSTM):
            for count in (1, 2):
                run = _chainer_links(ch, link, count)
                config = LSTM(I, H, count)
                yield check(
                    f"chainer {link.__name__}, layers: {count}",
                    row,
                    config,
                    run,
                    row.prefixes(count),
                    np.float64,
                )
        config = LSTM(I, H, 2, bias_pair=True)
        yield check("NStepLSTM, 2 layers", NSTEP, config, _nstep(ch), NSTEP.prefixes(2), np.float64)


def _chainer_links(ch: ModuleType, link: Any, count: int) -> Run:
    """One link, or a ChainList of several."""

    def run(given: Arrays | None, inputs: Inputs) -> tuple[Arrays, Outputs]:
        links = [link(I if k == 0 else H, H) for k in range(count)]
        whole = ch.ChainList(*links) if count > 1 else links[0]
        _fill(whole, given)
        y, h0, c0 = inputs
        h_n, c_n = [], []
        for k, each in enumerate(links):
            c, h = ch.Variable(c0[k]), ch.Variable(h0[k])
            if link is ch.links.LSTM:
                each.set_state(c, h)
            steps = []
            for x in y:
                if link is ch.links.LSTM:
                    h, c = each(x), each.c
                else:
                    c, h = each(c, h, x)
                steps.append(h.array)
            y = np.stack(steps)
            h_n.append(h.array)
            c_n.append(c.array)
        return _held(whole), (y, np.stack(h_n), np.stack(c_n))

    return run


def _nstep(ch: ModuleType) -> Run:
    def run(given: Arrays | None, inputs: Inputs) -> tuple[Arrays, Outputs]:
        x, h0, c0 = inputs
        link = ch.links.NStepLSTM(len(h0), I, H, 0.0)
        letters = {
            f"{k}/{n}{g}" for k in range(len(h0)) for n in ("x", "h", "bx", "bh") for g in "ifgo"
        }
        _fill(link, given and {_numbered(name): array for name, array in given.items()})
        h_n, c_n, ys = link(h0, c0, [ch.Variable(sample) for sample in x.transpose(1, 0, 2)])
        held = _held(link)
        assert set(held) == {_numbered(name) for name in letters}
        named = {name: held[_numbered(name)] for name in letters}
        y = np.stack([sample.array for sample in ys], axis=1)
        return named, (y, h_n.array, c_n.array)

    return run


def _fill(link: Any, given: Arrays | None) -> None:
    names = {name.lstrip("/"): parameter for name, parameter in link.namedparams()}
    assert given is None or set(given) == set(names)
    for name, array in (given or {}).items():
        names[name].array[...] = array


def _held(link: Any) -> Arrays:
    return {name.lstrip("/"): parameter.array.copy() for name, parameter in link.namedparams()}


# --- MXNet --------------------------------------------------------------------------------------


def mxnet() -> Iterator[Result]:
    """gluon.rnn.LSTM under the names of collect_params, and under those of save_parameters."""
    import mxnet as mx  # pyright: ignore[reportMissingImports]

    options: tuple[dict[str, Any], ...] = (
        {},
        {"num_layers": 2, "bidirectional": True},
        {"num_layers": 2, "bidirectional": True, "proj_size": P},
    )
    for each in options:
        config = LSTM(I, H, bias_pair=True, **each)
        for row, saved in ((TABLE["mxnet"], False), (TABLE["mxnet-saved"], True)):
            prefixes = row.prefixes(config.num_layers)
            run = _gluon(mx, config, saved)
            yield check(f"{row.key} {each}", row, config, run, prefixes, np.float32)


def _gluon(mx: ModuleType, config: LSTM, saved: bool) -> Run:
    def run(given: Arrays | None, inputs: Inputs) -> tuple[Arrays, Outputs]:
        c = config
        lstm = mx.gluon.rnn.LSTM(
            c.hidden_size,
            c.num_layers,
            bidirectional=c.bidirectional,
            projection_size=c.proj_size or None,
            input_size=c.input_size,
            prefix="lstm0_",
        )
        lstm.initialize()
        parameters = lstm._collect_params_with_prefix() if saved else lstm.collect_params()
        assert given is None or set(given) == set(parameters.keys())
        for name, array in (given or {}).items():
            parameters[name].set_data(mx.nd.array(array))
        x, h0, c0 = (mx.nd.array(array) for array in inputs)
        y, (h_n, c_n) = lstm(x, [h0, c0])
        held = {name: parameters[name].data().asnumpy() for name in parameters.keys()}
        return held, (y.asnumpy(), h_n.asnumpy(), c_n.asnumpy())

    return run


# --- Haste --------------------------------------------------------------------------------------


def haste() -> Iterator[Result]:
    """Its LSTM's path for the CPU; one layer, as it is."""
    import torch

    compiled = ModuleType("haste_pytorch_lib")
    sys.modules.setdefault("haste_pytorch_lib", compiled)
    from haste_pytorch.lstm import LSTM as Haste  # pyright: ignore[reportMissingImports]

    def run(given: Arrays | None, inputs: Inputs) -> tuple[Arrays, Outputs]:
        lstm = Haste(I, H).double()
        if given is not None:
            lstm.load_state_dict({n: torch.from_numpy(array) for n, array in given.items()})
        x, h0, c0 = map(torch.from_numpy, inputs)
        with torch.no_grad():
            y, (h_n, c_n) = lstm(x, (h0, c0))
        held = {name: tensor.numpy() for name, tensor in lstm.state_dict().items()}
        return held, (y.numpy(), h_n.numpy(), c_n.numpy())

    row = TABLE["haste"]
    yield check("haste LSTM", row, LSTM(I, H), run, row.prefixes(1), np.float64)


def main(names: list[str]) -> None:
    """Run what is named, or everything, and print a line each; exit status 1 beyond K."""
    checks = {"chainer": chainer, "mxnet": mxnet, "haste": haste}
    unknown = sorted({*names} - checks.keys())
    if unknown:
        raise InputError(f"frameworks: expected some of {list(checks)}, got {unknown}")
    failed = False
    for name in names or checks:
        for what, far in checks[name]():
            print(f"{what}: {far:.2f} (allowed {K:g})")
            failed |= not far <= K
    raise SystemExit(int(failed))


if __name__ == "__main__":
    with one_line_errors():
        main(sys.argv[1:])
