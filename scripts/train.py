"""The command `numpy-lstm train`, from a checkout."""

import sys

from numpy_lstm.commands.main import main

if __name__ == "__main__":
    sys.exit(main(["train", *sys.argv[1:]]))
