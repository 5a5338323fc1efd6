"""SLURM: the client that runs its commands, what they answer, and what its states and reasons mean in plain words."""
