"""One bias of the gates as PyTorch's pair of biases, and a forget bias as part of a bias."""

from collections.abc import Mapping

import numpy as np

from numpy_lstm.lstm import LSTM


def with_bias_pair(
    parameters: Mapping[str, np.ndarray], config: LSTM, prefix: str = ""
) -> dict[str, np.ndarray]:
    """The parameters with the only bias as `bias_ih` and zeros as `bias_hh`.

    The zeros change no output; to keep the model as it was, they must not be trained.

    Args:
        parameters: those of an LSTM with one bias, in any order.
        config: the LSTM.
        prefix: what precedes the LSTM's names, such as "lstm." in a language model.
    """
    result = dict(parameters)
    for suffix in config.suffixes:
        bias = result.pop(f"{prefix}bias{suffix}")
        result[f"{prefix}bias_ih{suffix}"] = bias
        result[f"{prefix}bias_hh{suffix}"] = np.zeros_like(bias)
    return result


def with_forget_bias(
    parameters: Mapping[str, np.ndarray], config: LSTM, forget_bias: float
) -> dict[str, np.ndarray]:
    """Copies of the parameters, with a number added to the first bias of every forget gate."""
    result = {name: array.copy() for name, array in parameters.items()}
    if forget_bias:
        for suffix in config.suffixes:
            forget = slice(config.hidden_size, 2 * config.hidden_size)
            result[config.bias_names[0] + suffix][forget] += forget_bias
    return result
