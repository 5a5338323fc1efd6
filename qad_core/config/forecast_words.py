"""A forecast in words, in a table's rows and in JSON's types, for the command line and for the form of a new run."""

from __future__ import annotations

from collections.abc import Iterator

from qad_core.config.cost import CostPrediction
from qad_core.config.devices import GIB
from qad_core.config.forecast import Forecast, fitting_words
from qad_core.config.memory import MemoryPrediction
from qad_core.run.show import show_count


def memory_words(forecast: Forecast) -> str:
    """One line: what a rank needs, what it has, and what would fit."""
    memory, device = forecast.memory, forecast.device
    needed = f"{_gib(memory.total)} GiB a rank, ±{memory.uncertainty:.0%}"
    if device.memory is None:
        return f"{needed} · {device.name}"
    words = f"{needed}, of {_gib(device.memory)}: {device.name}"
    hint = fitting_words(forecast)
    return words + (f" · {hint}" if hint else "")


def cost_words(cost: CostPrediction) -> str:
    """One line: time of a step, speed and GPU hours, or the arithmetic alone where no rate is known."""
    if cost.seconds_per_step is None or cost.tokens_per_second is None or cost.gpu_hours is None:
        return f"{cost.flops_per_step / 1e15:,.3g} PFLOP a step; the device's rate is not known"
    basis = "" if cost.is_efficiency_measured else ", not measured here"
    step, hours = _least(cost.seconds_per_step, 0.001), _least(cost.gpu_hours, 0.01)
    return (
        f"at least {step} s a step · {show_count(cost.tokens_per_second)} tokens/s"
        f" · {hours} GPU hours, at {cost.efficiency or 0:.0%} of the peak rate{basis}"
    )


def memory_rows(memory: MemoryPrediction) -> Iterator[tuple[str, str]]:
    """(part, GiB) in the order of the account; of what passes only the largest counts in the total."""
    largest = max(memory.passing, key=lambda name: memory.passing[name])
    parts = {**memory.held, f"for a while: {largest}": memory.passing[largest], **memory.outside}
    for name, size in parts.items():
        if size:
            yield name, _gib(size)
    yield "in all", f"{_gib(memory.total)} ± {_gib(int(memory.total * memory.uncertainty))}"


def forecast_data(forecast: Forecast) -> dict[str, object]:
    """`memory` and `cost` for programs; bytes, seconds."""
    memory, cost, device = forecast.memory, forecast.cost, forecast.device
    fits = forecast.fitting.fits if forecast.fitting else None
    return {
        "memory": {
            "device": device.name,
            "device_bytes": device.memory,
            "verdict": forecast.verdict,
            "total_bytes": memory.total,
            "allocated_bytes": memory.allocated,
            "uncertainty": memory.uncertainty,
            "pipeline_stage": memory.stage,
            "held_bytes": dict(memory.held),
            "passing_bytes": dict(memory.passing),
            "outside_bytes": dict(memory.outside),
            "would_fit": fits.override if fits else None,
        },
        "cost": {
            "flops_per_step": cost.flops_per_step,
            "seconds_per_step": cost.seconds_per_step,
            "tokens_per_second": cost.tokens_per_second,
            "gpu_hours": cost.gpu_hours,
            "efficiency": cost.efficiency,
            "is_efficiency_measured": cost.is_efficiency_measured,
        },
    }


def _least(value: float, least: float) -> str:
    """Three digits, or that it is less than `least`."""
    return f"{value:,.3g}" if value >= least else f"<{least:g}"


def _gib(size: int) -> str:
    value = size / GIB
    return f"{value:,.1f}" if value >= 1 else f"{value:.2g}"
