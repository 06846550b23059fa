"""PyTorch's weights as arrays and as files, and back: bit for bit, and proven by running them."""

import copy
import io
import json
import os
import pickle
import warnings
import zipfile
from dataclasses import replace
from itertools import product
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
import torch
from torch import nn

from numpy_lstm.errors import InputError
from numpy_lstm.lstm import LSTM, lstm_forward
from numpy_lstm.porting.formats.safetensors_file import read_safetensors, safetensors_bytes
from numpy_lstm.porting.layouts.all_frameworks import TABLE
from numpy_lstm.porting.layouts.arrangement import to_canonical, to_layout
from numpy_lstm.porting.layouts.canonical import CanonicalLSTM, digest
from numpy_lstm.porting.layouts.placed_lstm import PlacedLSTM
from numpy_lstm.porting.proof.run_as_placed import Outputs
from numpy_lstm.roundoff import K, Noise, distance
from parity_tests.conftest import DATA
from torch_oracle.weights.pt_files import module_archive, pt_bytes, read_pt, to_array, to_tensor

pytestmark = [
    pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN"),
    pytest.mark.filterwarnings("ignore:dropout option adds dropout after all but last"),
    pytest.mark.usefixtures("without_type_checks"),
]
BOOLEANS = (False, True)
SIZES = [(3, 5, 0), (3, 5, 2), (1, 5, 0), (1, 5, 2), (3, 1, 0), (1, 1, 0)]
"""input_size, hidden_size, proj_size: every combination of 1 and more than 1 that torch allows."""
T, N = 4, 2
NAMES = ("y", "h_n", "c_n")


# --- weights ----------------------------------------------------------------------------------


def loaded(tensors, like):
    """Another module with these weights."""
    like.load_state_dict({name: to_tensor(array) for name, array in tensors.items()})
    return like


def through_files(tensors, folder):
    """The same tensors, once as a .pt and once as a .safetensors file has them."""
    pt, safetensors = folder / "model.pt", folder / "model.safetensors"
    pt.write_bytes(pt_bytes(tensors))
    safetensors.write_bytes(safetensors_bytes(tensors))
    return read_pt(pt).tensors, read_safetensors(safetensors).tensors


def check_round_trip(module, canonical, native, again, folder):
    """From module to canonical form, to files, to a module that has never seen the weights."""
    before = digest({name: p.detach().numpy() for name, p in module.state_dict().items()})
    assert digest(native.tensors) == before
    torch.save(module.state_dict(), folder / "theirs.pt")
    assert digest(read_pt(folder / "theirs.pt").tensors) == before
    back = to_layout(canonical, native.layout)
    assert back.prefixes == native.prefixes
    assert digest(back.tensors) == before
    for tensors in through_files(back.tensors, folder):
        assert digest(tensors) == before
        other = loaded(tensors, again())
        after = digest({name: p.detach().numpy() for name, p in other.state_dict().items()})
        assert after == before


def exact_and_moves(module, run, given) -> tuple[Outputs, list[list[np.ndarray]]]:
    """What torch has in float64, and by output how far it moves in each of four noisy twins."""
    dtype = to_array(next(module.parameters())).dtype
    exact, twins = run(copy.deepcopy(module).double(), given), []
    for k in range(4):
        twin, noise = copy.deepcopy(module).double(), Noise(k, dtype)
        with torch.no_grad():
            for parameter in twin.parameters():
                parameter.copy_(torch.from_numpy(noise.moved(parameter.numpy())))
        moved = run(twin, [noise.moved(array) for array in given])
        twins.append([(a - b) / noise.amplitude for a, b in zip(moved, exact, strict=True)])
    return exact, [list(moves) for moves in zip(*twins, strict=True)]


def check_outputs(outputs, exact, moves, what):
    for name, ours, reference, own in zip(NAMES, outputs, exact, moves, strict=True):
        far = distance(ours.astype(np.float64), reference, own, ours.dtype)
        assert far <= K, (what, name, far)


