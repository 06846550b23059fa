"""The equations of `cell.py` over whole, ragged sequences, computed fast."""
