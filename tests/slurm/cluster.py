"""A SLURM cluster of virtual nodes that lives no longer than the process that started it.

The work is done by slurm-dev-cluster.sh; here are its place, its ports, and its end. A guard, a process of its
own, waits for a lock that the kernel frees when this process ends in any way, and then takes the cluster down.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Literal

SCRIPT = Path(__file__).with_name("slurm-dev-cluster.sh")
ROOT = Path("/tmp")
"""Where clusters live: a socket's path has room for 107 bytes, and pytest's own folders are longer."""
PREFIX = "qad-slurm-"
PORTS = range(20_000, 26_000, 50)
"""First ports of the blocks to choose from: below those that the kernel gives to clients."""
RESERVED_PORT = 9
"""The port of a block that no daemon takes: bound here, it keeps the block from everyone else."""


@dataclass
class SlurmCluster:
    """A running cluster; `down` ends it, and so does the end of this process."""

    directory: Path
    """Its configuration, logs and state."""
    owner: IO[str]
    """The locked file that says that this process lives."""
    ports: socket.socket
    """Keeps the block of ports."""
    guard: subprocess.Popen[bytes]
    """Takes the cluster down once the lock is free."""

    @classmethod
    def start(
        cls,
        directory: Path,
        *,
        nodes: int = 4,
        accounting: Literal["dbd", "filetxt", "none"] = "dbd",
        cpus: int = 16,
        gpus: int = 8,
        kill_invalid_depend: bool = False,
        kill_wait_seconds: int = 15,
        extra_conf: str = "",
    ) -> SlurmCluster:
        """Start a cluster in the directory, best one of `make_directory`, and wait until its nodes are idle.

        CPUs and GPUs are what each node claims to have; `extra_conf` goes to the end of slurm.conf. Raises
        RuntimeError with what the script said, such as how to install SLURM where it is not.
        """
        settings = {
            "NODES": nodes,
            "ACCOUNTING": accounting,
            "CPUS": cpus,
            "GPUS": gpus,
            "KILL_INVALID_DEPEND": int(kill_invalid_depend),
            "KILL_WAIT": kill_wait_seconds,
            "EXTRA_CONF": extra_conf,
        }
        port_base, ports = _reserve_ports(1 + RESERVED_PORT + 1 + nodes)
        cluster = cls(directory, _hold_lock(directory), ports, _start_guard(directory))
        try:
            cluster._script("up", SLURM_DEV_PORT_BASE=port_base, **{f"SLURM_DEV_{k}": v for k, v in settings.items()})
        except BaseException:
            cluster.down()
            raise
        return cluster

    @property
    def environ(self) -> dict[str, str]:
        """What SLURM's commands need over this process's environment."""
        return {
            "SLURM_CONF": str(self.directory / "etc/slurm.conf"),
            "MUNGE_SOCKET": str(self.directory / "run/munge/munge.socket.2"),
            "SLURM_DEV_DIR": str(self.directory),
        }

    def run(self, argv: Sequence[str | Path], timeout_seconds: float = 120) -> subprocess.CompletedProcess[str]:
        """Run a command as a user of the cluster; its exit code is the caller's to judge."""
        environ = _outer_environ() | self.environ
        return subprocess.run(argv, env=environ, capture_output=True, text=True, timeout=timeout_seconds)

    def stop(self, part: str) -> None:
        """Stop a daemon: munged, mariadbd, slurmdbd, slurmctld, node1, node2, ...; a node's jobs go on."""
        self._script("stop", part)

    def start_part(self, part: str) -> None:
        """Start a daemon that was stopped or has crashed."""
        self._script("start", part)

    def crash(self, node: str) -> None:
        """Kill a node with its jobs; SLURM knows at once."""
        self._script("crash", node)

    def pause(self, part: str) -> None:
        """Make a daemon hang."""
        self._script("pause", part)

    def resume(self, part: str) -> None:
        """Let a daemon that hangs go on."""
        self._script("resume", part)

    def restore(self) -> None:
        """End every job, undo what was stopped, paused and crashed, and wait until all nodes are idle."""
        self._script("restore")

    def down(self) -> None:
        """End the cluster and remove its directory; every process of it is gone afterwards."""
        self.owner.close()
        self.ports.close()
        if self.guard.wait(timeout=180) != 0:
            self._script("down", "--purge")

    def _script(self, *arguments: str, **settings: object) -> None:
        _run_script(self.directory, *arguments, **settings)


def make_directory() -> Path:
    """A new directory for a cluster, open to the users that its daemons and jobs run as."""
    directory = Path(tempfile.mkdtemp(prefix=PREFIX, dir=ROOT))
    directory.chmod(0o755)
    return directory


def remove_stale_clusters() -> None:
    """Take down the clusters whose processes have died together with their guards."""
    for lock in ROOT.glob(f"{PREFIX}*/owner"):
        if lock.stat().st_uid == os.getuid() and _is_free(lock):
            _run_script(lock.parent, "down", "--purge")


def _run_script(directory: Path, *arguments: str, **settings: object) -> None:
    done = subprocess.run(
        [SCRIPT, *arguments], env=_script_environ(directory, settings), stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True, timeout=300,
    )  # fmt: skip
    if done.returncode != 0:
        raise RuntimeError(f"{SCRIPT.name} {' '.join(arguments)} failed in {directory}:\n{done.stdout}")


def _script_environ(directory: Path, settings: Mapping[str, object]) -> dict[str, str]:
    return _outer_environ() | {"SLURM_DEV_DIR": str(directory)} | {name: str(value) for name, value in settings.items()}


def _outer_environ() -> dict[str, str]:
    """Without what another SLURM has set, should the tests run in a job."""
    return {name: value for name, value in os.environ.items() if not name.startswith("SLURM_")}


def _hold_lock(directory: Path) -> IO[str]:
    """Lock the directory's owner file for the life of this process; no child inherits it."""
    unseen = directory / f"owner.{os.getpid()}"
    owner = unseen.open("w")
    fcntl.flock(owner, fcntl.LOCK_EX)
    unseen.rename(directory / "owner")
    return owner


def _is_free(lock: Path) -> bool:
    with contextlib.suppress(FileNotFoundError, BlockingIOError), lock.open() as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    return False


def _start_guard(directory: Path) -> subprocess.Popen[bytes]:
    """In a session of its own: Ctrl-C reaches this process, not the guard."""
    return subprocess.Popen(
        ["flock", str(directory / "owner"), SCRIPT, "down", "--purge"], env=_script_environ(directory, {}),
        start_new_session=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip


def _reserve_ports(count: int) -> tuple[int, socket.socket]:
    """The first port of a free block, and the socket that keeps it so for those who choose in this way."""
    for base in PORTS:
        with contextlib.suppress(OSError):
            reserved = _bind(base + RESERVED_PORT)
            try:
                for port in set(range(base, base + count)) - {base + RESERVED_PORT}:
                    _bind(port).close()
            except OSError:
                reserved.close()
                raise
            return base, reserved
    raise RuntimeError(f"No {count} free ports in a row between {PORTS.start} and {PORTS.stop}.")


def _bind(port: int) -> socket.socket:
    bound = socket.socket()
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(("127.0.0.1", port))
        # Without listening, SO_REUSEADDR would let a second process bind the same port.
        bound.listen(1)
    except OSError:
        bound.close()
        raise
    return bound