def run_lstm(module: nn.LSTM, given) -> Outputs:
    """y time-major, h_n and c_n, by nn.LSTM in evaluation."""
    dtype = next(module.parameters()).dtype
    x, h0, c0 = (torch.from_numpy(array).to(dtype) for array in given)
    x = x.transpose(0, 1) if module.batch_first else x
    with torch.no_grad():
        y, (h_n, c_n) = module.eval()(x, (h0, c0))
    y = y.transpose(0, 1) if module.batch_first else y
    return y.numpy(), h_n.numpy(), c_n.numpy()


def run_cell(module: nn.LSTMCell, given) -> Outputs:
    """y time-major, h_n and c_n, by nn.LSTMCell step by step."""
    dtype = next(module.parameters()).dtype
    x, h, c = (torch.from_numpy(array).to(dtype) for array in given)
    h, c, y = h[0], c[0], []
    with torch.no_grad():
        for step in x:
            h, c = module(step, (h, c))
            y.append(h)
    return torch.stack(y).numpy(), h[None].numpy(), c[None].numpy()


def random_inputs(c: LSTM, rng) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """x, h0, c0, float64 numbers that float32 holds."""
    L = len(c.suffixes)
    shapes = ((T, N, c.input_size), (L, N, c.output_size), (L, N, c.hidden_size))
    x, h0, c0 = (rng.standard_normal(s).astype(np.float32).astype(np.float64) for s in shapes)
    return x, h0, c0


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("layers", "bidirectional"), list(product((1, 2, 3), BOOLEANS)))
def test_every_option_of_nn_lstm_round_trips_bit_for_bit_and_runs_alike(
    layers, bidirectional, dtype, tmp_path
):
    """With bias, proj_size, sizes, batch_first and dropout all combined within."""
    options = product(BOOLEANS, SIZES)
    for seed, (bias, (I, H, P)) in enumerate(options):
        torch.manual_seed(seed)
        moves = None
        for k, (batch_first, dropout) in enumerate(product(BOOLEANS, (0.0, 0.5))):

            def module(
                I=I, H=H, P=P, bias=bias, batch_first=batch_first, dropout=dropout
            ) -> nn.LSTM:
                return nn.LSTM(
                    I,
                    H,
                    layers,
                    bias=bias,
                    batch_first=batch_first,
                    dropout=dropout,
                    bidirectional=bidirectional,
                    proj_size=P,
                    dtype=torch.float32 if dtype == np.float32 else torch.float64,
                )

            what, live = (bias, I, H, P, batch_first, dropout), module()
            archive = module_archive(live)
            assert bool(archive.notes) == bool(dropout)
            native = PlacedLSTM(TABLE["torch"], archive.tensors, ("",) * layers, 1 + bidirectional)
            canonical = to_canonical(native)
            c = canonical.config
            expected = LSTM(
                I, H, layers, bias, bidirectional=bidirectional, proj_size=P, bias_pair=bias
            )
            assert c == expected, what
            assert canonical.dtype == dtype
            # Files hold the weights alone, so one of the four goes through them, each in turn.
            if k == seed % 4:
                check_round_trip(live, canonical, native, module, tmp_path)
            # Outputs depend on the weights alone, so the noise of one of the four does for all.
            if moves is None:
                weights, given = live.state_dict(), random_inputs(c, np.random.default_rng(seed))
                exact, moves = exact_and_moves(live, run_lstm, given)
            else:
                live.load_state_dict(weights)
                canonical = to_canonical(replace(native, tensors=module_archive(live).tensors))
            check_outputs(run_lstm(live, given), exact, moves, what)
            x, h0, c0 = (array.astype(dtype) for array in given)
            config = replace(c, batch_first=batch_first)
            x = x.swapaxes(0, 1) if batch_first else x
            (y, h_n, c_n), _ = lstm_forward(config, canonical.parameters, x, h0, c0)
            y = y.swapaxes(0, 1) if batch_first else y
            check_outputs((y, h_n, c_n), exact, moves, what)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("I", "H"), [(3, 5), (1, 5), (3, 1), (1, 1)])
