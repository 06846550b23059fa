"""Annotations of arrays with their shapes, such as ``Shaped[np.ndarray, "T N H"]``.

To a type checker, and to Python, that is an `np.ndarray` with a remark. In a program that has
imported jaxtyping before, as the tests have, the annotations are jaxtyping's, and can be checked at
every call.
"""

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING or "jaxtyping" not in sys.modules:
    from typing import Annotated as Float
    from typing import Annotated as Int
    from typing import Annotated as Shaped
else:
    from jaxtyping import Float, Int, Shaped

__all__ = ["Float", "Int", "Shaped"]
