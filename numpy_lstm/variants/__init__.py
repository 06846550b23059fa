"""Cells that torch.nn.LSTMCell lacks: each a file like `cell.py`, run by the plain loop.

A variant is a module with

- ``WEIGHTS``: its weights by name, in the order in which its functions take them, with their axes
  ("4H", "H", "I", "P" or a number);
- ``cell_forward(weights, x, h_prev, c_prev) -> (h, c), cache``;
- ``cell_backward(dh, dc_next, cache) -> gradients``;
- ``Cache`` and ``Gradients``: the named tuples that these return, which begin as those of `cell.py`
  do; the other fields are the values that a comparison step by step looks at, each [N, H], in the
  order of their computation.

torch_oracle/proof/torch_cells.py holds the same equations by torch's operations, which judge them.

``LSTM(..., variant="peephole")`` takes the name of a file of this folder,
``LSTM(..., variant=module)`` a module of one's own.
"""
