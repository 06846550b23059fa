"""Let a trained checkpoint write: give it a prompt, it goes on."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import tyro

from numpy_lstm.commands.reporting import errors_name_options
from numpy_lstm.commands.usage import parse
from numpy_lstm.errors import InputError, check_not_negative, check_positive
from numpy_lstm.training.checkpoint import load_checkpoint
from numpy_lstm.training.sampling import generate
from numpy_lstm.training.tasks.counting import EOS, longest_solved
from numpy_lstm.training.vocabulary import UNK


@dataclass(frozen=True)
class Sample:
    """What is written, and from where it goes on."""

    checkpoint: tyro.conf.Positional[Path]
    """File written by training, for example runs/text-1/best.safetensors."""
    prompt: str | None = None
    """Text to begin with, read character by character; by default "aaaab" or a line break."""
    length: int = 400
    """Tokens to write at most; on the counting language it stops at EOS."""
    temperature: float = 1.0
    """Below 1 more predictable, above 1 more surprising."""
    greedy: bool = False
    """Always take the most probable token."""
    seed: int = 0
    """Decides the draws."""


def main(program: str, arguments: Sequence[str]) -> int:
    """Run the command line `numpy-lstm sample`; the exit status."""
    with errors_name_options(Sample):
        sample(parse(Sample, program, __doc__, arguments, [Sample]))
    return 0


def sample(settings: Sample) -> None:
    """Print the prompt and what the model makes of it."""
    check_positive(length=settings.length)
    check_not_negative(seed=settings.seed)
    if settings.length > sys.maxsize:
        raise InputError(f"expected at most {sys.maxsize}", argument="length")
    checkpoint = load_checkpoint(settings.checkpoint)
    model = checkpoint.model
    parameters = checkpoint.parameters
    vocabulary = checkpoint.vocabulary
    counting = EOS in vocabulary.tokens
    prompt = settings.prompt
    if prompt is None:
        prompt = "aaaab" if counting else "\n"
    unknown = vocabulary.unknown(prompt)
    if unknown:
        print(f"note: not in the vocabulary, read as {UNK}: {unknown}", file=sys.stderr)
    tokens = generate(
        model,
        parameters,
        vocabulary.encode(prompt),
        temperature=0.0 if settings.greedy else settings.temperature,
        rng=np.random.default_rng(settings.seed),
    )
    print(prompt, end="")
    for token in vocabulary.decode(islice(tokens, settings.length)):
        if token == UNK:
            token = "\N{REPLACEMENT CHARACTER}"
        print(token, end="", flush=True)
        if token == EOS:
            break
    print()
    if counting:
        n_min = checkpoint.notes.get("experiment", {}).get("n_min", 1)
        longest = longest_solved(model, parameters, vocabulary, n_min=n_min)
        print(f"longest n: {longest} (a^m b is continued rightly for all m from {n_min} on)")
