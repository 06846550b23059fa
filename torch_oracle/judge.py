"""Is my LSTM right, and what is wrong with it? Three functions that take an LSTM as you have it.

That is an adapter (`torch_oracle.adapters` says what it takes and returns), a torch.nn.Module with
the parameters of nn.LSTM or nn.LSTMCell, a class of such modules, or the text
``package.module:name`` or ``file.py:name`` that names one of these. ::

    from torch_oracle import assert_correct

    def test_my_lstm():
        assert_correct(my_lstm)
"""

from collections.abc import Callable
from typing import Any

from torch import nn

from torch_oracle.diagnosis.diagnose import diagnose as diagnose_adapter
from torch_oracle.diagnosis.results import Diagnosis
from torch_oracle.diagnosis.terminal import diagnosis_lines
from torch_oracle.verification.adapters import Adapter
from torch_oracle.verification.cases import Mode
from torch_oracle.verification.loading import adapter_of
from torch_oracle.verification.outputs import AdapterError
from torch_oracle.verification.results import Verification
from torch_oracle.verification.terminal import verdict, what_is_wrong
from torch_oracle.verification.verify import verify as verify_adapter

Judgeable = Adapter | nn.Module | Callable[..., Any] | str
"""An LSTM as you have it: an adapter, a module, a class of modules, or the name of one of these."""


def verify(lstm: Judgeable, mode: Mode = "quick") -> Verification:
    """Compare all that an LSTM returns with PyTorch, on random problems.

    Args:
        lstm: the LSTM to judge.
        mode: "quick" takes seconds; "full" has more seeds and larger sizes, and takes about half a
            minute.

    Returns:
        The verdict: ``passed``, the first divergence and the distance of every tensor.

    Raises:
        InputError: ``lstm`` is nothing that can be judged; the message says what is expected.
    """
    return verify_adapter(adapter_of(lstm), mode)


def diagnose(lstm: Judgeable) -> Diagnosis:
    """Say which known faults explain what an LSTM gets wrong. Takes seconds, at most a minute.

    Args:
        lstm: the LSTM to diagnose.

    Returns:
        The diagnosis: ``status``, and ``findings`` with the wrong and the right formula of each.

    Raises:
        InputError: ``lstm`` is nothing that can be judged; the message says what is expected.
        AdapterError: it raises, or returns something other than arrays of the right names.
    """
    return diagnose_adapter(adapter_of(lstm))


def assert_correct(lstm: Judgeable, mode: Mode = "quick", *, diagnose: bool = False) -> None:
    """Assert that an LSTM agrees with PyTorch, for a test function of your own.

    Args:
        lstm: the LSTM to judge.
        mode: as of `verify`.
        diagnose: whether the message also names the fault, which takes up to a minute more.

    Raises:
        AssertionError: it does not agree. The message has the verdict, the first divergence and, if
            asked for, the diagnosis; its cause is the exception that the LSTM raised, if any.
        InputError: ``lstm`` is nothing that can be judged; the message says what is expected.
    """
    __tracebackhide__ = True  # pytest shows the test's own line
    adapter = adapter_of(lstm)
    verification = verify_adapter(adapter, mode)
    if verification.passed:
        return
    lines = [verdict(verification), *what_is_wrong(verification)]
    if diagnose:
        lines += ["", *_diagnosis_text(adapter)]
    else:
        lines.append("assert_correct(..., diagnose=True) says which fault it is")
    raise AssertionError("\n".join(lines)) from verification.cause


def _diagnosis_text(adapter: Adapter) -> list[str]:
    try:
        found = diagnose_adapter(adapter)
    except AdapterError as error:
        return [f"no diagnosis: {adapter.name} {error}"]
    return [text for text, _ in diagnosis_lines(adapter.name, found)]
