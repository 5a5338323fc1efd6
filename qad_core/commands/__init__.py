"""One module a command of `qad_core`; each is imported only when it is called. Light: no torch."""
