"""The commands of the command line, by what they are given: each only says what can be asked, and calls `commands/`."""
