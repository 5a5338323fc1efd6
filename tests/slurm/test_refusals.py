"""What SLURM 22.05 said when it failed, and what is made of it; every text was captured from a cluster."""

from __future__ import annotations

import pytest

from qad_core.errors import ExitCode
from qad_core.slurm.environment import command_environment
from qad_core.slurm.errors import AccountingUnavailable, SlurmMissing, SlurmRefused, SlurmUnavailable
from qad_core.slurm.failures import (
    accounting_failure,
    action_failure,
    is_no_answer,
    question_failure,
    submission_failure,
)

FAILED = "sbatch: error: Batch job submission failed: "
POLICY = f"{FAILED}Job violates accounting/QOS policy (job submit limit, user's size and/or time limits)\n"
NODES = f"{FAILED}Requested node configuration is not available\n"
MUNGE = """\
{0}: error: If munged is up, restart with --num-threads=10
{0}: error: Munge encode failed: Failed to access "/run/munge/munge.socket.2": No such file or directory (Did you start munged?)
{0}: error: slurm_send_node_msg: auth_g_create: REQUEST_JOB_INFO has authentication error
"""  # noqa: E501


@pytest.mark.parametrize(
    ("stderr", "key", "said"),
    [
        (f"sbatch: error: invalid partition specified: nope\n{FAILED}Invalid partition name specified\n",
         "cluster.slurm.partition", "invalid partition specified: nope; Invalid partition name specified"),
        (f"{FAILED}Required partition not available (inactive or drain)\n",
         "cluster.slurm.partition", "Required partition not available (inactive or drain)"),
        (f"{FAILED}Invalid account or account/partition combination specified\n",
         "cluster.slurm.account", "Invalid account or account/partition combination specified"),
        (f"{FAILED}Invalid qos specification\n", "cluster.slurm.qos", "Invalid qos specification"),
        (f"{FAILED}Job dependency problem\n", "", "Job dependency problem"),
        (NODES, "cluster.slurm.gpus_per_node", "Requested node configuration is not available"),
        ("sbatch: error: Invalid generic resource (gres) specification\n",
         "cluster.slurm.gpus_per_node", "Invalid generic resource (gres) specification"),
        (f"sbatch: error: CPU count per node can not be satisfied\n{NODES}",
         "cluster.slurm.cpus_per_task",
         "CPU count per node can not be satisfied; Requested node configuration is not available"),
        (f"sbatch: error: Memory specification can not be satisfied\n{NODES}",
         "cluster.slurm.memory",
         "Memory specification can not be satisfied; Requested node configuration is not available"),
        (f"{FAILED}Invalid node name specified\n", "cluster.slurm.extra_options", "Invalid node name specified"),
        (f"{FAILED}Invalid feature specification\n", "cluster.slurm.extra_options", "Invalid feature specification"),
        (f"{FAILED}Requested reservation is invalid\n",
         "cluster.slurm.extra_options", "Requested reservation is invalid"),
        ("sbatch: unrecognized option '--bogus'\nTry \"sbatch --help\" for more information\n",
         "cluster.slurm.extra_options", "unrecognized option '--bogus'"),
        (f"{FAILED}Requested time limit is invalid (missing or exceeds some limit)\n",
         "cluster.slurm.time_limit", "Requested time limit is invalid (missing or exceeds some limit)"),
        ("sbatch: error: Invalid --time specification\n", "cluster.slurm.time_limit", "Invalid --time specification"),
        (f"{FAILED}Node count specification invalid\n", "cluster.nodes", "Node count specification invalid"),
        (f"sbatch: error: QOSMaxWallDurationPerJobLimit\n{POLICY}", "cluster.slurm.time_limit", None),
        (f"sbatch: error: QOSGrpGRES\n{POLICY}", "cluster.slurm.gpus_per_node", None),
        (f"sbatch: error: QOSMaxSubmitJobPerUserLimit\n{POLICY}", "", None),
        ("allocation failure: Invalid partition name specified\n",
         "cluster.slurm.partition", "Invalid partition name specified"),
        ("sbatch: error: Batch script is empty!\n", "", "Batch script is empty!"),
    ],
)  # fmt: skip
def test_a_refusal_names_the_config_key_and_what_slurm_said(stderr: str, key: str, said: str | None) -> None:
    failure = submission_failure(stderr)
    assert isinstance(failure, SlurmRefused)
    assert failure.exit_code == ExitCode.USER_ERROR
    assert failure.key == key
    assert failure.hint
    assert failure.said == said or said is None
    assert failure.message == f"SLURM refused the job: {failure.said}."


def test_a_refusal_of_the_sites_own_is_shown_as_it_is() -> None:
    failure = submission_failure(
        "sbatch: error: Please bring your own coffee\nsbatch: error: Batch job submission failed: Unspecified error\n"
    )
    assert isinstance(failure, SlurmRefused)
    assert (failure.key, failure.said) == ("", "Please bring your own coffee; Unspecified error")


