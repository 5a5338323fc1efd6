"""This machine as it is now: processors and memory, GPUs, disks; one noun a module."""