@pytest.mark.parametrize("bias", BOOLEANS)
def test_every_option_of_nn_lstmcell_round_trips_bit_for_bit_and_runs_alike(
    bias, I, H, dtype, tmp_path
):
    torch.manual_seed(I + H)
    live = nn.LSTMCell(I, H, bias=bias, dtype=dtype)
    native = PlacedLSTM(TABLE["torch-cell"], module_archive(live).tensors, ("",))
    canonical = to_canonical(native)
    check_round_trip(
        live, canonical, native, lambda: nn.LSTMCell(I, H, bias=bias, dtype=dtype), tmp_path
    )
    given = random_inputs(canonical.config, np.random.default_rng(0))
    exact, moves = exact_and_moves(live, run_cell, given)
    check_outputs(run_cell(live, given), exact, moves, "torch")
    x, h0, c0 = (array.astype(canonical.dtype) for array in given)
    ours, _ = lstm_forward(canonical.config, canonical.parameters, x, h0, c0)
    check_outputs(ours, exact, moves, "numpy_lstm")


def test_a_permuted_gate_would_be_seen():
    torch.manual_seed(0)
    live = nn.LSTM(3, 5)
    native = PlacedLSTM(TABLE["torch"], module_archive(live).tensors, ("",))
    canonical = to_canonical(native)
    given = random_inputs(canonical.config, np.random.default_rng(0))
    exact, moves = exact_and_moves(live, run_lstm, given)
    wrong = dict(canonical.parameters)
    wrong["bias_hh_l0"] = np.roll(wrong["bias_hh_l0"], 5)
    wrong = CanonicalLSTM(canonical.config, wrong)
    assert digest(to_layout(wrong, TABLE["torch"]).tensors) != digest(native.tensors)
    outputs, _ = lstm_forward(wrong.config, wrong.parameters, *(a.astype("f4") for a in given))
    with pytest.raises(AssertionError, match="y"):
        check_outputs(outputs, exact, moves, "permuted")


# --- files ------------------------------------------------------------------------------------


def saved(content) -> bytes:
    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.save(content, file)
    return file.getvalue()


def test_every_dtype_and_order_of_memory_round_trips_bit_for_bit(tmp_path):
    rng = np.random.default_rng(0)
    bits = rng.integers(0, 256, 8 * 6, np.uint8)
    bits[:8] = 0xA1, 0x7F, 0x05, 0x7C, 0x00, 0x80, 0xA1, 0x7F  # NaNs with a payload; -0.0
    names = "float16 float32 float64 uint8 int8 int16 int32 int64".split()
    tensors = {name: bits.view(name).reshape(2, -1) for name in names}
    tensors |= {"bfloat16": bits.view(ml_dtypes.bfloat16), "bool": bits > 99}
    tensors |= {"transposed": rng.standard_normal((3, 4)).T, "strided": rng.standard_normal(9)[::2]}
    tensors |= {
        "fortran": np.asfortranarray(rng.standard_normal((3, 4))),
        "empty": np.zeros((0, 3)),
    }
    tensors |= {
        "scalar": np.array(1.5),
        "big": np.arange(3, dtype=">f4"),
        "half": np.zeros((), "f2"),
    }
    tensors["transposed bfloat16"] = tensors["bfloat16"].reshape(4, 6).T
    (path := tmp_path / "a.pt").write_bytes(pt_bytes(tensors))
    archive = read_pt(path)
    assert (archive.container, archive.notes) == ("pt", ())
    assert list(archive.tensors) == list(tensors)
    native = {n: np.asarray(a, a.dtype.newbyteorder("=")) for n, a in tensors.items()}
    assert digest(archive.tensors) == digest(native)
    assert all(array.flags.c_contiguous for array in archive.tensors.values())
    assert pt_bytes(tensors) == path.read_bytes()
    theirs = torch.load(path, weights_only=True)
    assert digest({name: to_array(tensor) for name, tensor in theirs.items()}) == digest(native)
    for name, array in archive.tensors.items():  # memory of their own
        assert array.flags.writeable, name
        assert not any(np.shares_memory(array, a) for n, a in archive.tensors.items() if n != name)


