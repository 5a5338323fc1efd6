"""Checks of a SLURM cluster's part of a config, and the walltimes that it may hold."""

from __future__ import annotations

from pathlib import Path

import pytest

from qad_core.config.checks import check_config
from qad_core.config.load import load_experiment
from qad_core.config.time_limit import seconds_of_time_limit
from qad_core.errors import ConfigError


@pytest.fixture(autouse=True)
def configs_of_the_checkout(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(Path(__file__).parents[2])


def problems(tmp_path: Path, *overrides: str) -> list[tuple[str, str]]:
    paths = (f"paths.checkpoint_root={tmp_path}/runs", f"paths.data_cache={tmp_path}/data")
    config = load_experiment("tiny", ["cluster.kind=slurm", "cluster.device=cpu", *paths, *overrides], {}).config
    return [(problem.what, problem.where) for problem in check_config(config)]


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90", 5400), ("30:00", 1800), ("4:00:00", 14400), ("1-12", 129600), ("1-12:30", 131400), ("2-0:0:1", 172801)],
)
def test_walltimes_are_read_as_sbatch_reads_them(text: str, seconds: int) -> None:
    assert seconds_of_time_limit(text) == seconds


@pytest.mark.parametrize("text", ["", "0", "4h", "1:2:3:4", "-5", "UNLIMITED", "1-", "\u0663", "9" * 5000])
def test_what_is_no_walltime_is_refused_when_the_config_is_loaded(text: str) -> None:
    with pytest.raises(ValueError, match="is no walltime"):
        seconds_of_time_limit(text)
    if text:
        with pytest.raises(ConfigError, match="time_limit"):
            load_experiment("tiny", [f"cluster.slurm.time_limit={text}"], {})


@pytest.mark.parametrize("text", ["366-0", "365-0:0:1", "525601", "71582789", "9" * 23])
def test_a_walltime_that_slurm_would_read_as_another_is_refused_with_the_longest(text: str) -> None:
    assert seconds_of_time_limit("365-00:00:00") == 365 * 86400
    with pytest.raises(ConfigError, match=r"cluster\.slurm\.time_limit.* longer than 365-00:00:00"):
        load_experiment("tiny", [f"cluster.slurm.time_limit={text}"], {})


def test_a_sound_cluster_has_no_problem_and_a_local_one_is_not_looked_at(tmp_path: Path) -> None:
    assert problems(tmp_path) == []
    assert problems(tmp_path, "cluster.kind=local", "cluster.slurm.stop_seconds_before_limit=60000") == []


@pytest.mark.parametrize(
    ("overrides", "what", "where"),
    [
        (["cluster.slurm.time_limit=11:00"], "leaves no time to train", "cluster.slurm.time_limit"),
        (["train.exit_duration_minutes=1200"], "is past the stop 600 s before", "train.exit_duration_minutes"),
        (["cluster.device=cuda", "cluster.slurm.gpus_per_node=0"], "no GPU is asked for", "cluster.device"),
        (
            ["cluster.device=cuda", "cluster.processes_per_node=8", "cluster.slurm.gpus_per_node=4"],
            "8 ranks a node, but 4 GPUs",
            "cluster.processes_per_node",
        ),
        (["cluster.slurm.extra_options=[--time=1]"], "would overrule", "cluster.slurm.extra_options"),
        (["cluster.slurm.extra_options=[-N 9]"], "would overrule", "cluster.slurm.extra_options"),
        (["cluster.slurm.extra_options=[--hold --array=0-2]"], "(--array)", "cluster.slurm.extra_options"),
        (["cluster.slurm.extra_options=[--hold --arr 0-2]"], "(--array)", "cluster.slurm.extra_options"),
        (["cluster.slurm.extra_options=[-Ha0-2]"], "(-a)", "cluster.slurm.extra_options"),
        (["cluster.slurm.extra_options=[--test-only]"], "would overrule", "cluster.slurm.extra_options"),
        (["cluster.slurm.extra_options=[--constraint='a]"], "quote that does not", "cluster.slurm.extra_options"),
        (['cluster.slurm.extra_options=[""]'], "is no option", "cluster.slurm.extra_options"),
        (['cluster.slurm.setup=["#SBATCH --array=0-2"]'], "(#SBATCH)", "cluster.slurm.setup"),
        (['cluster.slurm.setup=["#PBS -t 0-2"]'], "(#PBS)", "cluster.slurm.setup"),
        (["cluster.slurm.account=a/b"], "part of a log's name", "cluster.slurm.account"),
        (["cluster.slurm.extra_options=[reservation]"], "is no option", "cluster.slurm.extra_options"),
        (["cluster.container.image=a.sqsh"], "runtime is none", "cluster.container.runtime"),
        (["cluster.container.runtime=pyxis"], "there is no image", "cluster.container.image"),
        (["paths.checkpoint_root=/tmp/100%"], "SLURM reads in its own way", "paths.checkpoint_root"),
    ],
)
def test_what_would_fail_in_the_queue_is_found_before_it(
    tmp_path: Path, overrides: list[str], what: str, where: str
) -> None:
    found = problems(tmp_path, *overrides)
    assert any(what in text and where in place for text, place in found), found


