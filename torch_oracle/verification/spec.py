"""From `package.module:name` or `file.py:name` on a command line to the object of that name."""

import inspect
import os
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

from numpy_lstm.errors import InputError
from torch_oracle.verification.messages import describe_error, did_you_mean


def import_object(spec: str, is_wanted: Callable[[Any], bool] = inspect.isfunction) -> Any:
    """The object ``package.module:name`` or ``file.py:name``.

    Args:
        spec: which; a module is searched in the current directory first.
        is_wanted: whether an object of the module is one that could have been meant; a message
            about a missing name lists those.

    Raises:
        InputError: in one sentence, why there is none.
    """
    module_spec, _, name = spec.rpartition(":")
    if not module_spec and name.endswith(".py"):
        module_spec, name = name, ""
    elif not (module_spec and name):
        raise InputError(
            f"{spec}: expected package.module:name or file.py:name, such as my_lstm.py:adapter"
        )
    module = _module(spec, module_spec)
    if not name:
        raise InputError(
            f"{spec}: expected a name after it, such as {module_spec}:adapter"
            f"{_names_in(module, module_spec, is_wanted)}"
        )
    found: Any = module
    for part in name.split("."):
        if not hasattr(found, part):
            hint = ""
            if hasattr(found, "__dict__"):
                hint = did_you_mean(part, vars(found))
            hint = hint or _names_in(module, module_spec, is_wanted)
            raise InputError(f"{spec}: {module_spec} has no {name!r}{hint}")
        found = getattr(found, part)
    return found


def _names_in(module: ModuleType, called: str, is_wanted: Callable[[Any], bool]) -> str:
    """What could have been meant, to end a message."""
    names = [
        name
        for name, value in vars(module).items()
        if getattr(value, "__module__", module.__name__) == module.__name__ and is_wanted(value)
    ]
    if not names:
        return f"; {called} has none"
    return f"; {called} has {', '.join(names)}"


def _module(spec: str, module_spec: str) -> ModuleType:
    """The module of a dotted name or of a file."""
    _search_first(Path.cwd())
    if module_spec.endswith(".py") or os.sep in module_spec:
        return _module_of_file(spec, Path(module_spec))
    return _import_module(spec, module_spec)


def _search_first(folder: Path) -> None:
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))


def _module_of_file(spec: str, path: Path) -> ModuleType:
    """The module in a file, under the name that it has in its package, if it stands in one."""
    if not path.is_file():
        raise InputError(f"{spec}: there is no file {path}")
    file = path.resolve()
    folder, name = file.parent, file.stem
    while (folder / "__init__.py").is_file():
        folder, name = folder.parent, f"{folder.name}.{name}"
    _search_first(folder)
    module = _import_module(spec, name)
    other = getattr(module, "__file__", None)
    if other is None or Path(other).resolve() != file:
        raise InputError(
            f"{spec}: another module is called {name!r} ({other or 'a part of Python'}); give the"
            " file another name"
        )
    return module


def _import_module(spec: str, module_name: str) -> ModuleType:
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


def place_of(spec: str) -> tuple[Path, int | None]:
    """The file of the module that a spec names, and the line where the function in it begins.

    Args:
        spec: of an object that `import_object` finds. The line of what is no function, or stands in
            another file, is None.
    """
    found = inspect.unwrap(import_object(spec))
    module_spec = spec.rpartition(":")[0]
    path = Path(module_spec).resolve()
    if module_spec in sys.modules:
        path = Path(sys.modules[module_spec].__file__ or path)
    line = None
    if inspect.isfunction(found) and Path(found.__code__.co_filename) == path:
        line = found.__code__.co_firstlineno
    return path, line
