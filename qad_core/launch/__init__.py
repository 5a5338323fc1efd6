"""From a resolved config to a running process: plan first, then act. Light: no torch."""
