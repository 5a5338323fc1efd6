"""What SLURM 22.05 printed, read back; the texts were captured from a cluster, with ¦ and § for the ends."""

from __future__ import annotations

import time

import pytest

from qad_core.slurm.errors import AccountingUnavailable, SlurmUnavailable
from qad_core.slurm.hostlist import expand_hosts
from qad_core.slurm.job_details import parse_job_details
from qad_core.slurm.partitions import parse_partitions
from qad_core.slurm.records import QueueEntry, parse_accounting, parse_queue, parse_submissions
from qad_core.slurm.values import exit_status, gpus_of_node, gpus_of_request, seconds_of_duration

QUEUE = """\
66¦CANCELLED¦None¦gpu¦demo¦root¦1795580720¦1795580721¦1795580742¦1-06:00:00¦0:21¦4¦4¦node[1-4]¦(null)¦15¦cpu=64,mem=32G,node=4,billing=64,gres/gpu=32¦N/A¦gres:gpu:8¦N/A¦3964¦0¦(null)¦big§
60¦FAILED¦NonZeroExitCode¦gpu¦demo¦root¦1795580720¦1795580742¦1795580742¦1:00:00¦0:00¦1¦1¦node1¦(null)¦768¦cpu=1,mem=512M,node=1,billing=1¦N/A¦N/A¦N/A¦3566¦0¦(null)¦k.sh§
62¦FAILED¦JobLaunchFailure¦gpu¦demo¦root¦1795580720¦1795580742¦1795580742¦1:00:00¦0:00¦1¦1¦node1¦(null)¦4021¦cpu=1,mem=512M,node=1,billing=1¦N/A¦N/A¦N/A¦3566¦0¦(null)¦k.sh§
63_1¦PENDING¦JobArrayTaskLimit¦gpu¦demo¦root¦1795580720¦N/A¦N/A¦1:00:00¦0:00¦1¦1¦¦(null)¦0¦cpu=1,mem=512M,node=1,billing=1¦N/A¦N/A¦N/A¦3566¦0¦(null)¦j.sh§
65¦PENDING¦DependencyNeverSatisfied¦gpu¦demo¦root¦1795580720¦N/A¦N/A¦1:00:00¦0:00¦1¦1¦¦afterok:64(failed)¦0¦cpu=1,mem=512M,node=1,billing=1¦N/A¦N/A¦N/A¦3566¦0¦(null)¦j.sh§
36¦PENDING¦Nodes required for job are DOWN, DRAINED or reserved for jobs in higher priority partitions¦gpu¦demo¦root¦1795580720¦1795688721¦1795692321¦UNLIMITED¦0:00¦4¦4¦¦(null)¦0¦cpu=4,mem=2G,node=4,billing=4¦N/A¦N/A¦N/A¦3566¦0¦(null)¦j.sh§
59¦RUNNING¦None¦gpu¦demo¦root¦1795580720¦1795580742¦1795584342¦1:00:00¦0:08¦2¦2¦node[1-2]¦(null)¦0¦cpu=2,mem=1G,node=2,billing=2,gres/gpu=4¦N/A¦gres:gpu:2¦N/A¦3698¦0¦qad:4f1c | wor=ld "x"¦two
lines | x¦y§
"""  # noqa: E501
ACCOUNTING = """\
52¦REQUEUED¦0:0¦1795580628¦1795580628¦1795580631¦3¦60¦node1¦None
52¦CANCELLED by 0¦0:0¦1795580631¦1795580632¦1795580632¦0¦60¦None assigned¦BeginTime
59¦RUNNING¦0:0¦1795580720¦1795580742¦Unknown¦8¦60¦node[1-2]¦None
60¦FAILED¦3:0¦1795580720¦1795580742¦1795580742¦0¦60¦node1¦None
61¦FAILED¦0:9¦1795580720¦1795580742¦1795580742¦0¦60¦node1¦None
7_[2-5%2]¦PENDING¦0:0¦1795578753¦Unknown¦Unknown¦0¦60¦None assigned¦JobArrayTaskLimit
"""
PARTITIONS = """\
gpu*¦up¦2-00:00:00¦drained¦1¦gpu:h100:8¦gpu:h100:0(IDX:N/A)¦
gpu*¦up¦2-00:00:00¦mixed¦1¦gpu:h100:8¦gpu:h100:2(IDX:0-1)¦
gpu*¦up¦2-00:00:00¦idle*¦1¦gpu:h100:8¦gpu:h100:0(IDX:N/A)¦
gpu*¦up¦2-00:00:00¦idle¦2¦gpu:h100:8¦gpu:h100:0(IDX:N/A)¦
cpu¦up¦infinite¦allocated¦1¦(null)¦gpu:0¦
drain¦drain¦1:00:00¦idle¦1¦gpu:h100:8¦gpu:h100:0(IDX:N/A)¦
"""
DETAILS = """\
JobId=15 ArrayJobId=15 ArrayTaskId=2-3%1 ArrayTaskThrottle=1 JobName=a JobState=COMPLETED b
   UserId=root(0) GroupId=root(0) MCS_label=N/A
   JobState=PENDING Reason=Nodes_required_for_job_are_DOWN,_DRAINED_or_reserved Dependency=(null)
   ReqNodeList=(null) ExcNodeList=(null)
   NodeList= NumNodes=1 NumCPUs=1 NumTasks=1 CPUs/Task=1 ReqB:S:C:T=0:0:*:*
   TRES=cpu=2,mem=1G,node=2,billing=2,gres/gpu=4
   Comment=hello | wor=ld "x" 
   StdErr=/shared/my logs/15.log
   Power=

JobId=16 ArrayJobId=15 JobName=other
   JobState=RUNNING
"""


