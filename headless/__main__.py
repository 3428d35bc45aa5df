"""`python -m sora_dit.headless`: the command line, where the command `sora-dit` is not on the path."""

import sys

from .cli import main

if __name__ == "__main__":
    sys.exit(main())
