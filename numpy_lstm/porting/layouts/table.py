"""The table of layouts: one row for each framework; `layout` says what a row means.

A row counts as verified only where the framework's own package runs the weights in the tests, on
the Python that runs them. The others were read in the source that they name; `checked` says what
else was done. A new framework is a row in one of the modules `rows_...`.
"""

from numpy_lstm.porting.layouts.rows_others import OTHERS
from numpy_lstm.porting.layouts.rows_torch_tensorflow import TORCH_AND_TENSORFLOW

ROWS = (*TORCH_AND_TENSORFLOW, *OTHERS)
TABLE = {row.key: row for row in ROWS}
"""The rows by key."""
