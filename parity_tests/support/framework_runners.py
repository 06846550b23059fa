"""One LSTM in each framework, built as people build it there, given weights by name, and run.

Each runner has the signature of `Runner`. Frameworks are imported only by what runs them.
"""

import itertools
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch

from numpy_lstm.lstm import LSTM, lstm_forward
from numpy_lstm.porting.layouts.all_frameworks import TABLE
from numpy_lstm.porting.proof.run_as_placed import Outputs
from parity_tests.support.frameworks import H, I, Inputs, nested, random_model

Tensors = Mapping[str, np.ndarray]
Runner = Callable[[LSTM, Tensors | None, Inputs], tuple[Tensors, Outputs]]
"""Builds the framework's LSTM, with the weights given or else its own, and runs it. Returns all its
weights under the names that the framework gives them."""


# --- this package, and the seed's equations -----------------------------------------------------


def numpy_lstm_forward(
    config: LSTM, tensors: Tensors | None, inputs: Inputs
) -> tuple[Tensors, Outputs]:
    if tensors is None:
        tensors = random_model(config, np.float64).parameters
    return tensors, lstm_forward(config, tensors, *inputs)[0]


def equations(config: LSTM, tensors: Tensors | None, inputs: Inputs) -> tuple[Tensors, Outputs]:
    """The seed's, on column vectors: z = [h; x], one matrix a gate."""
    rng, p = np.random.default_rng(3), tensors
    if p is None:
        shapes = {"W": (H, H + I), "b": (H, 1)}
        p = {f"{n}_{gate}": rng.normal(size=s) for n, s in shapes.items() for gate in "figo"}

    def sigmoid(a: np.ndarray) -> np.ndarray:
        return 1 / (1 + np.exp(-a))

    x, h0, c0 = inputs
    y, h_n, C_n = np.empty((*x.shape[:2], H)), np.empty_like(h0), np.empty_like(c0)
    for n in range(x.shape[1]):
        h, C = h0[0, n][:, None], c0[0, n][:, None]
        for t in range(len(x)):
            z = np.vstack([h, x[t, n][:, None]])
            f = sigmoid(p["W_f"] @ z + p["b_f"])
            i = sigmoid(p["W_i"] @ z + p["b_i"])
            g = np.tanh(p["W_g"] @ z + p["b_g"])
            C = f * C + i * g
            o = sigmoid(p["W_o"] @ z + p["b_o"])
            h = o * np.tanh(C)
            y[t, n] = h[:, 0]
        h_n[0, n], C_n[0, n] = h[:, 0], C[:, 0]
    return p, (y, h_n, C_n)


# --- PyTorch ------------------------------------------------------------------------------------


def nn_lstm(config: LSTM, tensors: Tensors | None, inputs: Inputs) -> tuple[Tensors, Outputs]:
    c = config
    module = torch.nn.LSTM(
        c.input_size,
        c.hidden_size,
        c.num_layers,
        bias=c.bias,
        bidirectional=c.bidirectional,
        proj_size=c.proj_size,
        dtype=torch.float64,
    )
    load(module, tensors)
    x, h0, c0 = map(torch.from_numpy, inputs)
    with torch.no_grad():
        y, (h_n, c_n) = module(x, (h0, c0))
    return state_of(module), (y.numpy(), h_n.numpy(), c_n.numpy())


def nn_lstmcell(config: LSTM, tensors: Tensors | None, inputs: Inputs) -> tuple[Tensors, Outputs]:
    sizes = [config.input_size, *[config.hidden_size] * config.num_layers]
    cells = torch.nn.ModuleList(
        torch.nn.LSTMCell(i, h, dtype=torch.float64) for i, h in itertools.pairwise(sizes)
    )
    module = cells if config.num_layers > 1 else cells[0]
    load(module, tensors)
    y, h_n, c_n = map(torch.from_numpy, inputs)
    h_n, c_n = [*h_n], [*c_n]
    with torch.no_grad():
        for k, cell in enumerate(cells):
            steps = []
            for x in y:
                h_n[k], c_n[k] = cell(x, (h_n[k], c_n[k]))
                steps.append(h_n[k])
            y = torch.stack(steps)
    return state_of(module), (y.numpy(), torch.stack(h_n).numpy(), torch.stack(c_n).numpy())


