"""What lies beside an LSTM and may belong to it is never left alone, however deep it lies."""

import numpy as np
import pytest

from numpy_lstm.errors import InputError
from numpy_lstm.porting.formats.npz_file import npz_bytes
from numpy_lstm.porting.options import ReadOptions
from numpy_lstm.porting.recognise.loading import read_lstm

I, H = 3, 5


def cell(**extra) -> dict[str, np.ndarray]:
    """A cell of PyTorch without a prefix, and other tensors by the names given."""
    rng = np.random.default_rng(0)
    shapes = {"weight_ih": (4 * H, I), "weight_hh": (4 * H, H)}
    shapes |= {"bias_ih": (4 * H,), "bias_hh": (4 * H,), **extra}
    return {name: rng.standard_normal(shape).astype("f4") for name, shape in shapes.items()}


def read(tmp_path, tensors, **options):
    path = tmp_path / "model.npz"
    path.write_bytes(npz_bytes(tensors))
    return read_lstm(path, ReadOptions(**options))


def under(prefix, tensors):
    return {prefix + name: array for name, array in tensors.items()}


@pytest.mark.parametrize("prefix", ["", "cell.", "encoder.cells.0.", "model.", "state_dict.net."])
@pytest.mark.parametrize(
    ("name", "shape", "cause"),
    [
        ("ln_i.weight", (4 * H,), "a normalisation?"),
        ("norms.2.gamma", (H,), "a normalisation?"),
        ("LayerNorm_c.scale", (H,), "a normalisation?"),
        ("gates.peephole", (3 * H,), "peepholes?"),
        ("weight_ih_mask", (4 * H, I), "what another weight is computed from?"),
    ],
)
def test_a_part_of_the_lstm_is_refused_at_any_depth(tmp_path, prefix, name, shape, cause):
    tensors = under(prefix, cell(**{name: shape}))
    with pytest.raises(InputError, match=rf"{name}: unexpected: .*{cause[:-1]}"):
        read(tmp_path, tensors)


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("extra.offset", (1, 4 * H)),
        ("out.projection", (2, H)),
        ("attention.query.weight", (H, H)),
        ("scale", (1,)),
    ],
)
def test_within_a_module_of_its_own_bias_projection_and_attention_are_refused(
    tmp_path, name, shape
):
    with pytest.raises(InputError, match=f"{name}: unexpected"):
        read(tmp_path, under("lstm.", cell(**{name: shape})))


def test_a_bias_that_no_name_tells_is_not_left_alone_beside_an_lstm_without_biases(tmp_path):
    tensors = cell(biases=(1, 4 * H))
    del tensors["bias_ih"], tensors["bias_hh"]
    with pytest.raises(InputError, match="biases: unexpected"):
        read(tmp_path, tensors, layout="torch-cell")


@pytest.mark.parametrize("prefix", ["", "model.", "cell."])
def test_the_rest_of_a_model_is_left_alone(tmp_path, prefix):
    rest = {
        "embedding.weight": (7, I),
        "decoder.weight": (4 * H, H),
        "decoder.bias": (4 * H,),
        "counts.num_batches_tracked": (),
        "weight_hh/Adam": (4 * H, H),
        "bias_hh/Adam_1": (4 * H,),
    }
    outer = {"head.norm.weight": (H,), "head.mask": (9,)}
    tensors = under(prefix, cell(**rest)) | cell(**outer) if prefix == "cell." else cell(**rest)
    lstm = read(tmp_path, tensors, select=prefix if prefix == "cell." else None).lstm
    assert len(lstm.tensors) == 4