def test_options_that_nothing_of_ours_leans_on_are_taken(tmp_path: Path) -> None:
    options = '["--reservation=week12 --exclude node7", "-C h100", "-w node[1-2]", "--gpus=8", "--hold", "-Hv"]'
    assert problems(tmp_path, f"cluster.slurm.extra_options={options}") == []


@pytest.mark.parametrize(
    ("runtime", "options", "what"),
    [
        ("pyxis", '[""]', "is no option of srun"),
        ("pyxis", "[bash]", "is no option of srun"),
        ("pyxis", '["--container-name", "x"]', "is no option of srun"),
        ("pyxis", "[--]", "is no option of srun"),
        ("pyxis", "[--ntasks=9]", "would overrule how the ranks are started (--ntasks)"),
        ("pyxis", "[-lN2]", "would overrule"),
        ("apptainer", "[other.sif]", "is no option of apptainer"),
        ("pyxis", "[--no-container-mount-home, --container-name=x]", ""),
        ("apptainer", "[--env, A=1, --cleanenv]", ""),
    ],
)
def test_a_containers_options_are_options(tmp_path: Path, runtime: str, options: str, what: str) -> None:
    container = (f"cluster.container.runtime={runtime}", "cluster.container.image=a.sqsh")
    mounts = f"cluster.container.mounts=[{tmp_path}:{tmp_path}]"
    found = problems(tmp_path, *container, mounts, f"cluster.container.options={options}")
    assert [where for _, where in found] == (["cluster.container.options"] if what else [])
    assert all(what in text for text, _ in found)


@pytest.mark.parametrize("field", ["partition", "account", "qos", "memory", "gpu_type"])
@pytest.mark.parametrize("character", ["\n", "\r", "\x1b", "\x00"])
def test_a_line_break_in_what_the_script_says_is_refused_with_its_key(
    tmp_path: Path, field: str, character: str
) -> None:
    found = problems(tmp_path, f"cluster.slurm.{field}=gpu{character}#SBATCH --array=0-2")
    assert f"cluster.slurm.{field}" in [where for _, where in found]
    assert any(f"{field} holds" in what for what, _ in found)


def test_a_line_break_in_a_list_or_a_mount_is_refused_and_a_tab_in_a_shell_line_is_not(tmp_path: Path) -> None:
    for key in ("slurm.setup", "slurm.extra_options", "container.mounts", "container.options"):
        assert f"cluster.{key}" in [where for _, where in problems(tmp_path, f'cluster.{key}=["--a\\n--b"]')]
    assert problems(tmp_path, 'cluster.slurm.setup=["module\\tload x"]') == []


def test_the_folders_of_a_run_must_be_in_the_container_under_the_same_path(tmp_path: Path) -> None:
    container = ("cluster.container.runtime=pyxis", "cluster.container.image=a.sqsh")
    assert problems(tmp_path, *container, f"cluster.container.mounts=[{tmp_path}:{tmp_path}:ro]") == []
    for mounts in ("", f"{tmp_path}:/elsewhere", f"{tmp_path}/other"):
        missing = [where for _, where in problems(tmp_path, *container, f"cluster.container.mounts=[{mounts}]")]
        assert missing == [
            "cluster.container.mounts, paths.checkpoint_root",
            "cluster.container.mounts, paths.data_cache",
        ]


@pytest.mark.parametrize(
    "line",
    ["export HF_TOKEN=abc", "WANDB_API_KEY='x' true", "curl -H 'Authorization: Bearer abcdefghijklmnopq'"],
)
def test_a_secret_in_a_line_of_the_script_is_refused_and_not_repeated(tmp_path: Path, line: str) -> None:
    for field in ("slurm.setup", "container.options"):
        (found,) = problems(tmp_path, f'cluster.{field}=["{line}"]')
        assert "into the batch script" in found[0] and "abc" not in found[0]


@pytest.mark.parametrize(
    "line",
    [
        "export TOKENIZERS_PARALLELISM=false",
        "export MAX_TOKENS=4096",
        'export HF_TOKEN="$(cat ~/.token)"',
        "module load x",
    ],
)
def test_a_line_that_only_names_a_secret_is_fine(tmp_path: Path, line: str) -> None:
    quoted = line.replace('"', '\\"')
    assert problems(tmp_path, f'cluster.slurm.setup=["{quoted}"]') == []
