"""``python -m NoisyLabelSegLib``: the same as the command ``noisylabelseg``."""

import sys

from NoisyLabelSegLib.cli import main

if __name__ == "__main__":
    sys.exit(main())
