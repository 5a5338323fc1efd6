"""`qad-tui --demo`: a recorded fleet, replayed into a temporary folder with a SLURM of its own; one noun a module."""
