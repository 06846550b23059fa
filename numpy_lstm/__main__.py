"""`python -m numpy_lstm` is the command `numpy-lstm`."""

import sys

from numpy_lstm.commands.main import main

if __name__ == "__main__":
    sys.exit(main())
