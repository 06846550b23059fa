"""The layouts of all frameworks, joined. A new framework is a row in a module `frameworks_...`.

`layout` says what a row means. A row counts as verified only where the framework's own package runs
the weights in the tests, on the Python that runs them. The others were read in the source that they
name; `checked` says what else was done.
"""

from numpy_lstm.porting.layouts.frameworks_others import OTHERS
from numpy_lstm.porting.layouts.frameworks_torch_tensorflow import TORCH_AND_TENSORFLOW

ROWS = (*TORCH_AND_TENSORFLOW, *OTHERS)
TABLE = {row.key: row for row in ROWS}
"""The rows by key."""
