"""From what people have, or name on a command line, to an adapter."""

import inspect
from collections.abc import Callable
from typing import Any

from torch import nn

from numpy_lstm.errors import InputError
from torch_oracle.verification.adapters import OPTIONAL, REQUIRED, Adapter, Form, Options
from torch_oracle.verification.messages import describe_error, did_you_mean
from torch_oracle.verification.spec import import_object
from torch_oracle.verification.torch_modules import wrap

BY_NAME = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
MODULE_SIZES = {"input_size": 3, "hidden_size": 5}
"""The sizes of a module that is made of its class here."""


def load(spec: str) -> Adapter:
    """The adapter ``package.module:name`` or ``file.py:name``.

    It is a function, or a torch.nn.Module with the parameters of nn.LSTM or nn.LSTMCell, or a class
    of such modules, or a function without arguments that makes one.

    Args:
        spec: which; a module is searched in the current directory first.

    Raises:
        InputError: in one sentence, why there is no adapter of that name.
    """
    return adapter_of(import_object(spec, _can_be_an_adapter), spec)


def adapter_of(found: Any, name: str = "") -> Adapter:
    """The adapter of an object in hand.

    Args:
        found: what `load` accepts, or the text that names it, or an adapter.
        name: what reports call it; by default, the name that it has in its module.

    Raises:
        InputError: in one sentence, why it is no adapter.
    """
    if isinstance(found, Adapter):
        return found
    if isinstance(found, str):
        return load(found)
    name = name or _name_of(found)
    found = _made(found, name)
    if isinstance(found, nn.Module):
        return _module_adapter(found, name)
    if not callable(found) or isinstance(found, type):
        raise InputError(
            f"{name}: expected a function or a torch.nn.Module, or a class or function without"
            f" arguments that makes one; got {found!r:.80}"
        )
    takes = _parameter_names(found, name)
    form = _form(takes, name)
    options = getattr(found, "adapter_options", Options())
    return Adapter(name, found, form, frozenset(takes), options)


def _name_of(found: Any) -> str:
    """The text that names an object on a command line; of an object without a name, its type's."""
    if not hasattr(found, "__qualname__"):
        return type(found).__qualname__
    name = found.__qualname__.rpartition("<locals>.")[2]
    if found.__module__ == "__main__" or name != found.__qualname__:
        return name
    return f"{found.__module__}:{name}"


def _can_be_an_adapter(found: Any) -> bool:
    """Whether it looks like an adapter or a module; nothing is called."""
    if isinstance(found, type):
        return issubclass(found, nn.Module)
    if isinstance(found, nn.Module | Adapter):
        return True
    try:
        return inspect.isfunction(found) and bool(_form(_parameter_names(found, ""), ""))
    except InputError:
        return False


def _made(found: Any, name: str) -> Any:
    """What a class or a function without arguments makes; other objects as they are."""
    without_arguments = _is_factory(found)
    is_module_class = isinstance(found, type) and issubclass(found, nn.Module)
    if not (without_arguments or is_module_class):
        return found
    try:
        try:
            return found()
        except TypeError:
            if not is_module_class:
                raise
            return _with_sizes(found)
    except (Exception, SystemExit) as error:
        remedy = ""
        if is_module_class:
            remedy = "; write a function without arguments that makes one, and name that"
        raise InputError(f"{name}: calling it raises {describe_error(error)}{remedy}") from error


def _with_sizes(module_class: type[nn.Module]) -> nn.Module:
    """A module of a class that asks for its sizes, as torch.nn.LSTM does."""
    if MODULE_SIZES.keys() <= inspect.signature(module_class).parameters.keys():
        return module_class(**MODULE_SIZES)
    return module_class(*MODULE_SIZES.values())


def _module_adapter(module: nn.Module, name: str) -> Adapter:
    wrapped = wrap(module, name)
    takes = {*REQUIRED["layer"], *OPTIONAL["layer"]}
    if not wrapped.takes_lengths:
        takes.remove("lengths")
    return Adapter(
        name,
        wrapped.function,
        "layer",
        frozenset(takes),
        config=wrapped.config,
        fixed=wrapped.sizes,
    )


def _is_factory(found: Any) -> bool:
    """Whether it is a class that can be called without arguments, or a function that has none."""
    if isinstance(found, type):
        try:
            inspect.signature(found).bind()
        except (TypeError, ValueError):
            return False
        return True
    return inspect.isfunction(found) and not inspect.signature(found).parameters


def _parameter_names(function: Callable[..., Any], name: str) -> list[str]:
    try:
        parameters = inspect.signature(function).parameters
    except (TypeError, ValueError) as error:
        raise InputError(f"{name}: expected a function with named parameters, {error}") from error
    for parameter in parameters.values():
        if parameter.kind not in BY_NAME:
            raise InputError(f"{name}: {parameter}: expected parameters that can be given by name")
    return list(parameters)


def _form(takes: list[str], name: str) -> Form:
    """Which of the two forms an adapter with these parameters has, if they are all of that form."""
    form: Form = "layer"
    if "tokens" in takes or "targets" in takes:
        form = "language model"
    missing = [each for each in REQUIRED[form] if each not in takes]
    if missing and form == "layer" and "x" not in takes:
        raise InputError(
            f"{name}: has the parameters ({', '.join(takes)}); expected weights and x for a"
            " layer, or weights, tokens and targets for a language model"
        )
    if missing:
        raise InputError(f"{name}: lacks the parameter {missing[0]}, which a {form} needs")
    allowed = (*REQUIRED[form], *OPTIONAL[form])
    for each in takes:
        if each not in allowed:
            raise InputError(
                f"{name}: has the parameter {each!r}, which a {form} does not know"
                f"{did_you_mean(each, allowed) or '.'} Known are {', '.join(allowed)}"
            )
    return form
