"""Language models as PyTorch modules, and back: bit for bit; and they write the same text."""

from collections.abc import Iterator
from dataclasses import replace
from itertools import islice, product
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from numpy_lstm.errors import InputError
from numpy_lstm.fast.stepping import LSTMCell
from numpy_lstm.language_model import LanguageModel, lstm_parameters, predict
from numpy_lstm.loss import log_softmax
from numpy_lstm.porting.layouts.canonical import digest
from numpy_lstm.roundoff import K, distance
from numpy_lstm.training import sampling
from numpy_lstm.training.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from numpy_lstm.training.experiment import CountingExperiment
from numpy_lstm.training.loop import train
from numpy_lstm.training.vocabulary import Vocabulary
from parity_tests.support.problems import random_parameters, random_problem
from torch_oracle.proof.compare import noise_moves
from torch_oracle.proof.torch_trace import torch_trace
from torch_oracle.proof.trace import in_dtype
from torch_oracle.weights.language_models import from_torch, to_torch
from torch_oracle.weights.pt_files import pt_bytes, read_pt, to_array, to_tensor
from torch_oracle.weights.torch_language_model import TorchLanguageModel
from torch_oracle.weights.torch_sampling import generate, log_probabilities

pytestmark = pytest.mark.usefixtures("without_type_checks")

DTYPES = [np.float32, np.float64]
LINES = """
from numpy_lstm import load_checkpoint, save_checkpoint
from torch_oracle.weights.language_models import from_torch, to_torch

checkpoint = load_checkpoint("best.safetensors")
module = to_torch(checkpoint)  # nn.LSTM and nn.Linear, to train or export
back = from_torch(module, checkpoint.vocabulary, checkpoint.notes)
save_checkpoint("back.safetensors", back)
"""


def vocabulary_of(V: int) -> Vocabulary:
    return Vocabulary((*(chr(ord("a") + k) for k in range(V - 1)), "UNK"))


def random_checkpoint(dtype, layers=1, pair=False, V=6, H=7) -> Checkpoint:
    model = LanguageModel(V, H, layers, bias_pair=pair)
    rng = np.random.default_rng([layers, pair])
    parameters = random_parameters(model.parameter_shapes(), rng, dtype)
    return Checkpoint(model, vocabulary_of(V), parameters, {"loss": 0.25})


def trained_checkpoint(dtype) -> Checkpoint:
    """Briefly trained on the counting language."""
    name = np.dtype(dtype).name
    experiment = CountingExperiment(hidden_size=9, num_sequences=200, epochs=40, dtype=name)
    task = experiment.task()
    model = experiment.model(len(task.vocabulary))
    *_, last = train(model, experiment.parameters(model), task, experiment.recipe)
    return Checkpoint(model, task.vocabulary, dict(last.parameters), {"loss": last.loss})


@pytest.fixture(scope="module", params=DTYPES, ids=["float32", "float64"])
def trained(request) -> Checkpoint:
    return trained_checkpoint(request.param)


# --- there and back ---------------------------------------------------------------------------


def assert_same(actual: Checkpoint, expected: Checkpoint):
    assert replace(actual, parameters={}) == replace(expected, parameters={})
    assert list(actual.parameters) == list(expected.model.parameter_shapes())
    assert digest(actual.parameters) == digest(expected.parameters)


def through(checkpoint: Checkpoint) -> Checkpoint:
    return from_torch(to_torch(checkpoint), checkpoint.vocabulary, checkpoint.notes)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("pair", [False, True])
@pytest.mark.parametrize("layers", [1, 2, 3])
def test_checkpoints_come_back_bit_for_bit(layers, pair, dtype, tmp_path):
    checkpoint = random_checkpoint(dtype, layers, pair)
    before = digest(checkpoint.parameters)
    assert_same(through(checkpoint), checkpoint)
    module = to_torch(checkpoint)
    (path := tmp_path / "a.pt").write_bytes(
        pt_bytes({name: to_array(tensor) for name, tensor in module.state_dict().items()})
    )
    other = to_torch(replace(checkpoint, parameters=zeros_like(checkpoint.parameters)))
    other.load_state_dict({n: to_tensor(a) for n, a in read_pt(path).tensors.items()})
    assert_same(from_torch(other, checkpoint.vocabulary, checkpoint.notes), checkpoint)
    with torch.no_grad():
        for parameter in module.parameters():  # copies, not the arrays themselves
            parameter.add_(1)
    assert digest(checkpoint.parameters) == before