def as_printed(text: str) -> str:
    return text.replace("¦", "\x1f").replace("§", "\x1e")


def queue() -> dict[str, QueueEntry]:
    return {entry.job_id: entry for entry in parse_queue(as_printed(QUEUE))}


def test_a_running_job_is_read_whole() -> None:
    assert queue()["59"] == QueueEntry(
        job_id="59",
        state="RUNNING",
        reason="",
        partition="gpu",
        account="demo",
        user="root",
        submit_time=1795580720.0,
        start_time=1795580742.0,
        end_time=1795584342.0,
        time_limit_seconds=3600,
        elapsed_seconds=8,
        num_nodes=2,
        node_list="node[1-2]",
        dependency="",
        exit_code=None,
        signal=None,
        gpus=4,
        priority=3698,
        restarts=0,
        comment='qad:4f1c | wor=ld "x"',
        name="two\nlines | x\x1fy",
    )


def test_what_a_waiting_job_does_not_have_yet_is_none() -> None:
    waiting = queue()["36"]
    assert waiting.reason.startswith("Nodes required for job are DOWN, DRAINED or reserved")
    assert (waiting.start_time, waiting.time_limit_seconds, waiting.exit_code) == (1795688721.0, None, None)
    assert queue()["65"].start_time is None
    assert queue()["65"].dependency == "afterok:64(failed)"


def test_the_wait_status_of_an_ended_job_is_its_exit_code_or_its_signal() -> None:
    endings = {job: (entry.exit_code, entry.signal) for job, entry in queue().items() if entry.exit_code is not None}
    assert endings == {"66": (0, 15), "60": (3, None), "62": (0, 53)}
    assert exit_status("3:0") == (3, None)  # 23.02 on
    assert exit_status("0:9") == (0, 9)


def test_tasks_of_an_array_are_jobs_of_their_own() -> None:
    assert queue()["63_1"].reason == "JobArrayTaskLimit"


def test_an_answer_to_something_else_is_not_an_empty_queue() -> None:
    with pytest.raises(SlurmUnavailable, match="JOBID PARTITION"):
        parse_queue("JOBID PARTITION NAME\n")
    with pytest.raises(AccountingUnavailable):
        parse_accounting("JobID|State\n")
    with pytest.raises(SlurmUnavailable):
        parse_partitions("PARTITION AVAIL\n")
    assert parse_queue("") == []


def test_accounts_tell_every_start_who_cancelled_and_how_it_ended() -> None:
    first, second, running, failed, killed, waiting = parse_accounting(as_printed(ACCOUNTING))
    assert (first.state, first.elapsed_seconds, first.node_list) == ("REQUEUED", 3, "node1")
    assert (second.state, second.cancelled_by, second.node_list, second.reason) == ("CANCELLED", "0", "", "BeginTime")
    assert (running.end_time, running.exit_code, running.time_limit_seconds) == (None, None, 3600)
    assert (failed.exit_code, failed.signal) == (3, None)
    assert (killed.exit_code, killed.signal) == (0, 9)
    assert waiting.job_id == "7_[2-5%2]"


