"""Cells that torch.nn.LSTMCell lacks: each a file like `cell.py`, run by the plain loop.

A variant is a module with

- ``WEIGHTS``: its weights by name, in the order in which its functions take them, with their axes
  ("4H", "H", "I", "P" or a number);
- ``cell_forward(weights, x, h_prev, c_prev) -> (h, c), cache``;
- ``cell_backward(dh, dc_next, cache) -> gradients``;
- ``Cache``, a named tuple that begins with ``weights x h_prev c_prev``, and ``Gradients``, one that
  begins with ``weights dx dh_prev dc_prev``. Their other fields are what the step computes, each
  [N, H], in the order of its computation; a comparison step by step goes through them.

torch_oracle/proof/torch_cells.py holds the same equations by torch's operations, which judge them.

``LSTM(..., variant="peephole")`` takes the name of a file of this folder,
``LSTM(..., variant=module)`` a module of one's own.
"""
