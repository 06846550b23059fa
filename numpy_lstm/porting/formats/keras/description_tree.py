"""A Keras model's description as a tree of layers: {"class_name": ..., "config": ...}.

A description comes from a file, so that nothing about its form is taken for granted.

Sources: keras/src/saving/saving_lib.py, where the groups' names in a file of weights come from.
"""

import re
from collections import Counter
from typing import Any


def class_of(node: Any) -> str:
    """The name of a layer's class; "" if the node is no layer."""
    found = node.get("class_name") if isinstance(node, dict) else None
    if isinstance(found, str):
        return found
    return ""


def config_of(node: Any) -> dict[str, Any]:
    """The options of a layer; none if the node is no layer."""
    found = node.get("config") if isinstance(node, dict) else None
    if isinstance(found, dict):
        return found
    return {}


def children_of(node: Any, key: str) -> dict[str, tuple[str, dict[str, Any]]]:
    """Layers of a model by name, each with the name of its group of weights, which counts up by
    class. The config of Keras 1's Sequential is the list of layers itself."""
    found = node.get("config") if isinstance(node, dict) else None
    if isinstance(found, dict):
        found = found.get(key)
    if not isinstance(found, list):
        return {}
    used: Counter[str] = Counter()
    result = {}
    for child in found:
        snake = _snake_case(class_of(child))
        numbered = f"{snake}_{used[snake]}" if used[snake] else snake
        used[snake] += 1
        if isinstance(child, dict):
            result[str(config_of(child).get("name", numbered))] = numbered, child
    return result


def _snake_case(class_name: str) -> str:
    """As Keras names a group: StackedRNNCells gives stacked_rnn_cells."""
    name = re.sub(r"\W", "", class_name)
    name = re.sub(r"(?<=.)(?=[A-Z][a-z0-9]+)", "_", name)
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower()
