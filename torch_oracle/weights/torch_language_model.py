"""The language model of `numpy_lstm` as an nn.Module."""

import torch
from torch import nn
from torch.nn import functional

from numpy_lstm.shapes import Float, Int

State = tuple[torch.Tensor, torch.Tensor]
"""(h, c), each [layers, N, H]."""


class TorchLanguageModel(nn.Module):
    """tokens -> one-hot or embedding -> nn.LSTM -> nn.Linear; state_dict keys are our names.

    Args:
        vocab_size: V.
        hidden_size: H.
        num_layers: of the LSTM.
        embedding_size: features of an nn.Embedding; None for one-hot inputs.
        device: see torch.nn.LSTM.
        dtype: see torch.nn.LSTM.
    """

    def __init__(
        self,
        vocab_size: int,
        hidden_size: int,
        num_layers: int = 1,
        *,
        embedding_size: int | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.vocab_size = vocab_size
        self.embedding = None
        if embedding_size is not None:
            self.embedding = nn.Embedding(vocab_size, embedding_size, device=device, dtype=dtype)
        inputs = embedding_size or vocab_size
        self.lstm = nn.LSTM(inputs, hidden_size, num_layers, device=device, dtype=dtype)
        self.projection = nn.Linear(hidden_size, vocab_size, device=device, dtype=dtype)

    def forward(
        self, tokens: Int[torch.Tensor, "T N"], state: State | None = None
    ) -> tuple[Float[torch.Tensor, "T N V"], State]:
        """Logits of the next token after every token (int64), and the states at the end."""
        if self.embedding is None:
            x = functional.one_hot(tokens, self.vocab_size).to(self.projection.weight.dtype)
        else:
            x = self.embedding(tokens)
        y, last = self.lstm(x, state)
        return self.projection(y), last
