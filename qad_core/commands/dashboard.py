"""`qad_core dashboard`: TensorBoard over runs, in the foreground and for this machine alone."""

from __future__ import annotations

import errno
import getpass
import os
import shutil
import socket
import sys
import tempfile
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path

from qad_core.commands.output import console
from qad_core.commands.runs import run_roots
from qad_core.errors import ExitCode, OutsideError, RunError
from qad_core.launch.processes import ProcessPlan, caught_signals, start_processes, wait_for
from qad_core.launch.ranks import output_tail
from qad_core.run.folder import RunFolder
from qad_core.run.run_paths import is_run_folder, resolve_run
from qad_core.seen import is_folder

HOST = "127.0.0.1"
FIRST_PORT = 6006
"""TensorBoard's own."""
PORTS_TRIED = 50


def show_dashboard(names: Sequence[str], roots: Sequence[Path], *, port: int | None) -> ExitCode:
    """Run TensorBoard over the named runs or folders of runs, else over the roots, until it is told to end.

    Without `port` the first free one from 6006 on is taken. Raises RunError for a name that is no run's and for a
    port that is taken, OutsideError where TensorBoard is missing or has failed.
    """
    places = find_places(names, run_roots(roots))
    if find_spec("tensorboard") is None:
        raise OutsideError(
            "TensorBoard is not installed.",
            "Run: pip install 'qad[train]', or pip install tensorboard beside this Python.",
        )
    port = choose_port(port)
    folder = Path(tempfile.mkdtemp(prefix="qad-dashboard-"))
    try:
        return _serve(_one_folder(places, folder / "runs"), port, folder / "tensorboard.out")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def find_places(names: Sequence[str], roots: Sequence[Path]) -> dict[str, Path]:
    """Name to show -> folder with event files, of the runs named; a folder that is no run is one with runs below it.

    Without names, the roots. Raises RunError for a name that is neither, and for roots that are not there.
    """
    places: dict[str, Path] = {}
    for name in names:
        is_root = is_folder(Path(name)) and not is_run_folder(Path(name))
        path = Path(name) if is_root else resolve_run(name, roots)
        places[_new_name(path.resolve().name, places)] = path if is_root else RunFolder(path).event_files
    for root in roots if not names else ():
        if is_folder(root):
            places[_new_name(root.resolve().name, places)] = root
    if not places:
        raise RunError(f"There is no folder of runs at {', '.join(map(str, roots))}.", "Name one with --root.")
    return places


def choose_port(port: int | None) -> int:
    """The port asked for, or the first free one; raises RunError where it cannot be had or none is free."""
    if port is not None:
        if (why := _refusal(port)) is not None:
            words = "is taken" if why == errno.EADDRINUSE else f"cannot be used: {os.strerror(why)}"
            raise RunError(f"Port {port} {words}.", "Name another, or leave --port out for the next free one.")
        return port
    tried = range(FIRST_PORT, FIRST_PORT + PORTS_TRIED)
    free = next((number for number in tried if _refusal(number) is None), None)
    if free is None:
        raise RunError(f"The ports {tried[0]} to {tried[-1]} are all taken.", "Name a free one with --port.")
    return free


def tunnel_command(port: int, environ: Mapping[str, str]) -> str:
    """What to run on one's own machine to see a port of this one; empty where nobody came here by ssh."""
    if not environ.get("SSH_CONNECTION"):
        return ""
    return f"ssh -N -L {port}:{HOST}:{port} {getpass.getuser()}@{socket.gethostname()}"


def _serve(logdir: Path, port: int, output: Path) -> ExitCode:
    argv = (
        sys.executable, "-m", "tensorboard.main", "--logdir", str(logdir), "--host", HOST, "--port", str(port),
    )  # fmt: skip
    told = False

    def tell_once() -> None:
        nonlocal told
        if not told and _refusal(port) is not None:
            told = True
            _tell(port)

    with caught_signals() as received:
        group = start_processes([ProcessPlan(argv, dict(os.environ), output)])
        wait_for(group, received, tell_once)
    if group.sent:
        return ExitCode.DONE
    raise OutsideError(f"TensorBoard has ended: {output_tail(output) or 'it said nothing'}", "Start it again.")


def _tell(port: int) -> None:
    out = console()
    out.print(f"TensorBoard: http://{HOST}:{port}/", markup=False, soft_wrap=True)
    if tunnel := tunnel_command(port, os.environ):
        out.print(f"On your own machine: {tunnel}", markup=False, soft_wrap=True)
    out.print("Ctrl-C ends it.", markup=False)


def _one_folder(places: Mapping[str, Path], folder: Path) -> Path:
    """A folder with all places below it, by their names: the only place itself, else one with links to them."""
    if len(places) == 1:
        return next(iter(places.values())).absolute()
    folder.mkdir()
    for name, path in places.items():
        (folder / name).symlink_to(path.absolute())
    return folder


def _new_name(name: str, taken: Mapping[str, Path]) -> str:
    """The name, with a number behind it where it is taken."""
    name = name or "runs"
    return next(new for new in (name, *(f"{name}-{number}" for number in range(2, 10_000))) if new not in taken)


def _refusal(port: int) -> int | None:
    """The number of the error with which the system refuses a port; None where it is free."""
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((HOST, port))
        except OSError as error:
            return error.errno
        return None
