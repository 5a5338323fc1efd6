"""The commands of a plan as text, as `train --dry-run` and the form of a new run show them."""

from __future__ import annotations

import shlex

from qad_core.launch.plan import LaunchPlan
from qad_core.run.show import count_of


def describe_commands(plan: LaunchPlan) -> str:
    """What a start on this machine runs, as one would type it."""
    lines: list[str] = []
    if plan.prepare is not None:
        lines += ["# first, to make the tokens or find them as they should be:", shlex.join(plan.prepare), ""]
    settings = [f"{name}={shlex.quote(value)}" for name, value in sorted(plan.environment.items())]
    port = plan.rendezvous.port or "free"
    ranks = f"{count_of(plan.processes, 'rank')} here, of {plan.world_size}"
    command = " \\\n  ".join([*settings, shlex.join(plan.argv)])
    return "\n".join([*lines, f"# {ranks}; port: {port}", command, ""])