@pytest.mark.parametrize("key", ["state_dict", "model_state_dict", "model"])
def test_a_nested_state_dict_is_found_and_said_so(key, tmp_path):
    module = nn.LSTM(3, 5)
    optimizer = torch.optim.Adam(module.parameters())
    content = {"epoch": 7, key: module.state_dict(), "optimizer": optimizer.state_dict()}
    (path := tmp_path / "a.pt").write_bytes(saved(content))
    archive = read_pt(path)
    named = {f"{key}.{name}": a for name, a in module_archive(module).tensors.items()}
    assert digest(archive.tensors) == digest(named)
    assert archive.notes == (
        f"names begin with {key}, where the file has its weights",
        "left out, as no numbers of a dtype read here: epoch (int), optimizer (dict)",
    )


@pytest.mark.parametrize("path_of_keys", [("net",), ("G",), ("models", "encoder"), ("ckpt", "ema")])
def test_a_state_dict_is_found_under_any_keys_two_levels_down(path_of_keys, tmp_path):
    module = nn.LSTM(3, 5)
    content: dict = module.state_dict()
    for key in reversed(path_of_keys):
        content = {"step": 3, key: content}
    adam = torch.optim.Adam(module.parameters())
    content |= {"optimizer_states": {"0": {"exp_avg": torch.ones(2)}}, "opt": adam.state_dict()}
    (path := tmp_path / "a.pt").write_bytes(saved(content))
    prefix = ".".join(path_of_keys)
    assert set(read_pt(path).tensors) == {f"{prefix}.{name}" for name in module.state_dict()}


@pytest.mark.filterwarnings("ignore")
def test_a_quantised_module_is_called_so(tmp_path):
    quantised = torch.ao.quantization.quantize_dynamic(nn.Sequential(nn.LSTM(3, 5)), {nn.LSTM})
    sentence = refusal(tmp_path / "a.pt", saved(quantised.state_dict()))
    assert sentence.startswith("is quantised: int8, the float weights are not in the file; use")


@pytest.mark.filterwarnings("ignore:torch.quantize_per_tensor")
@pytest.mark.filterwarnings("ignore:Sparse CSR tensor support is in beta")
def test_what_is_no_dense_tensor_of_numbers_is_left_out_by_name(tmp_path):
    numbers, shared = torch.tensor([1.0, -2.0]), torch.arange(6.0)
    content = {
        "parameter": nn.Parameter(numbers),
        "expanded": numbers.expand(3, 2),
        "tied": shared,
        "view": shared[1:4],
        "negative": (1j * numbers).conj().imag,
        "coo": numbers.to_sparse(),
        "csr": torch.eye(3).to_sparse_csr(),
        "quantised": torch.quantize_per_tensor(numbers, 0.1, 0, torch.qint8),
        "complex": numbers + 1j,
        "meta": torch.ones(1 << 50, device="meta"),
        "dtype": torch.float32,
        "word": "LSTM",
        "nothing": None,
        "list": [numbers],
        5: numbers,
    }
    (path := tmp_path / "a.pt").write_bytes(saved(content))
    archive = read_pt(path)
    expected = {name: content[name].detach().numpy() for name in ("parameter", "tied", "view")}
    expected |= {"expanded": np.array([[1, -2]] * 3, "f4"), "negative": np.array([-1, 2], "f4")}
    assert digest(archive.tensors) == digest(expected)
    assert archive.notes == (
        "left out, as no numbers of a dtype read here: coo (sparse), csr (sparse), quantised"
        " (quantised), complex (complex64), meta (without numbers, on the device meta), dtype"
        " (dtype), word (str), nothing (NoneType), list (list), an entry named by a int",
    )


def test_a_live_module_is_copied_and_what_is_no_weight_is_noted():
    module = nn.ModuleDict({"rnn": nn.LSTM(3, 5, 2, dropout=0.25), "norm": nn.BatchNorm1d(5)})
    module.register_buffer("phase", torch.ones(2, dtype=torch.complex64))
    archive = module_archive(module)
    assert archive.tensors["norm.num_batches_tracked"].dtype == np.int64
    assert archive.notes == (
        "rnn: dropout = 0.25 acts in training, and is no weight",
        "left out, as no numbers of a dtype read here: phase (complex64)",
    )
    before = digest(archive.tensors)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(1)
    assert digest(archive.tensors) == before


# --- refusals ---------------------------------------------------------------------------------


