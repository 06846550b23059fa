"""The command `numpy-lstm sample`, from a checkout."""

import sys

from numpy_lstm.commands.main import main

if __name__ == "__main__":
    sys.exit(main(["sample", *sys.argv[1:]]))
