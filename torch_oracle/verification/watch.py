"""What to do about an LSTM that does not return: say which case is running, and stop it."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from numpy_lstm.errors import InputError

PATIENCE = 30.0
"""Seconds after which it is said which case is running."""


class TimeIsUp(BaseException):
    """An LSTM took longer than it may; no `except Exception` of its own can hold this up."""


@contextmanager
def watched(running: str, limit: float | None, say: Callable[[str], Any] | None) -> Iterator[None]:
    """Run an LSTM for a limited time.

    Args:
        running: what is run, for the message.
        limit: seconds after which it is stopped; None for never.
        say: is given a sentence if it runs for longer than `PATIENCE`; None for nobody.

    Raises:
        TimeIsUp: it ran for longer than the limit.
        InputError: there is a limit, and this system cannot stop a running function.
    """
    sentence = f"still running after {PATIENCE:g} s: {running} (--timeout SECONDS stops it)"
    with _said_after_a_while(sentence, say), _stopped_after(limit):
        yield


@contextmanager
def _said_after_a_while(sentence: str, say: Callable[[str], Any] | None) -> Iterator[None]:
    if say is None:
        yield
        return
    timer = threading.Timer(PATIENCE, say, [sentence])
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


@contextmanager
def _stopped_after(limit: float | None) -> Iterator[None]:
    if limit is None:
        yield
        return
    if not hasattr(signal, "setitimer"):
        raise InputError("this system cannot stop a running function", argument="timeout")

    def stop(*_: Any) -> None:
        raise TimeIsUp

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, limit, 1.0)  # and again each second, should that be lost
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
