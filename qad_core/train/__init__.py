"""The distillation trainer, started as `python -m qad_core.train RUN_FOLDER` on every rank. Heavy."""
