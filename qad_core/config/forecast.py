"""What a config will take of its devices: memory against what they have, time, and the one change that would fit.

Owns the verdict, which `check` and the form of a new run share; the numbers are `memory.py`'s and `cost.py`'s, the
words `forecast_words.py`'s.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from qad_core.config.architecture import student_architecture, teacher_architecture
from qad_core.config.checks_layout import check_layout
from qad_core.config.cost import CostPrediction, predict_cost
from qad_core.config.devices import GIB, Device
from qad_core.config.fitting import Fitting, find_fitting
from qad_core.config.memory import MemoryPrediction, predict_memory
from qad_core.config.problems import Problem
from qad_core.config.run_device import find_device
from qad_core.config.schema import ArchitectureConfig, RunConfig
from qad_core.errors import ConfigError

_KEYS = "train.micro_batch_size, train.recompute, parallelism.tensor_model_parallel_size"

Verdict = Literal["fits", "tight", "too large", "unknown"]


@dataclass(frozen=True)
class Forecast:
    """Of one rank's memory and of the run's time."""

    device: Device
    memory: MemoryPrediction
    cost: CostPrediction
    fitting: Fitting | None
    """What would fit; None where it fits or where the device's memory is not known."""

    @property
    def verdict(self) -> Verdict:
        """`tight` is over the memory by less than the prediction may be off, `too large` is by more."""
        if self.device.memory is None:
            return "unknown"
        if self.memory.total <= self.device.memory:
            return "fits"
        least = self.memory.total * (1 - self.memory.uncertainty)
        return "too large" if least > self.device.memory else "tight"


def forecast_run(config: RunConfig) -> Forecast | None:
    """The forecast of a config; None where a shape is not known or the layout is wrong, which is said elsewhere."""
    try:
        architecture, teacher = student_architecture(config), teacher_architecture(config)
    except ConfigError:
        return None
    if architecture is None or teacher is None or any(check_layout(config, architecture, teacher)):
        return None
    return forecast_shapes(config, architecture, teacher, find_device(config.cluster))


def forecast_shapes(
    config: RunConfig, architecture: ArchitectureConfig, teacher: ArchitectureConfig, device: Device
) -> Forecast:
    """The forecast for known shapes on a known device; the layout must be right."""
    memory = predict_memory(config, architecture, teacher, device)
    is_over = device.memory is not None and memory.total > device.memory
    return Forecast(
        device,
        memory,
        predict_cost(config, architecture, teacher, device),
        find_fitting(config, architecture, teacher, device) if is_over else None,
    )


def memory_problems(forecast: Forecast | None) -> list[Problem]:
    """That the run cannot fit, where that is beyond doubt."""
    return [] if forecast is None or forecast.verdict != "too large" else [_finding(forecast)]


def memory_notes(forecast: Forecast | None) -> list[Problem]:
    """That the run may not fit, where the prediction leaves it open."""
    return [] if forecast is None or forecast.verdict != "tight" else [_finding(forecast)]


def _finding(forecast: Forecast) -> Problem:
    memory, device = forecast.memory, forecast.device
    assert device.memory is not None
    verb = "needs" if forecast.verdict == "too large" else "may need"
    what = (
        f"each rank {verb} {memory.total / GIB:.1f} GiB (predicted, ±{memory.uncertainty:.0%}), but has"
        f" {device.memory / GIB:.1f} GiB: {device.name}"
    )
    return Problem(what, _KEYS, fitting_words(forecast))


def fitting_words(forecast: Forecast) -> str:
    """Which change would fit; empty where nothing needs to."""
    fitting = forecast.fitting
    if fitting is None:
        return ""
    if fitting.fits is not None:
        return f"{fitting.fits.override} would fit: {fitting.fits.memory.total / GIB:.1f} GiB."
    if fitting.best is None:
        return "Nothing in this config can be made smaller: take more ranks, or a smaller model."
    best = fitting.best
    words = f"No one change fits; {best.override} saves most: {best.memory.total / GIB:.1f} GiB."
    return f"{words} Take it and check again, or take more ranks."
