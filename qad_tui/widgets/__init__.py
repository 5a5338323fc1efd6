"""One widget a module; widgets do no I/O."""
