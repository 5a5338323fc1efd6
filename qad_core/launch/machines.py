"""What several machines add to a start: the others wait for machine 0 and join it, and all keep in step.

In a job they tell each other through `peers.py`. Started by hand they have no such channel: there the meeting
point alone tells that machine 0 is ready.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from qad_core.errors import ExitCode, OutsideError
from qad_core.launch.peers import NodeEnd, Peers
from qad_core.launch.plan import LaunchPlan
from qad_core.launch.ports import PortTakenError, choose_port, wait_for_port
from qad_core.launch.processes import ProcessGroup, caught_signals, exit_code_of, start_processes, wait_for
from qad_core.launch.ranks import Ending, failure_words, output_path, rank_processes

MEETING_SECONDS = 24 * 3600.0
"""Machine 0 may have weights to convert and tokens to make first; in a job its end is heard of long before."""
POLL_SECONDS = 0.5


def open_meeting(plan: LaunchPlan, peers: Peers | None) -> int:
    """On machine 0: choose the port that the ranks meet at, and tell the other nodes of the job.

    Raises RunError when the port is taken or not allowed; in a job a taken one is an OutsideError, since the next
    job has another.
    """
    if peers is None:
        return choose_port(plan.rendezvous.port)
    try:
        port = choose_port(plan.rendezvous.port, spare=plan.rendezvous.spare_ports)
    except PortTakenError as error:
        raise OutsideError(error.message, error.hint) from error
    peers.write_port(port)
    return port


def join_first_machine(plan: LaunchPlan, peers: Peers | None, each_poll: Callable[[], None]) -> Ending:
    """On machine 1 and up: the folder and the tokens are machine 0's work, so start the ranks once it listens.

    Raises OutsideError when machine 0 does not start, or does not listen within a day.
    """
    stamp = f"{time.strftime('%Y-%m-%d_%H-%M-%S')}_node{plan.rendezvous.node_rank}"
    output = output_path(plan.run_folder, stamp, 0)
    with caught_signals() as received:
        port = _find_meeting(plan, peers, received)
        if received:
            return Ending(ExitCode.STOPPED_EARLY, output)
        if isinstance(port, NodeEnd):
            return Ending(port.exit_code, output, port.error, port.hint)
        group = start_processes(rank_processes(plan, port, stamp))
        code = wait_for(group, received, each_poll, in_step_with(peers, plan, stamp))
    if group.first_failure is None or group.died_of_sent_signal():
        return Ending(code, output)
    output = output_path(plan.run_folder, stamp, group.first_failure[0])
    error, hint = failure_words(plan, group.first_failure, output)
    return Ending(code, output, error, hint)


def in_step_with(peers: Peers | None, plan: LaunchPlan, stamp: str) -> Callable[[ProcessGroup], None]:
    """Tell the other nodes of a failure here as soon as it is seen, and end the ranks here after one of theirs."""

    def keep_in_step(group: ProcessGroup) -> None:
        if peers is None or group.died_of_sent_signal():
            return
        if group.first_failure is None:
            end_with_others(peers, group)
            return
        local_rank, return_code = group.first_failure
        error, hint = failure_words(plan, group.first_failure, output_path(plan.run_folder, stamp, local_rank))
        end = NodeEnd(
            node_rank=plan.rendezvous.node_rank,
            exit_code=exit_code_of(return_code),
            killed=return_code < 0 and not group.killed_by_us,
            time=time.time(),
            error=error,
            hint=hint,
        )
        peers.report(end)

    return keep_in_step


def end_with_others(peers: Peers | None, group: ProcessGroup) -> None:
    """End the processes here soon when another node has failed; the first node also misses those that never came."""
    if peers is None:
        return
    if peers.node_rank == 0:
        peers.report_absent()
    if peers.cause() is not None:
        group.end_soon()


def _find_meeting(plan: LaunchPlan, peers: Peers | None, received: list[int]) -> int | NodeEnd:
    """The port, once machine 0 listens there, a signal has come, or the word of a node that ended before."""
    meeting = plan.rendezvous
    print(f"machine {meeting.node_rank} waits for machine 0 ({meeting.address}) to be ready", flush=True)

    def ended() -> NodeEnd | None:
        return None if peers is None else peers.first_node_ended() or peers.cause()

    def give_up() -> bool:
        return bool(received) or ended() is not None

    port = meeting.port if peers is None else _hear_port(peers, give_up)
    wait_for_port(meeting.address, port, seconds=MEETING_SECONDS, give_up=give_up)
    return ended() or port


def _hear_port(peers: Peers, give_up: Callable[[], bool]) -> int:
    """The port that the first node names, or 0 when `give_up` says so before."""
    deadline = time.monotonic() + MEETING_SECONDS
    while not give_up():
        port = peers.port()
        if port is not None:
            return port
        if peers.is_overdue(0):
            raise peers.absence(0)
        if time.monotonic() > deadline:
            raise OutsideError(f"Node 0 ({peers.nodes[0]}) has named no port in a day.", "Its log says what it does.")
        time.sleep(POLL_SECONDS)
    return 0
