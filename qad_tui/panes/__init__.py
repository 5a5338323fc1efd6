"""Parts of a screen that read for themselves: each owns a worker thread, typed messages and the widgets it fills."""
