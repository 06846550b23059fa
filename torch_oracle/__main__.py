"""`python -m torch_oracle` is the command `lstm-oracle`."""

import sys

from torch_oracle.commands.main import main

if __name__ == "__main__":
    sys.exit(main())