def load(module: torch.nn.Module, tensors: Tensors | None) -> None:
    """Load tensors, if there are any, under exactly the module's own names."""
    if tensors is not None:
        state = {name: torch.from_numpy(array) for name, array in tensors.items()}
        module.load_state_dict(state, strict=True)


def state_of(module: torch.nn.Module) -> Tensors:
    return {name: tensor.numpy() for name, tensor in module.state_dict().items()}


# --- JAX: flax, equinox, haiku ------------------------------------------------------------------


def _as_numpy(y: Any, h_n: list[Any], c_n: list[Any]) -> Outputs:
    return np.asarray(y), np.stack(h_n), np.stack(c_n)


def _through(layers: list[Any], D: int, x: Any, h0: Any, c0: Any) -> tuple[Any, list, list]:
    """Flax's RNN or Bidirectional, one after the other; their carry is (c, h)."""
    h_n, c_n = [], []
    for k, layer in enumerate(layers):
        carries = [(c0[k * D + d], h0[k * D + d]) for d in range(D)]
        given = tuple(carries) if D == 2 else carries[0]
        carry, x = layer(x, initial_carry=given, time_major=True, return_carry=True)
        for c, h in carry if D == 2 else (carry,):
            h_n.append(h)
            c_n.append(c)
    return x, h_n, c_n


def _cell_by_cell(cells: list[Any], x: Any, h0: Any, c0: Any) -> tuple[Any, list, list]:
    """Flax's cells, step by step; their carry is (c, h)."""
    import jax.numpy as jnp

    h_n, c_n = [], []
    for k, cell in enumerate(cells):
        carry, steps = (c0[k], h0[k]), []
        for t in range(len(x)):
            carry, h = cell(carry, x[t])
            steps.append(h)
        x = jnp.stack(steps)
        c_n.append(carry[0])
        h_n.append(carry[1])
    return x, h_n, c_n


def linen(cell: str, whole: bool) -> Runner:
    """Flax linen, the cells alone or in nn.RNN (and nn.Bidirectional)."""

    def runner(config: LSTM, tensors: Tensors | None, inputs: Inputs) -> tuple[Tensors, Outputs]:
        import jax
        from flax import linen as nn
        from flax import traverse_util

        D = config.directions

        def layer() -> Any:
            cells: list[Any] = [getattr(nn, cell)(H, param_dtype=np.float64) for _ in range(D)]
            if not whole:
                return cells[0]
            rnns = [nn.RNN(each) for each in cells]
            both: Any = nn.Bidirectional  # a dataclass, whose fields checkers order otherwise
            return rnns[0] if D == 1 else both(*rnns)

        def call(layers: list[Any], inputs: Inputs) -> tuple[Any, list, list]:
            return _through(layers, D, *inputs) if whole else _cell_by_cell(layers, *inputs)

        class Stack(nn.Module):
            def setup(self) -> None:
                self.layers = [layer() for _ in range(config.num_layers)]

            def __call__(self, inputs: Inputs) -> tuple[Any, list, list]:
                return call(self.layers, inputs)

        module: Any = Stack()
        options: dict[str, Any] = {}
        if config.num_layers == 1:
            module = layer()
            options["method"] = lambda module, inputs: call([module], inputs)
        if tensors is None:
            variables = module.init(jax.random.key(0), inputs, **options)
        else:
            variables = nested(tensors, "/")
        outputs = jax.jit(lambda v, i: module.apply(v, i, **options))(variables, inputs)
        names = traverse_util.flatten_dict(variables, sep="/")
        return {name: np.asarray(array) for name, array in names.items()}, _as_numpy(*outputs)

    runner.__name__ = f"nn.RNN({cell})" if whole else cell
    return runner