def zeros_like(parameters):
    return {name: np.zeros_like(array) for name, array in parameters.items()}


def test_a_trained_checkpoint_comes_back_bit_for_bit(trained, tmp_path):
    assert trained.notes["loss"] < 0.4  # nats per token; about ln 4 before
    assert_same(through(trained), trained)


def test_the_lines_of_the_page_do_as_they_say(trained, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    save_checkpoint(Path("best.safetensors"), trained)
    names = {}
    assert LINES in (Path(__file__).parents[2] / "docs" / "porting.md").read_text()
    exec(LINES, names)
    assert isinstance(names["module"], nn.Module)
    assert_same(load_checkpoint(Path("back.safetensors")), trained)


@pytest.mark.parametrize("dtype", DTYPES)
def test_state_dict_keys_are_our_names(dtype):
    pair = to_torch(random_checkpoint(dtype, 2, pair=True))
    assert list(pair.state_dict()) == list(
        LanguageModel(6, 7, 2, bias_pair=True).parameter_shapes()
    )
    one = to_torch(random_checkpoint(dtype, 2))
    assert one.state_dict().keys() == pair.state_dict().keys()
    frozen = {name for name, p in one.named_parameters() if not p.requires_grad}
    assert frozen == {"lstm.bias_hh_l0", "lstm.bias_hh_l1"}
    assert not any(one.state_dict()[name].any() for name in frozen)
    assert all(p.requires_grad for p in pair.parameters())
    embedded = TorchLanguageModel(6, 7, embedding_size=3)
    assert "embedding.weight" in embedded.state_dict()


def test_a_second_bias_of_zeros_that_trains_stays_one_of_a_pair():
    """Else an untrained pair would come back as one bias, and train at half the step."""
    checkpoint = random_checkpoint(np.float32, pair=True)
    zeros = np.zeros_like(checkpoint.parameters["lstm.bias_hh_l0"])
    checkpoint = replace(checkpoint, parameters=checkpoint.parameters | {"lstm.bias_hh_l0": zeros})
    assert_same(through(checkpoint), checkpoint)
    frozen = to_torch(checkpoint)
    frozen.lstm.bias_hh_l0.requires_grad_(False)
    assert not from_torch(frozen, checkpoint.vocabulary).model.bias_pair
    frozen.lstm.bias_hh_l0[3] = -0.0  # other bits than those of zero
    assert from_torch(frozen, checkpoint.vocabulary).model.bias_pair
    frozen.lstm.bias_hh_l0[3] = 1
    assert from_torch(frozen, checkpoint.vocabulary).model.bias_pair


def test_a_conversion_draws_none_of_torchs_random_numbers():
    before = torch.get_rng_state()
    to_torch(random_checkpoint(np.float32))
    assert torch.equal(torch.get_rng_state(), before)


def test_training_the_module_and_going_back_keeps_one_bias():
    checkpoint = random_checkpoint(np.float64, 2)
    module = to_torch(checkpoint)
    optimizer = torch.optim.SGD(module.parameters(), 0.1)
    logits, _ = module(torch.tensor([[0], [3], [5]]))
    logits.square().sum().backward()
    optimizer.step()
    after = from_torch(module, checkpoint.vocabulary)
    assert after.model == checkpoint.model
    for name, array in checkpoint.parameters.items():
        assert not np.array_equal(after.parameters[name], array), name


# --- the same numbers, the same text ----------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("layers", "pair"), list(product((1, 3), (False, True))))
def test_logits_and_log_probabilities_are_right(layers, pair, dtype):
    problem = random_problem(
        5, model=True, dtype=dtype, sizes=(9, 4, 6, 7), num_layers=layers, bias_pair=pair
    )
    problem.lengths[...] = 9
    check_logits(problem)
    for zeros in (problem.h0, problem.c0):
        zeros[...] = 0
    assert check_logits(problem)


def test_log_probabilities_of_a_trained_model_are_right(trained):
    model, dtype = trained.model, trained.parameters["projection.bias"].dtype
    sizes = (9, 4, model.vocab_size, model.hidden_size)
    problem = random_problem(5, model=True, dtype=dtype, sizes=sizes)
    problem = replace(problem, config=model, parameters=trained.parameters)
    problem.lengths[...] = 9
    for zeros in (problem.h0, problem.c0):
        zeros[...] = 0
    assert check_logits(problem)


def check_logits(problem) -> bool:
    """Logits of the module, and log-probabilities if it starts from zero states, within K."""
    module = to_torch(Checkpoint(problem.config, vocabulary_of(6), dict(problem.parameters), {}))
    exact = torch_trace(in_dtype(problem, np.float64)).steps["logits"]
    moves = [moves.steps["logits"] for moves in noise_moves(problem)]
    unit = problem.h0.dtype
    state = (torch.from_numpy(problem.h0.copy()), torch.from_numpy(problem.c0.copy()))
    with torch.no_grad():
        logits, (h_n, _) = module(torch.from_numpy(problem.x), state)
    assert logits.shape == exact.shape
    assert h_n.shape == problem.h0.shape
    assert distance(logits.numpy().astype(np.float64), exact, moves, unit) <= K
    if problem.h0.any():
        return False
    # log_softmax of moved logits, and its own rounding, which `distance` knows.
    reference = log_softmax(exact)
    moved = [log_softmax(exact + move) - reference for move in moves]
    found = log_probabilities(module, problem.x)
    assert found.dtype == unit
    assert distance(found.astype(np.float64), reference, moved, unit) <= K
    ours = predict(problem.config, problem.parameters, problem.x)
    ours = log_softmax(ours.packing.unpack(ours.logits).astype(np.float64))
    assert distance(ours, reference, moved, unit) <= K
    return True


LENGTH, SEED = 300, 7
PROMPT = np.array([0, 0, 1])


def our_logits(checkpoint: Checkpoint, text: list[int]) -> Iterator[np.ndarray]:
    """What `numpy_lstm.training.sampling.generate` had before it as it chose each token."""
    model, parameters = checkpoint.model, checkpoint.parameters
    cell = LSTMCell(model.lstm, lstm_parameters(parameters))
    cache = predict(model, parameters, PROMPT[:, None])
    logits, state = cache.logits[-1], cache.state
    for token in text:
        yield logits.astype(np.float64)
        y, state = cell.step(np.array([token]), state)
        logits = parameters["projection.weight"] @ y[0] + parameters["projection.bias"]


def their_logits(checkpoint: Checkpoint, text: list[int]) -> Iterator[np.ndarray]:
    """The logits that `torch_oracle.weights.torch_sampling.generate` had for each token."""
    module, tokens, state = to_torch(checkpoint), PROMPT[:, None], None
    with torch.no_grad():
        for token in text:
            logits, state = module(torch.from_numpy(tokens), state)
            yield logits[-1, 0].double().numpy()
            tokens = np.array([[token]])


def bounds(logits: np.ndarray, temperature: float) -> np.ndarray:
    """Where each token's share of [0, 1) ends; the last is 1."""
    cumulative = np.exp((logits - logits.max()) / temperature).cumsum()
    return cumulative / cumulative[-1]


def check_margins(checkpoint: Checkpoint, text: list[int], temperature: float) -> None:
    """That the text is the same is no luck: no choice came as near to another as rounding reaches.

    A draw u takes the token in whose share of [0, 1) it lies. The two sides' shares differ by
    rounding; they choose alike for certain where u is farther from every bound than the bounds are
    from one another. The most probable token is the same for certain where it leads by more than
    twice what the logits differ by.
    """
    rng, margins, differences = np.random.default_rng(SEED), [], []
    # Each exp, sum and product of an inversion in float64 rounds once, on either side.
    rounding = 2 * (checkpoint.model.vocab_size + 4) * np.finfo(np.float64).eps
    pairs = zip(our_logits(checkpoint, text), their_logits(checkpoint, text), strict=True)
    for (ours, theirs), token in zip(pairs, text, strict=True):
        if temperature == 0:
            second, first = np.sort(ours)[-2:]
            assert ours.argmax() == token
            margins.append(first - second)
            differences.append(2 * np.abs(ours - theirs).max())
        else:
            u, own, other = rng.random(), bounds(ours, temperature), bounds(theirs, temperature)
            assert own.searchsorted(u, side="right") == token
            margins.append(np.abs(own[:-1] - u).min())
            differences.append(np.abs(own - other).max() + rounding)
    assert len(margins) == LENGTH
    assert (np.array(margins) > differences).all(), (min(margins), max(differences))


def both_texts(checkpoint: Checkpoint, temperature: float) -> tuple[list[int], list[int]]:
    given = {"temperature": temperature}
    ours = sampling.generate(
        checkpoint.model,
        checkpoint.parameters,
        PROMPT,
        rng=np.random.default_rng(SEED),
        **given,
    )
    theirs = generate(to_torch(checkpoint), PROMPT, rng=np.random.default_rng(SEED), **given)
    return list(islice(ours, LENGTH)), list(islice(theirs, LENGTH))


@pytest.mark.parametrize("temperature", [0.0, 0.8, 1.5])
def test_a_trained_model_writes_the_same_text(trained, temperature):
    ours, theirs = both_texts(trained, temperature)
    assert ours == theirs
    assert len(set(ours)) >= 3
    check_margins(trained, ours, temperature)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("temperature", [0.0, 0.8, 1.5])
@pytest.mark.parametrize(("layers", "pair"), [(1, False), (2, True)])
def test_a_random_model_writes_the_same_text(layers, pair, temperature, dtype):
    checkpoint = random_checkpoint(dtype, layers, pair)
    louder = {n: a * (5 if "weight" in n else 0.1) for n, a in checkpoint.parameters.items()}
    checkpoint = replace(checkpoint, parameters={n: a.astype(dtype) for n, a in louder.items()})
    ours, theirs = both_texts(checkpoint, temperature)
    assert ours == theirs
    assert len(set(ours)) >= (2 if temperature == 0 else 5)
    check_margins(checkpoint, ours, temperature)


class Fixed(np.random.Generator):
    """Always draws the same number."""

    def __init__(self, value: float) -> None:
        super().__init__(np.random.PCG64())
        self.value = value

    def random(self):
        return self.value


@pytest.mark.parametrize("u", [0.0, 0.5, 1 - 2**-33, 1 - 2**-53])
def test_draws_are_made_in_float64_even_of_float32_logits(u):
    """In float32 the largest draws would be rounded to 1, which is no token's share."""
    checkpoint = random_checkpoint(np.float32)
    given = {"rng": Fixed(u)}
    ours = sampling.generate(checkpoint.model, checkpoint.parameters, PROMPT, **given)
    theirs = generate(to_torch(checkpoint), PROMPT, **given)
    text = list(islice(theirs, 20))
    assert text == list(islice(ours, 20))
    assert max(text) < checkpoint.model.vocab_size


def test_other_seeds_write_other_texts():
    checkpoint = random_checkpoint(np.float64)
    module = to_torch(checkpoint)
    texts = {
        tuple(islice(generate(module, PROMPT, rng=np.random.default_rng(seed)), 50))
        for seed in range(3)
    }
    assert len(texts) == 3


def test_generation_leaves_gradients_on_between_its_tokens():
    tokens = generate(to_torch(random_checkpoint(np.float64)), PROMPT, temperature=0.0)
    next(tokens)
    assert torch.is_grad_enabled()


def test_generate_refuses_as_its_twin_does():
    checkpoint = random_checkpoint(np.float64)
    module, rng = to_torch(checkpoint), np.random.default_rng(0)
    model, parameters = checkpoint.model, checkpoint.parameters
    none = np.array([], np.int64)
    for prompt, given in (
        (none, {"rng": rng}),
        (PROMPT, {"rng": rng, "temperature": -1.0}),
        (PROMPT, {"rng": rng, "temperature": np.inf}),
        (PROMPT, {"rng": rng, "temperature": np.nan}),
        (PROMPT, {}),
    ):
        with pytest.raises(InputError) as ours:
            sampling.generate(model, parameters, prompt, **given)
        with pytest.raises(InputError) as theirs:
            generate(module, prompt, **given)
        assert str(theirs.value) == str(ours.value)
    with pytest.raises(InputError, match=r"tokens: expected integers 0 to V - 1 = 5, got 0 to 6"):
        next(generate(module, np.array([0, 6]), rng=rng))
    with pytest.raises(InputError, match=r"tokens: .* got -1 to 0"):
        log_probabilities(module, np.array([[-1]]))


# --- modules of other people ------------------------------------------------------------------


class Theirs(nn.Module):
    """One-hot or embedded tokens, batch first, under names of its own."""

    def __init__(self, V=6, H=7, E=None, bias=True, head_bias=True, dtype=None, **options):
        super().__init__()
        self.lookup = nn.Embedding(V, E, dtype=dtype) if E else None
        self.rnn = nn.LSTM(E or V, H, batch_first=True, bias=bias, dtype=dtype, **options)
        self.drop = nn.Dropout(0.3)
        self.head = nn.Linear(H, V, bias=head_bias, dtype=dtype)
        self.V = V

    def forward(self, tokens):
        one_hot = functional.one_hot(tokens, self.V).to(self.head.weight.dtype)
        x = one_hot if self.lookup is None else self.lookup(tokens)
        return self.head(self.drop(self.rnn(x)[0]))


TOKENS = np.random.default_rng(3).integers(0, 6, (5, 3))


def run_theirs(module) -> np.ndarray:
    with torch.no_grad():
        logits = module.eval()(torch.from_numpy(TOKENS).T)
    return logits.transpose(0, 1).numpy()


def run_ours(checkpoint: Checkpoint) -> np.ndarray:
    cache = predict(checkpoint.model, checkpoint.parameters, TOKENS)
    return cache.packing.unpack(cache.logits)


@pytest.mark.parametrize("layers", [1, 2])
def test_a_module_of_ones_own_is_found_by_type_and_holds_the_same_weights(layers):
    torch.manual_seed(0)
    options = {"num_layers": layers, "dropout": 0.2 * (layers > 1)}
    module = Theirs(dtype=torch.float64, **options)
    checkpoint = from_torch(module, vocabulary_of(6), {"loss": 1.5})
    assert checkpoint.model == LanguageModel(6, 7, layers, bias_pair=True)
    said = ["rnn.dropout = 0.2 is no weight"] * (layers > 1) + ["drop: dropout of 0.3 is no weight"]
    assert checkpoint.notes == {"loss": 1.5, "from_torch": said}
    renamed = {
        name.replace("rnn", "lstm").replace("head", "projection"): to_array(tensor)
        for name, tensor in module.state_dict().items()
    }
    assert digest(checkpoint.parameters) == digest(renamed)
    exact, ours = run_theirs(module), run_ours(checkpoint)
    assert distance(ours, exact) <= K  # a few layers and steps: roundoff alone will do
    again = from_torch(to_torch(checkpoint), vocabulary_of(6), checkpoint.notes)
    assert_same(again, checkpoint)


def test_an_embedding_is_refused_or_folded_with_a_word_about_it():
    torch.manual_seed(0)
    module = Theirs(E=4)
    lost = "lookup: {} multiplied into rnn.weight_ih_l0, in float64 and rounded once"
    with pytest.raises(InputError) as caught:
        from_torch(module, vocabulary_of(6))
    assert str(caught.value) == (
        f"a LanguageModel cannot hold everything: {lost.format('would be')},"
        " which cannot be undone; allow it with allow_lossy=True"
    )
    checkpoint = from_torch(module, vocabulary_of(6), allow_lossy=True)
    assert checkpoint.notes["from_torch"][0] == f"{lost.format('were')}, which cannot be undone"
    W, E = (
        to_array(tensor).astype(np.longdouble)
        for tensor in (module.rnn.weight_ih_l0, module.lookup.weight)
    )
    assert np.array_equal(checkpoint.parameters["lstm.weight_ih_l0"], (W @ E.T).astype(np.float32))
    others = {
        name.replace("rnn", "lstm").replace("head", "projection"): to_array(tensor)
        for name, tensor in module.state_dict().items()
        if name not in ("lookup.weight", "rnn.weight_ih_l0")
    }
    rest = {n: a for n, a in checkpoint.parameters.items() if n != "lstm.weight_ih_l0"}
    assert digest(rest) == digest(others)
    exact = run_theirs(module.double())
    unit = np.dtype(np.float32)
    assert distance(run_ours(checkpoint).astype(np.float64), exact, dtype=unit) <= K


def test_our_own_module_with_an_embedding_is_refused_or_folded_too():
    module = TorchLanguageModel(6, 7, 2, embedding_size=4, dtype=torch.float64)
    with pytest.raises(InputError, match=r"embedding: would be multiplied into lstm\.weight_ih_l0"):
        from_torch(module, vocabulary_of(6))
    checkpoint = from_torch(module, vocabulary_of(6), allow_lossy=True)
    exact = log_probabilities(module, TOKENS)
    assert distance(log_softmax(run_ours(checkpoint)), exact) <= K


def test_missing_biases_are_refused_or_put_as_zeros():
    module = Theirs(bias=False, head_bias=False, num_layers=2)
    with pytest.raises(InputError) as caught:
        from_torch(module, vocabulary_of(6))
    assert str(caught.value) == (
        "a LanguageModel cannot hold everything: rnn.bias: zeros would be put where there is none;"
        " head.bias: zeros would be put where there is none; allow it with allow_lossy=True"
    )
    checkpoint = from_torch(module, vocabulary_of(6), allow_lossy=True)
    assert not checkpoint.model.bias_pair
    zeros = {n for n, array in checkpoint.parameters.items() if not array.any()}
    assert zeros == {"lstm.bias_l0", "lstm.bias_l1", "projection.bias"}
    assert checkpoint.notes["from_torch"][:2] == [
        "rnn.bias: zeros were put where there is none",
        "head.bias: zeros were put where there is none",
    ]
    exact, unit = run_theirs(module.double()), np.dtype(np.float32)
    assert distance(run_ours(checkpoint).astype(np.float64), exact, dtype=unit) <= K


def test_tied_weights_are_noted():
    module = Theirs(E=7)
    module.head.weight = module.lookup.weight
    checkpoint = from_torch(module, vocabulary_of(6), allow_lossy=True)
    assert checkpoint.notes["from_torch"][-1] == (
        "lookup.weight and head.weight were tied; here they are apart, and will train apart"
    )


class Doubled(nn.LSTM):
    """Another function under the name of a subclass."""

    def forward(self, x, state=None):
        y, state = super().forward(x, state)
        return 2 * y, state


def module_with(**parts) -> nn.Module:
    module = Theirs()
    for name, part in parts.items():
        setattr(module, name, part)
    return module


def buffered() -> nn.Module:
    module = Theirs()
    module.register_buffer("scale", torch.ones(3))
    return module


PLACE = "a LanguageModel has no place for: "


@pytest.mark.parametrize(
    ("module", "message"),
    [
        (
            Theirs(bidirectional=True),
            f"{PLACE}rnn.bidirectional (one direction only)",
        ),
        (Theirs(proj_size=3), f"{PLACE}rnn.proj_size = 3 (no projection of h)"),
        (
            module_with(lookup=nn.Embedding(6, 6, max_norm=1.0)),
            f"{PLACE}lookup.max_norm = 1 (renormalised when read)",
        ),
        (
            module_with(norm=nn.LayerNorm(7)),
            f"{PLACE}norm.weight [7]; norm.bias [7]; norm (LayerNorm)",
        ),
        (module_with(act=nn.Tanh()), f"{PLACE}act (Tanh)"),
        (module_with(h0=nn.Parameter(torch.ones(1, 1, 7))), f"{PLACE}h0 [1, 1, 7]"),
        (buffered(), f"{PLACE}scale [3]"),
        (
            module_with(rnn=Doubled(6, 7)),
            f"{PLACE}rnn (a Doubled with a forward of its own)",
        ),
        (
            module_with(other=nn.LSTM(6, 7)),
            "module: expected exactly one nn.LSTM, got rnn, other",
        ),
        (module_with(head=nn.Tanh()), "module: expected exactly one nn.Linear, got none"),
        (nn.LSTM(6, 7), "module: expected exactly one nn.Linear, got none"),
        (
            module_with(a=nn.Embedding(6, 2), lookup=nn.Embedding(6, 2)),
            "module: expected at most one nn.Embedding, got a, lookup",
        ),
        (
            module_with(head=nn.Linear(5, 6)),
            "head.in_features: expected rnn.hidden_size = 7, got 5",
        ),
        (
            module_with(rnn=nn.LSTM(4, 7)),
            "rnn.input_size: expected vocab_size = 6, of one-hot inputs, got 4",
        ),
        (
            module_with(lookup=nn.Embedding(6, 3)),
            "rnn.input_size: expected lookup.embedding_dim = 3, got 6",
        ),
        (
            module_with(lookup=nn.Embedding(5, 6)),
            "lookup.num_embeddings: expected head.out_features = 6, got 5",
        ),
        (
            Theirs(V=5),
            "vocabulary: expected head.out_features = 5 tokens, got 6",
        ),
        (
            Theirs(dtype=torch.bfloat16),
            "module: expected weights of float32 or of float64, got bfloat16; convert it with"
            " .float() or .double()",
        ),
        (
            module_with(head=nn.Linear(7, 6, dtype=torch.float64)),
            "module: expected weights of float32 or of float64, got float32, float64; convert it"
            " with .float() or .double()",
        ),
        (
            TorchLanguageModel(6, 7, device="meta"),
            "module: expected weights, got a module on the device meta, which has none; load them",
        ),
    ],
)
def test_what_a_language_model_cannot_hold_is_refused_by_name(module, message):
    for allow_lossy in (False, True):
        with pytest.raises(InputError) as caught:
            from_torch(module, vocabulary_of(6), allow_lossy=allow_lossy)
        assert str(caught.value) == message


def test_reparametrised_and_broken_weights_are_refused_by_name():
    module = Theirs()
    nn.utils.parametrizations.weight_norm(module.rnn, "weight_hh_l0")
    with pytest.raises(
        InputError, match=r"rnn\.parametrizations\.weight_hh_l0\.original0 \[28, 1\]"
    ):
        from_torch(module, vocabulary_of(6))
    module = Theirs()
    with torch.no_grad():
        module.rnn.weight_hh_l0[3, 1] = torch.nan
    with pytest.raises(InputError, match=r"lstm\.weight_hh_l0: nan at index \[3, 1\]"):
        from_torch(module, vocabulary_of(6))


def test_a_checkpoint_that_torch_cannot_hold_is_refused():
    checkpoint = random_checkpoint(np.float64)
    wide = {name: array.astype(np.longdouble) for name, array in checkpoint.parameters.items()}
    with pytest.raises(InputError, match="parameters: expected float32 or float64, got"):
        to_torch(replace(checkpoint, parameters=wide))
    lacking = {n: a for n, a in checkpoint.parameters.items() if n != "projection.bias"}
    with pytest.raises(InputError, match=r"missing \['projection.bias'\]"):
        to_torch(replace(checkpoint, parameters=lacking))
