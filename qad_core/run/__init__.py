"""The run folder, which is the interface between trainer, launcher and TUI. Light: no torch."""