def refusal(path: Path, content: bytes) -> str:
    path.write_bytes(content)
    with pytest.raises(InputError) as caught:
        read_pt(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    assert "\x1b" not in message
    return message.removeprefix(f"{path}: ")


class Call:
    """What pickles as a call of this function."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


def members_of(data: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return {info.filename: archive.read(info) for info in archive.infolist()}


def zipped(members, compression=zipfile.ZIP_STORED) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as archive:
        for name, content in members:
            archive.writestr(name, content)
    return file.getvalue()


def touch(path):
    return Call(os.system, f"touch {path}")


@pytest.mark.parametrize("place", ["value", "nested", "key", "list", "attribute"])
@pytest.mark.parametrize("how", ["zip", "legacy", "bare", "protocol 4"])
@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_code_in_a_pickle_is_named_and_never_run(how, place, tmp_path):
    canary, path, weights = tmp_path / "canary", tmp_path / "a.pt", torch.ones(2)
    content = {
        "value": {"w": weights, "x": touch(canary)},
        "nested": {"state_dict": {"w": weights, "x": touch(canary)}},
        "key": {"w": weights, touch(canary): weights},
        "list": [touch(canary)],
        "attribute": {"w": weights, "x": Call(getattr, touch(canary), "real")},
    }[place]
    file = io.BytesIO()
    if how == "bare":
        pickle.dump(content, file)
    else:
        protocol = 4 if how == "protocol 4" else 2
        torch.save(
            content,
            file,
            _use_new_zipfile_serialization=how != "legacy",
            pickle_protocol=protocol,
        )
    message = refusal(path, file.getvalue())
    assert not canary.exists()
    if how == "zip":
        name = "__builtin__.getattr" if place == "attribute" else "posix.system"
        assert message == (
            f"its pickle has {name!r}, which no LSTM's weights need, and which was not run; if you"
            " trust it, load it in PyTorch and save the state_dict alone"
        )
    elif how == "protocol 4":
        assert message.startswith("its pickle has 'opcode STACK_GLOBAL', which")
    else:
        assert message == (
            "expected a zip file, as PyTorch writes since 1.6, got something else; if it is older"
            " and you trust it, load it in PyTorch and save its state_dict again"
        )
    with torch.serialization.safe_globals([os.system]):  # somebody else's program may do this
        refusal(path, file.getvalue())
    assert not canary.exists()


def test_the_canary_would_appear(tmp_path):
    pickle.loads(pickle.dumps(touch(tmp_path / "canary")))
    assert (tmp_path / "canary").exists()


@pytest.mark.parametrize(
    "call",
    [
        Call(bytearray, 1 << 40),
        Call(torch.UntypedStorage, 1 << 40),
        Call(torch.FloatStorage, 1 << 40),
        Call(torch.Tensor, 1 << 40),
        Call(torch.nn.Parameter, torch.ones(1)),
    ],
)
@pytest.mark.filterwarnings("ignore:TypedStorage is deprecated")
def test_calls_that_make_memory_of_a_number_are_refused(call, tmp_path):
    message = refusal(tmp_path / "a.pt", saved({"w": torch.ones(1), "x": call}))
    assert "which was not run" in message or "is not callable" in message


def test_untyped_storages_are_refused_under_either_of_their_names(tmp_path):
    members = members_of(saved({"w": torch.ones(1), "x": Call(torch.UntypedStorage, 1)}))
    pickled = members["archive/data.pkl"]
    assert pickled.count(b"ctorch.storage\nUntypedStorage\n") == 1
    members["archive/data.pkl"] = pickled.replace(b"ctorch.storage\nU", b"ctorch\nU")
    message = refusal(tmp_path / "a.pt", zipped(members.items()))
    assert message.startswith("its pickle has 'torch.UntypedStorage', which no LSTM's weights need")


def test_tensors_larger_than_their_file_are_refused(tmp_path):
    path = tmp_path / "a.pt"
    expanded = saved({"w": torch.ones(1).expand(1 << 40)})
    assert refusal(path, expanded) == (
        f"declares 4,398,046,511,104 bytes of tensors in a file of {len(expanded):,};"
        f" expected at most {(64 << 20) + 100 * len(expanded):,}; is it damaged?"
    )
    many = {f"w{k}": torch.ones(1).expand(1 << 22) for k in range(8)}  # 16 MiB each
    assert "declares 134,217,728 bytes" in refusal(path, saved(many))
    honest = members_of(saved({"w": torch.ones(3)}))
    old, new = b"K\x03\x85", b"J\x00\x00\x00\x10\x85"  # the size (3,), and (2^28,)
    assert honest["archive/data.pkl"].count(old) == 1
    larger = honest | {"archive/data.pkl": honest["archive/data.pkl"].replace(old, new)}
    assert "not a whole PyTorch file" in refusal(path, zipped(larger.items()))
    old, new = b"K\x03tq", b"J\x00\x00\x00\x10tq"  # 3 numbers in the storage, and 2^28
    assert honest["archive/data.pkl"].count(old) == 1
    larger = honest | {"archive/data.pkl": honest["archive/data.pkl"].replace(old, new)}
    assert "does not match expected size" in refusal(path, zipped(larger.items()))


def test_archives_that_torch_save_does_not_write_are_refused(tmp_path):
    path, members = tmp_path / "a.pt", members_of(saved({"w": torch.ones(3)}))
    path.write_bytes(zipped(members.items()))
    assert read_pt(path).tensors.keys() == {"w"}
    zeros = members | {"archive/data/1": bytes(1 << 27)}
    bomb = zipped(zeros.items(), zipfile.ZIP_DEFLATED)
    assert len(bomb) < 1 << 20
    assert refusal(path, bomb) == (
        "archive/data.pkl: expected a member stored as it is, as PyTorch writes it,"
        " got compression 8; unpack the file first"
    )
    lies = bytearray(zipped(members.items()))
    directory = lies.rindex(b"PK\1\2")
    lies[directory + 20 : directory + 28] = (1 << 30).to_bytes(4, "little") * 2
    assert "declares 1,073,7" in refusal(path, bytes(lies))
    escape = zipped([*members.items(), ("archive/../../etc/passwd", b"")])
    assert refusal(path, escape).startswith("the name 'archive/../../etc/passwd' of a tensor is")
    with pytest.warns(UserWarning, match="Duplicate name"):
        twice = zipped([*members.items(), ("archive/data.pkl", b"")])
    assert (
        refusal(path, twice)
        == "expected members of different names, got one twice; was it damaged?"
    )
    two = zipped([*members.items(), ("other/data.pkl", members["archive/data.pkl"])])
    assert refusal(path, two) == "expected one member data.pkl, as torch.save writes it, got 2"
    none = zipped([("readme.txt", b"words")])
    assert refusal(path, none) == "expected one member data.pkl, as torch.save writes it, got 0"
    lacking = {name: content for name, content in members.items() if name != "archive/data/0"}
    assert "not a whole PyTorch file" in refusal(path, zipped(lacking.items()))
    encrypted = bytearray(zipped(members.items()))
    encrypted[encrypted.index(b"PK\1\2") + 8] |= 1
    assert refusal(path, bytes(encrypted)) == "archive/data.pkl is encrypted; decrypt it first"
    script = zipped([*members.items(), ("archive/constants.pkl", b"")])
    assert refusal(path, script) == (
        "is a TorchScript archive, which holds code; save the state_dict of torch.jit.load(...)"
        " instead"
    )


def test_what_holds_no_weights_is_refused(tmp_path):
    path = tmp_path / "a.pt"
    with pytest.raises(InputError, match=r"no such file; expected a \.pt or \.pth file"):
        read_pt(path)
    with pytest.raises(InputError, match="not a regular file"):
        read_pt(tmp_path)
    remedy = "save module.state_dict()"
    expected = "expected a state_dict, or a dict with one in it"
    assert refusal(path, saved([torch.ones(1)])) == f"{expected}, got list; {remedy}"
    assert refusal(path, saved(torch.ones(1))) == f"{expected}, got Tensor; {remedy}"
    assert refusal(path, saved({"epoch": 3, "optim": {"w": torch.ones(1)}})) == (
        f"expected tensors, 2 dicts down at most, got none under the keys epoch, optim; {remedy}"
    )
    assert "'torch.nn.modules.rnn.LSTM'" in refusal(path, saved(nn.LSTM(1, 2)))
    assert "'torch._utils._rebuild_tensor_v3'" in refusal(
        path, saved({"w": torch.ones(1, dtype=torch.uint16)})
    )
    both = {"model.w": torch.ones(1), "model": {"w": torch.ones(1)}}
    assert refusal(path, saved(both)) == "model.w: expected one tensor of that name, got two"
    assert "is that of a path out of the file" in refusal(path, saved({"../w": torch.ones(1)}))


def test_what_is_not_read_back_is_not_written():
    with pytest.raises(InputError, match="w: cannot be written with dtype complex64"):
        pt_bytes({"w": np.ones(1, np.complex64)})
    with pytest.raises(InputError, match="w: cannot be written with dtype uint16"):
        pt_bytes({"w": np.ones(1, np.uint16)})
    with pytest.raises(InputError, match="path out of the file"):
        pt_bytes({"../w": np.ones(1)})


def test_no_damage_of_one_bit_or_of_the_end_goes_unnoticed(tmp_path):
    """torch.load itself takes flipped bits of weights for weights."""
    path = tmp_path / "a.pt"
    weights = np.random.default_rng(0).standard_normal((2, 3))
    data, before = pt_bytes({"w": weights}), digest({"w": weights})
    place = data.index(weights.tobytes())
    flipped = bytearray(data)
    flipped[place] ^= 1
    assert torch.load(io.BytesIO(flipped), weights_only=True)["w"][0, 0] != weights[0, 0]
    assert "Bad CRC-32 for file 'archive/data/0'" in refusal(path, bytes(flipped))
    rng, messages = np.random.default_rng(1), []
    for k in range(0, len(data), 3):
        flipped = bytearray(data)
        flipped[k] ^= 1 << int(rng.integers(8))
        path.write_bytes(flipped)
        try:
            assert digest(read_pt(path).tensors) == before, k
        except InputError as error:
            messages.append(str(error))
    assert len(messages) > len(data) // 12
    assert all(message.startswith(f"{path}: ") for message in messages)
    for length in range(0, len(data), 29):
        refusal(path, data[:length])


# --- a published model ------------------------------------------------------------------------


def published_model(weights, x) -> np.ndarray:
    """Its outputs, in the dtype of x."""
    weights = {name: array.astype(x.dtype) for name, array in weights.items()}
    for prefix, layers in (("lstm.", 1), ("lstm2.", 3)):
        own = {n: a for n, a in weights.items() if n.startswith(prefix)}
        model = to_canonical(PlacedLSTM(TABLE["torch"], own, (prefix,) * layers))
        (x, _, _), _ = lstm_forward(model.config, model.parameters, x)
    return x @ weights["dense.weight"].T + weights["dense.bias"]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_rtneurals_published_outputs_are_met(dtype):
    """One layer, three layers and a dense one, in a row; torch wrote the outputs in float32.

    The weights and outputs are float32 exactly, the inputs float64 with all their digits. What the
    outputs may differ by is what float32's roundoff in every weight and input moves them by.
    """
    folder = DATA / "RTNeural"
    if not folder.is_dir():
        pytest.skip(f"{folder} is not there")
    content = json.loads((folder / "lstm_torch.json").read_text())
    weights = {name: np.array(value, np.float32) for name, value in content.items()}
    assert all(np.array_equal(weights[name], value) for name, value in content.items())
    x = np.loadtxt(folder / "lstm_torch_x_python.csv")[:, None, None]
    published = np.loadtxt(folder / "lstm_torch_y_python.csv")[:, None, None]
    assert np.array_equal(published, published.astype(np.float32))
    unit = np.dtype(np.float32)
    actual = published_model(weights, x.astype(dtype))
    assert actual.dtype == dtype
    exact = published_model(weights, x)
    moves = []
    for k in range(4):
        noise = Noise(k, unit)
        moved = {name: noise.moved(array.astype(np.float64)) for name, array in weights.items()}
        moves.append(published_model(moved, noise.moved(x)) - exact)
    assert distance(actual.astype(np.float64), published, moves, unit) <= K
    assert np.abs(actual - published).max() < 1e-7
