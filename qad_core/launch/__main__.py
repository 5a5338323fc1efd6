"""`python -m qad_core.launch RUN_FOLDER`: what srun starts once on every node of a job (`node.py`)."""

from __future__ import annotations

import sys

from qad_core.launch.node import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
