"""The command `numpy-lstm port`, from a checkout."""

import sys

from numpy_lstm.commands.main import main

if __name__ == "__main__":
    sys.exit(main(["port", *sys.argv[1:]]))
