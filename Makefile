# Each target makes .venv and installs what it needs; nothing but Python >= 3.11, make and git is assumed.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
# On a machine whose Python already has a CUDA torch, that torch is used; elsewhere this version is installed.
TORCH ?= torch==2.13.0

.PHONY: demo test lint figures install clean

install: $(VENV)/.installed

