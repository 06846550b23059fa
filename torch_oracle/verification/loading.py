"""From `package.module:name` on a command line to an adapter."""

import inspect
import os
import sys
from collections.abc import Callable
from importlib import import_module
from types import ModuleType
from typing import Any

from torch import nn

from numpy_lstm.errors import InputError
from torch_oracle.verification.adapters import OPTIONAL, REQUIRED, Adapter, Form, Options
from torch_oracle.verification.messages import describe_error, did_you_mean
from torch_oracle.verification.torch_modules import wrap

BY_NAME = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)


def load(spec: str) -> Adapter:
    """The adapter `package.module:name`; the current directory is searched first.

    It is a function, or a torch.nn.Module with the parameters of nn.LSTM or nn.LSTMCell, or a class
    or function without arguments that makes one.

    Raises:
        InputError: in one sentence, why there is no adapter of that name.
    """
    return adapter_of(import_object(spec), spec)


def import_object(spec: str) -> Any:
    """The object `package.module:name`; the current directory is searched first.

    Raises:
        InputError: in one sentence, why there is none.
    """
    module_name, colon, name = spec.partition(":")
    if not (colon and module_name and name):
        raise InputError(
            f"{spec}: expected package.module:name, such as my_package.my_lstm:adapter"
        )
    found: Any = _import_module(spec, module_name)
    for part in name.split("."):
        if not hasattr(found, part):
            hint = ""
            if hasattr(found, "__dict__"):
                hint = did_you_mean(part, vars(found))
            raise InputError(f"{spec}: {module_name} has no {name!r}{hint}")
        found = getattr(found, part)
    return found


def _import_module(spec: str, module_name: str) -> ModuleType:
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        return import_module(module_name)
    except (Exception, SystemExit) as error:
        if isinstance(error, ModuleNotFoundError) and error.name is not None:
            # The module itself or a package that it stands in, and not what it imports.
            if f"{module_name}.".startswith(f"{error.name}."):
                raise InputError(
                    f"{spec}: there is no module {error.name!r} here or in {sys.prefix}"
                ) from error
        raise InputError(
            f"{spec}: importing {module_name} raises {describe_error(error)}"
        ) from error


def adapter_of(found: Any, name: str) -> Adapter:
    """The adapter of an object in hand; see `load`."""
    if _is_factory(found):
        try:
            found = found()
        except (Exception, SystemExit) as error:
            raise InputError(f"{name}: calling it raises {describe_error(error)}") from error
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
