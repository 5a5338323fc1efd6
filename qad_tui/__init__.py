"""Textual experiment manager over the run folders that `qad_core` writes."""