def nnx(cell: str, whole: bool) -> Runner:
    """Flax nnx, the cells alone or in nnx.RNN (and nnx.Bidirectional)."""

    def runner(config: LSTM, tensors: Tensors | None, inputs: Inputs) -> tuple[Tensors, Outputs]:
        import jax
        from flax import nnx as nn

        D, rngs = config.directions, nn.Rngs(0)

        def layer(size: int) -> Any:
            cells = [
                getattr(nn, cell)(size, H, param_dtype=np.float64, rngs=rngs) for _ in range(D)
            ]
            if not whole:
                return cells[0]
            rnns = [nn.RNN(each) for each in cells]
            return rnns[0] if D == 1 else nn.Bidirectional(*rnns)

        class Stack(nn.Module):
            def __init__(self) -> None:
                sizes = [I, *[H * D] * (config.num_layers - 1)]
                self.layers = nn.List(layer(size) for size in sizes)

        stack = Stack()
        module = stack if config.num_layers > 1 else stack.layers[0]
        paths, parameters = zip(*nn.to_flat_state(nn.state(module, nn.Param)), strict=True)
        named = {".".join(map(str, p)): value for p, value in zip(paths, parameters, strict=True)}
        if tensors is not None:
            assert set(named) == set(tensors)
            for name, parameter in named.items():
                parameter.set_value(jax.numpy.asarray(tensors[name]))
            nn.update(module, nn.from_flat_state(zip(paths, parameters, strict=True)))
        call = _through if whole else lambda layers, D, *inputs: _cell_by_cell(layers, *inputs)
        outputs = nn.jit(lambda stack, inputs: call(list(stack.layers), D, *inputs))(stack, inputs)
        return {n: np.asarray(p.get_value()) for n, p in named.items()}, _as_numpy(*outputs)

    runner.__name__ = f"nnx.RNN({cell})" if whole else cell
    return runner


def equinox_lstm(config: LSTM, tensors: Tensors | None, inputs: Inputs) -> tuple[Tensors, Outputs]:
    """Cells in a list; a cell takes one sample, so that it is mapped over the batch."""
    import equinox
    import jax

    class Stack(equinox.Module):
        layers: list[equinox.nn.LSTMCell]

    sizes = [config.input_size, *[H] * (config.num_layers - 1)]
    stack = Stack(
        [
            equinox.nn.LSTMCell(
                size, H, use_bias=config.bias, key=jax.random.key(k), dtype=np.float64
            )
            for k, size in enumerate(sizes)
        ]
    )
    module = stack if config.num_layers > 1 else stack.layers[0]
    arrays, rest = equinox.partition(module, equinox.is_array)
    leaves, structure = jax.tree_util.tree_flatten_with_path(arrays)
    named = {jax.tree_util.keystr(p, simple=True, separator="."): leaf for p, leaf in leaves}
    if tensors is not None:
        assert set(named) == set(tensors)
        named = {name: tensors[name] for name in named}
        arrays = jax.tree_util.tree_unflatten(structure, named.values())
    module = equinox.combine(arrays, rest)
    cells = module.layers if config.num_layers > 1 else [module]

    def call(x: Any, h0: Any, c0: Any) -> tuple[Any, list, list]:
        h_n, c_n = [], []
        for k, cell in enumerate(cells):

            def step(state: Any, x: Any, cell: Any = cell) -> tuple[Any, Any]:
                state = jax.vmap(cell)(x, state)
                return state, state[0]

            (h, c), x = jax.lax.scan(step, (h0[k], c0[k]), x)
            h_n.append(h)
            c_n.append(c)
        return x, h_n, c_n

    outputs = jax.jit(call)(*inputs)
    return {name: np.asarray(leaf) for name, leaf in named.items()}, _as_numpy(*outputs)


def haiku_lstm(names: tuple[str | None, ...]) -> Runner:
    """Haiku, with the names given to its modules, or (None) those that it gives itself."""

    def runner(config: LSTM, tensors: Tensors | None, inputs: Inputs) -> tuple[Tensors, Outputs]:
        import haiku
        import jax

        def call(x: Any, h0: Any, c0: Any) -> tuple[Any, list, list]:
            h_n, c_n = [], []
            for k, name in enumerate(names):
                state = haiku.LSTMState(h0[k], c0[k])
                x, state = haiku.dynamic_unroll(haiku.LSTM(H, name), x, state)
                h_n.append(state.hidden)
                c_n.append(state.cell)
            return x, h_n, c_n

        transformed = haiku.transform(call)
        if tensors is None:
            parameters = jax.jit(transformed.init)(jax.random.key(0), *inputs)
        else:
            split = {name: name.rsplit("/", 1) for name in tensors}
            parameters = {module: {} for module, _ in split.values()}
            for name, (module, last) in split.items():
                parameters[module][last] = tensors[name]
        outputs = jax.jit(lambda *i: transformed.apply(parameters, None, *i))(*inputs)
        flat = {
            f"{module}/{name}": np.asarray(array)
            for module, arrays in parameters.items()
            for name, array in arrays.items()
        }
        return flat, _as_numpy(*outputs)

    runner.__name__ = "hk.LSTM"
    return runner


