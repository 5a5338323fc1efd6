"""`python -m qad_tui`: the same as the command `qad-tui`."""

from __future__ import annotations

from qad_tui.command import main

if __name__ == "__main__":
    main()