@pytest.mark.parametrize(
    ("stderr", "said"),
    [
        (f"{FAILED}Unable to contact slurm controller (connect failure)\n",
         "Unable to contact slurm controller (connect failure)"),
        (f"{FAILED}Socket timed out on send/recv operation\n", "Socket timed out on send/recv operation"),
        (MUNGE.format("sbatch") + f"{FAILED}Protocol authentication error\n", "Munge encode failed: Failed to access"),
    ],
)  # fmt: skip
def test_a_controller_that_does_not_answer_has_refused_nothing(stderr: str, said: str) -> None:
    for failure in (submission_failure(stderr), action_failure("hold job 1", stderr), question_failure(stderr)):
        assert isinstance(failure, SlurmUnavailable)
        assert failure.exit_code == ExitCode.OUTSIDE_FAILED
        assert failure.message.startswith(f"The SLURM controller does not answer: {said}")


def test_hold_has_its_own_words_for_a_controller_that_is_down() -> None:
    stderr = "Unexpected message received for job 1\nslurm_suspend error: Unexpected message received\n"
    assert isinstance(action_failure("hold job 1", stderr), SlurmUnavailable)


@pytest.mark.parametrize(
    ("stderr", "message", "hint"),
    [
        ("scancel: error: Kill job error on job id 32: Access/permission denied\n",
         "SLURM refused to change it: Kill job error on job id 32: Access/permission denied.", "someone else"),
        ("Invalid user id for job 37\nslurm_suspend error: Invalid user id\n",
         "SLURM refused to change it: Invalid user id for job 37.", "someone else"),
        ("Invalid job id specified for job 999\n",
         "SLURM refused to change it: Invalid job id specified for job 999.", "does not know"),
        ("Job has already finished for job 2\nslurm_suspend error: Job has already finished\n",
         "SLURM refused to change it: Job has already finished for job 2.", "has ended"),
        ("Job is pending execution for job 12\n",
         "SLURM refused to change it: Job is pending execution for job 12.", "waits already"),
    ],
)  # fmt: skip
def test_a_job_that_cannot_be_changed_is_named_with_the_reason(stderr: str, message: str, hint: str) -> None:
    failure = action_failure("change it", stderr)
    assert isinstance(failure, SlurmRefused)
    assert failure.message == message
    assert hint in failure.hint


def test_accounts_that_are_off_are_told_from_accounts_that_are_down() -> None:
    off = accounting_failure("Slurm accounting storage is disabled\n")
    down = accounting_failure(
        "sacct: error: slurm_persist_conn_open_without_init: failed to open persistent connection to "
        "host:127.0.0.1:27801: Connection refused\n"
        "sacct: error: Sending PersistInit msg: Connection refused\n"
        "sacct: error: Problem talking to the database: Connection refused\n"
    )
    assert isinstance(off, AccountingUnavailable) and off.disabled
    assert isinstance(down, AccountingUnavailable) and not down.disabled
    assert down.message == "SLURM's accounts do not answer: Problem talking to the database: Connection refused."


def test_a_machine_without_configuration_is_not_a_controller_that_is_down() -> None:
    stderr = "squeue: error: fetch_config: DNS SRV lookup failed\n"
    stderr += "squeue: fatal: Could not establish a configuration source\n"
    for failure in (question_failure(stderr), submission_failure(stderr), accounting_failure(stderr)):
        assert isinstance(failure, SlurmMissing)


def test_an_empty_answer_with_exit_code_0_may_be_none() -> None:
    assert is_no_answer("squeue: error: Invalid job format specification: Bogus\n")
    assert is_no_answer("squeue: error: Invalid user: nosuchuser\n")
    assert not is_no_answer("squeue: error: Parsing error at unrecognized key: Bogus\n")
    assert isinstance(question_failure("squeue: error: Invalid user: nosuchuser\n"), SlurmRefused)


def test_options_from_variables_and_the_allocation_around_us_do_not_reach_a_command() -> None:
    around = {
        "PATH": "/bin", "HF_TOKEN": "secret", "SLURM_CONF": "/etc/slurm.conf", "SLURM_JWT": "token", "LC_ALL": "de_DE",
        "SQUEUE_FORMAT": "%i", "SQUEUE_STATES": "PD", "SACCT_FORMAT": "jobid", "SINFO_FORMAT": "%N",
        "SBATCH_PARTITION": "x",
        "SCANCEL_INTERACTIVE": "1", "SLURM_TIME_FORMAT": "relative", "SLURM_CLUSTERS": "other", "SLURM_JOB_ID": "7",
        "SLURM_MEM_PER_NODE": "1", "SLURMD_NODENAME": "node1",
    }  # fmt: skip
    assert command_environment(around) == {
        "PATH": "/bin", "HF_TOKEN": "secret", "SLURM_CONF": "/etc/slurm.conf", "SLURM_JWT": "token", "LC_ALL": "C",
    }  # fmt: skip