def test_a_submission_is_found_by_its_command_where_comments_are_not_kept() -> None:
    lines = as_printed("12¦¦sbatch --parsable --comment=qad:1 a.sh\n13¦qad:2¦sbatch --wrap one\ntwo\n")
    assert list(parse_submissions(lines)) == [
        ("12", "", "sbatch --parsable --comment=qad:1 a.sh"),
        ("13", "qad:2", "sbatch --wrap one"),
    ]


def test_a_partition_adds_up_its_nodes_and_free_gpus() -> None:
    gpu, cpu, drain = parse_partitions(as_printed(PARTITIONS))
    assert (gpu.name, gpu.default, gpu.time_limit_seconds) == ("gpu", True, 172800)
    assert (gpu.nodes, gpu.nodes_idle, gpu.nodes_allocated, gpu.nodes_unavailable) == (5, 2, 1, 2)
    assert (gpu.gpus, gpu.gpus_free) == (40, 22)
    assert (cpu.time_limit_seconds, cpu.gpus, cpu.default) == (None, 0, False)
    assert (drain.availability, drain.gpus_free) == ("drain", 8)


def test_a_name_cannot_pass_for_a_field_of_its_job() -> None:
    fields = parse_job_details(DETAILS)
    assert fields["JobState"] == "PENDING"
    assert fields["JobName"] == "a JobState=COMPLETED b"
    assert fields["Comment"] == 'hello | wor=ld "x"'
    assert fields["StdErr"] == "/shared/my logs/15.log"
    assert fields["TRES"] == "cpu=2,mem=1G,node=2,billing=2,gres/gpu=4"
    assert fields["ReqB:S:C:T"] == "0:0:*:*"


@pytest.mark.parametrize(
    ("text", "gpus"),
    [
        ("cpu=2,mem=1G,node=2,billing=2,gres/gpu=4", 4),
        ("gres/gpu=4,gres/gpu:a100=1,gres/gpu:h100=3", 4),
        ("gres/gpu:a100=1,gres/gpu:h100=3", 4),
        ("gres:gpu:h100:3", 3),
        ("gres/gpu:2", 2),
        ("gres:gpu", 1),
        ("gres/gpu:3g.20gb=2", 2),
        ("gres/gpumem=40G,cpu=1", 0),
        ("N/A", 0),
    ],
)
def test_gpus_are_counted_in_every_way_of_writing_them(text: str, gpus: int) -> None:
    assert gpus_of_request(text) == gpus


def test_gpus_of_a_node_are_counted_without_their_places() -> None:
    assert gpus_of_node("gpu:h100:8(S:0-1),gpu:2,shard:16") == 10
    assert gpus_of_node("gpu:h100:3(IDX:0,2,5-6),mps:0") == 3
    assert gpus_of_node("(null)") == 0


def test_durations_have_seconds_or_no_end() -> None:
    texts = ("0:04", "12:03", "1:02:03", "2-00:00:00", "UNLIMITED", "INVALID", "infinite", "Partition_Limit")
    assert [seconds_of_duration(text) for text in texts] == [4, 723, 3723, 172800, None, None, None, None]


def test_host_lists_expand_as_scontrol_does() -> None:
    assert expand_hosts("node[1-3,7],gpu[08-10]-ib0") == [
        "node1", "node2", "node3", "node7", "gpu08-ib0", "gpu09-ib0", "gpu10-ib0",
    ]  # fmt: skip
    assert expand_hosts("r[0-1]n[1-2]") == ["r0n1", "r0n2", "r1n1", "r1n2"]
    assert expand_hosts("login") == ["login"]
    assert expand_hosts("") == []
    for wrong in ("node[1-3", "node[a-b]"):
        with pytest.raises(ValueError, match="hosts"):
            expand_hosts(wrong)


def test_ten_thousand_jobs_are_read_in_a_tenth_of_a_second() -> None:
    kinds = as_printed(QUEUE).split("\x1e\n")[:-1]
    lines = [
        kinds[number % len(kinds)].replace("1795580742", str(1795580742 + number)).replace("0:08", f"{number % 60}:08")
        for number in range(10_000)
    ]
    text = "\x1e\n".join(lines) + "\x1e\n"
    assert len(parse_queue(text)) == 10_000
    assert min(cpu_seconds_of_parsing(text) for _ in range(3)) < 0.1


def cpu_seconds_of_parsing(text: str) -> float:
    began = time.process_time()
    parse_queue(text)
    return time.process_time() - began