# --- MLX ----------------------------------------------------------------------------------------


def mlx_lstm(config: LSTM, tensors: Tensors | None, inputs: Inputs) -> tuple[Tensors, Outputs]:
    """It returns the states of all steps, batch first; its float64 is no better than float32."""
    import mlx.core as mx  # pyright: ignore[reportMissingImports]
    from mlx import nn, utils  # pyright: ignore[reportMissingImports]

    with mx.stream(mx.cpu):
        sizes = [config.input_size, *[H] * (config.num_layers - 1)]
        stack = nn.Module()
        stack.layers = [nn.LSTM(size, H, bias=config.bias) for size in sizes]
        module = stack if config.num_layers > 1 else stack.layers[0]
        if tensors is not None:
            module.load_weights([(n, mx.array(a)) for n, a in tensors.items()])
        x, h0, c0 = (mx.array(array) for array in inputs)
        x, h_n, c_n = x.swapaxes(0, 1), [], []
        for k, layer in enumerate(stack.layers):
            x, cells = layer(x, h0[k], c0[k])
            h_n.append(np.array(x[:, -1]))
            c_n.append(np.array(cells[:, -1]))
        named = {name: np.array(a) for name, a in utils.tree_flatten(module.parameters())}
        return named, _as_numpy(np.array(x).swapaxes(0, 1), h_n, c_n)


# --- OpenVINO -----------------------------------------------------------------------------------


def openvino_lstm(config: LSTM, tensors: Tensors | None, inputs: Inputs) -> tuple[Tensors, Outputs]:
    """LSTMSequence, batch first, on the CPU; it initialises nothing, so that weights are given."""
    import openvino
    from openvino import opset15 as ops

    assert tensors is not None
    D, row = config.directions, TABLE["openvino"]
    x, h0, c0 = inputs
    data = ops.parameter(x.transpose(1, 0, 2).shape, np.float32, name="x")
    below, results = data, []
    for k, prefix in enumerate(row.prefixes(config.num_layers)):
        h, c = (state[k * D : (k + 1) * D].transpose(1, 0, 2) for state in (h0, c0))
        W, R, B = (ops.constant(tensors[prefix + n], name=prefix + n) for n in "WRB")
        lengths = ops.constant(np.full(x.shape[1], len(x)))
        direction = "bidirectional" if D == 2 else "forward"
        lstm = ops.lstm_sequence(below, h, c, lengths, W, R, B, H, direction)
        # [N, D, T, H] to [N, T, D H]
        joined = ops.transpose(lstm.output(0), [0, 2, 1, 3])
        below = ops.reshape(joined, [x.shape[1], len(x), D * H], special_zero=False)
        results += [lstm.output(1), lstm.output(2)]
    outputs: Any = [below.output(0), *results]
    model: Any = openvino.Model(outputs, [data])  # pyright: ignore[reportGeneralTypeIssues]
    compiled = openvino.Core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    values = compiled([np.ascontiguousarray(x.transpose(1, 0, 2))])
    y, *states = (np.array(values[output]) for output in compiled.outputs)
    h_n, c_n = (np.concatenate([s.transpose(1, 0, 2) for s in states[k::2]]) for k in (0, 1))
    held = {
        node.get_friendly_name(): np.array(node.data)
        for op in model.get_ops()
        if op.get_type_name() == "LSTMSequence"
        for node in (op.input_value(port).get_node() for port in (4, 5, 6))
    }
    return held, (y.transpose(1, 0, 2), h_n, c_n)
