from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from qad_core.cli import main
from qad_core.config.checks import check_experiment
from qad_core.config.conf_file import ConfFile, read_conf
from qad_core.config.conf_samples import SCRIPT_SAMPLES
from qad_core.config.conf_variables import NO_COUNTERPART, is_secret
from qad_core.config.conf_yaml import experiment_yaml
from qad_core.config.environment import ENVIRONMENT_KEYS
from qad_core.config.library import find_library
from qad_core.config.load import LoadedConfig, ResolvedConfig, load_experiment, try_load_experiment
from qad_core.config.problems import Problem
from qad_core.config.secret_values import Secrets
from qad_core.errors import ExitCode

# The seed document's "Example Config Structure", letter by letter.
SEED = """# configs/qwen3-8b-default.conf
export STUDENT_MODEL="Qwen3-8B"
export TEACHER_MODEL="Qwen3-8B"
export STUDENT_CKPT="/path/to/Qwen3-8B-NVFP4-TP1-MLM"
export TEACHER_CKPT="/path/to/Qwen3-8B-TP1-MLM"
export TEACHER_MODEL_CONFIG="/path/to/Qwen3-8B-teacher.yaml"
export TP_SIZE=1
export PP_SIZE=1
export MBS=4
export NUM_GPUS=8
export DATASET_NAME="combined_v2_cot_chat"
"""
TINY = (
    'export STUDENT_MODEL=Tiny\nexport DATASET_NAME="made_text"\nexport NUM_GPUS=1 TRAIN_SAMPLES=320 MAX_SEQ=64 GBS=8\n'
)


@pytest.fixture(autouse=True)
def a_working_directory_of_its_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("QAD_CONFIGS", *ENVIRONMENT_KEYS):
        monkeypatch.delenv(name, raising=False)


def write(text: str | bytes, name: str = "x.conf") -> str:
    Path(name).write_bytes(text if isinstance(text, bytes) else text.encode())
    return name


def load(text: str, *overrides: str, **environ: str) -> ResolvedConfig:
    return load_experiment(write(text), overrides, environ)


def try_load(text: str | bytes, **environ: str) -> LoadedConfig:
    return try_load_experiment(write(text), (), environ)


def notes_of(text: str, **environ: str) -> list[Problem]:
    return list(try_load(text, **environ).notes)


def note_on(name: str, text: str, **environ: str) -> Problem:
    (found,) = (note for note in notes_of(text, **environ) if note.what.startswith(f"{name} "))
    return found


def test_the_seeds_example_becomes_an_experiment() -> None:
    resolved = load(SEED)  # that its files are not here is for `check` to say
    config = resolved.config
    assert (config.model.name, config.model.weights) == ("Qwen3-8B", "/path/to/Qwen3-8B-NVFP4-TP1-MLM")
    assert config.model.architecture is not None and config.model.architecture.num_layers == 36
    assert (config.model.teacher_name, config.model.teacher_weights) == ("Qwen3-8B", "/path/to/Qwen3-8B-TP1-MLM")
    assert (config.dataset.name, config.train.train_samples) == ("combined_v2_cot_chat", 1_024_000)
    assert (config.parallelism.tensor_model_parallel_size, config.train.micro_batch_size) == (1, 4)
    assert config.model.teacher_config == "/path/to/Qwen3-8B-teacher.yaml"
    assert config.cluster.processes_per_node == 8
    assert config.run_name == "Qwen3-8B-Teacher-Qwen3-8B-Data-combined_v2_cot_chat-lr1e-6"
    assert resolved.origins["train.micro_batch_size"] == "file x.conf"
    assert resolved.origins["model.architecture.num_layers"] == "file configs/models/qwen3-8b.yaml"
    noted = [(note.what.split(" ")[0], note.where) for note in resolved.notes]
    assert noted == [
        ("TRAIN_SAMPLES", "x.conf"),
        ("as", "x.conf"),  # the scripts always had it
    ]
    assert all(note.hint for note in resolved.notes)


def test_check_and_train_take_a_conf_and_print_its_notes(capsys: pytest.CaptureFixture[str]) -> None:
    name = write(f"{TINY}export MLM_DIR=/opt/mlm\n")
    assert main(["check", name]) == ExitCode.DONE
    assert "note: MLM_DIR is not carried over" in capsys.readouterr().err
    assert main(["check", name, "--json"]) == ExitCode.DONE
    assert json.loads(capsys.readouterr().out)["data"]["notes"][0]["where"] == "x.conf line 4"
    assert main(["train", name, "--dry-run"]) == ExitCode.DONE
    shown = capsys.readouterr()
    assert "train_samples: 320 # file x.conf" in shown.out
    assert "note: MLM_DIR" in shown.err


def test_environment_and_command_line_win_over_the_file() -> None:
    text = f"{TINY}export LR=${{LR:-2e-6}}\n"
    assert load(text).config.train.learning_rate == 2e-6
    assert load(text, LR="3e-6").config.train.learning_rate == 3e-6
    assert load(text, "train.learning_rate=4e-6", LR="3e-6").config.train.learning_rate == 4e-6
    assert load(text, "dataset=local-text").config.dataset.name == "local-text"


def test_a_refused_value_is_named_with_the_files_line() -> None:
    (problem,) = try_load(f"{TINY}\nexport MBS=many\n").problems
    assert ("'many'" in problem.what, problem.where) == (True, "x.conf line 5")
    assert [item.where for item in try_load(f"{TINY}MBS=[").problems] == ["x.conf line 4"]


def test_every_variable_of_the_table_sets_its_field() -> None:
    special = {"LR_DECAY_STYLE": "linear", "LR": "0.5", "MIN_LR": "0.25", "STUDENT_MODEL": "tiny",
               "KD_CFG_PATH": write("", "kd.yaml")}  # fmt: skip
    text = "".join(f"export {name}={special.get(name, '5')}\n" for name in ENVIRONMENT_KEYS)
    origins = load(text).origins
    for name, key in ENVIRONMENT_KEYS.items():
        assert (
            origins["dataset.name" if key == "dataset" else key if key != "model" else "model.weights"] == "file x.conf"
        ), name


def test_the_kd_config_of_a_conf_is_read_and_a_missing_one_is_an_error() -> None:
    write("logit_kl_temperature: 2.0\n", "kd.yaml")
    text = f"{TINY}export KD_CFG_PATH=kd.yaml\n"
    assert load(text).config.distillation.temperature == 2.0
    Path("kd.yaml").unlink()
    (problem,) = try_load(text).problems
    assert ("kd.yaml cannot be read" in problem.what, problem.where) == (True, "x.conf line 4")


def test_a_container_image_runs_in_the_containers_of_the_scripts() -> None:
    text = f"{TINY}CONTAINER_IMAGE=/i.sqsh\nCONTAINER_MOUNTS='/a:/a,/b:/c'\nCONTAINER_WORKDIR=/w\n"
    container = load(text).config.cluster.container
    assert (container.runtime, container.image, container.workdir) == ("pyxis", "/i.sqsh", "/w")
    assert container.mounts == ("/a:/a", "/b:/c")
    assert load(TINY).config.cluster.container.runtime == "none"


def test_a_model_that_is_no_part_keeps_its_name_and_says_what_is_missing() -> None:
    text = "STUDENT_MODEL=Qwen3-80B\nSTUDENT_CKPT=/s\nDATASET_NAME=mine\nBLEND_PATH=/b.json\n"
    config = load(text).config
    assert (config.model.name, config.model.weights, config.dataset.blend) == ("Qwen3-80B", "/s", "/b.json")
    missing = [note for note in notes_of(text) if note.what.startswith("there is no")]
    assert [note.where for note in missing] == ["x.conf line 1"]  # the dataset has its blend
    assert "config.json" in missing[0].what


def test_without_train_samples_a_conf_trains_for_as_many_as_its_script_did() -> None:
    model = "STUDENT_MODEL=tiny\n"
    assert load(f"{model}DATASET_NAME=nemotron_v2_code_cot").config.train.train_samples == 49_875
    assert load(f"{model}DATASET_NAME=nemotron_all_30pct_chat").config.train.train_samples == 7_500_000
    assert load(f"{model}").config.dataset.name == "openscience"
    assert "did not know" in note_on("TRAIN_SAMPLES", f"{model}DATASET_NAME=nemotorn").what
    assert load(f"{model}DATASET_NAME=nemotorn").config.train.train_samples == 299_800
    assert load(f"{model}DATASET_NAME=openscience\nTRAIN_SAMPLES=5").config.train.train_samples == 5
    assert load(f"{model}DATASET_NAME=openscience", TRAIN_SAMPLES="7").config.train.train_samples == 7
    assert len(SCRIPT_SAMPLES) == 111  # names in the script's `case`


def test_what_the_scripts_always_did_is_done_and_told() -> None:
    text = f"{TINY}TP_SIZE=2\n".replace("NUM_GPUS=1", "NUM_GPUS=")
    config = load(text).config
    assert (config.train.recompute, config.parallelism.sequence_parallel) == ("full", True)
    assert config.cluster.processes_per_node == 8
    assert note_on("NUM_GPUS", text).where == "x.conf"
    assert load(text, TP_SIZE="1").config.parallelism.sequence_parallel is False


def test_a_secret_is_neither_written_nor_shown(capsys: pytest.CaptureFixture[str]) -> None:
    lines = ["export HF_TOKEN=hf_s3cret",
             "WANDB_API_KEY='hf_s3cret'", "export RUN_TAG=$HF_TOKEN", "HF_TOKEN= hf_s3cret",
             "export MY_TOKEN = hf_s3cret", "curl hf_s3cret", "hf_s3cret_which_is_longer_than_a_command"]  # fmt: skip
    name = write(TINY + "\n".join(lines))
    assert main(["check", name]) == ExitCode.DONE
    assert main(["convert-conf", name]) == ExitCode.DONE
    shown = capsys.readouterr()
    assert "s3cret" not in shown.out + shown.err + Path("x.yaml").read_text()
    assert "HF_TOKEN is not carried over: it is a secret" in shown.err
    assert "RUN_TAG is not carried over: it takes in the secret HF_TOKEN" in shown.err
    assert not any(is_secret(name) for name in ENVIRONMENT_KEYS)


def test_every_variable_without_a_counterpart_says_why() -> None:
    text = TINY + "".join(f"export {name}=x\n" for name in NO_COUNTERPART)
    for name, reason in NO_COUNTERPART.items():
        assert reason.why in note_on(name, text).what
    assert notes_of(TINY + "".join(f"export {name}=''\n" for name in NO_COUNTERPART)) == notes_of(TINY)


def test_an_unknown_variable_is_answered_with_the_nearest_but_a_helper_is_not_named() -> None:
    assert note_on("TRAIN_SAMPELS", f"{TINY}export TRAIN_SAMPELS=5\n").hint == "Did you mean TRAIN_SAMPLES?"
    assert "process" in note_on("NCCL_DEBUG", f"{TINY}NCCL_DEBUG=WARN\n").what
    helped = f"{TINY}ROOT=/r\nexport QAD_CHECKPOINT_ROOT=$ROOT/runs\n"
    assert notes_of(helped) == notes_of(TINY)
    assert load(helped).config.paths.checkpoint_root == Path("/r/runs")


def test_a_value_that_is_not_known_leaves_its_field_to_the_defaults_and_says_so() -> None:
    text = f"{TINY}export LR=$(cat lr)\nexport MODELS_ROOT=$SCRATCH/m\n"
    assert load(text).origins["train.learning_rate"] == "default"
    assert (note_on("LR", text).where, "$(...)" in note_on("LR", text).what) == ("x.conf line 4", True)
    assert "SCRATCH" in note_on("MODELS_ROOT", text).what
    # A default of the scripts is for what is not set, not for what is not known.
    assert (
        load("STUDENT_MODEL=tiny\nDATASET_NAME=openscience\nTRAIN_SAMPLES=$(x)").config.train.train_samples == 299_800
    )
    assert "not known" not in str(notes_of(TINY))


def test_what_is_taken_from_the_environment_or_is_not_is_told() -> None:
    text = f"{TINY}export RUN_TAG=${{LR:-none}}-${{WHO:-nobody}}\n"
    assert load(text, LR="1e-5", WHO="me").config.tag == "1e-5-nobody"
    assert "1e-5" in note_on("LR", text, LR="1e-5").what
    assert "not read from the environment" in note_on("WHO", text, WHO="me").what


def test_where_no_config_can_be_built_the_notes_are_among_the_problems() -> None:
    resolved, problems = check_experiment(write("export STUDENT_MODEL=$(x)\nDATASET_NAME=made-text\n"), (), {})
    assert resolved is None
    assert [problem.where for problem in problems][:2] == ["model", "x.conf line 1"]


def test_nothing_in_a_conf_is_run() -> None:
    touching = ["touch a", "A=$(touch b)", "export LR=`touch c`", "x() { touch d; }; x", "echo > e", "source ./f.sh",
                "if touch g; then :; fi", ': "${TAG:=$(touch h)}"', "eval 'touch i'", "rm -rf ./kept"]  # fmt: skip
    Path("kept").mkdir()
    Path("f.sh").write_text("touch f\n")
    loaded = try_load(TINY + "\n".join(touching) + "\n")
    assert loaded.resolved is not None and loaded.problems == ()
    assert sorted(path.name for path in Path().iterdir()) == ["f.sh", "kept", "x.conf"]
    noted = {note.where for note in loaded.notes}
    assert noted >= {f"x.conf line {line}" for line in range(4, 4 + len(touching))} - {"x.conf line 5"}


@pytest.mark.parametrize(
    ("text", "where", "named"),
    [
        (b"export LR=1\nA=\0\n", "x.conf line 2", "NUL"),
        (b"export LR=1\n\nA=\xff\n", "x.conf line 3", "UTF-8"),
        (b'export LR=1\nexport A="x\n', "x.conf line 2", "double quote"),
    ],
)
def test_a_file_that_is_no_bash_text_is_one_problem_with_its_line(text: bytes, where: str, named: str) -> None:
    (problem,) = try_load(text).problems
    assert (problem.where, named in problem.what, bool(problem.hint)) == (where, True, True)


def test_an_empty_file_lacks_a_model_and_nothing_else() -> None:
    assert [problem.what for problem in try_load("").problems] == ["model is missing"]


def test_a_long_line_is_read_in_no_time() -> None:
    assert load(f"{TINY}# {'x' * 2**20}\nexport LR=1e-5 {'#' * 2**20}\n").config.train.learning_rate == 1e-5


def test_windows_line_ends_and_a_byte_order_mark_are_no_part_of_a_value() -> None:
    assert load("\ufeff" + TINY.replace("\n", "\r\n")).config == load(TINY).config


def test_a_conf_that_is_not_there_is_told_so() -> None:
    (problem,) = try_load_experiment("absent.conf", (), {}).problems
    assert problem.what == "there is no experiment file absent.conf"


CONVERTED = [
    SEED,
    TINY,
    f"{TINY}export LR=${{LR:-1e-5}} TP_SIZE=2 RUN_TAG='1e-6' ITERATIONS_TO_SKIP=3,7\nTEACHER_CKPT=null\n",
    f"{TINY}CONTAINER_IMAGE=a#b CONTAINER_MOUNTS=/a:/a,/b:/b\nQAD_CHECKPOINT_ROOT='/a b/\"c\"' TOKENIZER_MODEL=bytes",
    "STUDENT_MODEL='my: model'\nSTUDENT_CKPT=random\nDATASET_NAME=slimorca\nBLEND_PATH=~/b.json\nNNODES=2\n",
    "STUDENT_MODEL=tiny\nMBS=2\nEVAL_INTERVAL=3 SAVE_INTERVAL=4 MASTER_PORT=29500\n",
]


@pytest.mark.parametrize("text", CONVERTED)
def test_the_written_yaml_loads_to_what_the_conf_loads_to(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    environ = {"HOME": str(Path.home())}
    expected = load(text, **environ)
    assert main(["convert-conf", "x.conf", "--out", "sub/y.yaml"]) == ExitCode.DONE
    found = load_experiment("sub/y.yaml", (), environ)
    assert found.config == expected.config
    answer = capsys.readouterr().out
    assert "Wrote sub/y.yaml." in answer
    assert all(note.what in answer for note in expected.notes)


TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="\0'\r"), max_size=30).filter(
    lambda text: not text.strip().startswith('"')  # a value in double quotes is YAML, as in a variable or override
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(TEXTS)
def test_any_text_of_a_setting_survives_the_conversion(value: str) -> None:
    write(f"{TINY}export RUN_TAG='{value}' STUDENT_CKPT='{value}'\n")
    Path("y.yaml").write_text(experiment_yaml(read(**{}), Secrets({})))
    assert load_experiment("y.yaml", (), {}).config == load_experiment("x.conf", (), {}).config


def read(**environ: str) -> ConfFile:
    return read_conf(Path("x.conf"), find_library(environ), environ, environment_first=False)


def test_each_line_of_the_yaml_names_its_variable_and_line(capsys: pytest.CaptureFixture[str]) -> None:
    write(SEED, "my.conf")
    assert main(["convert-conf", "my.conf", "--json"]) == ExitCode.DONE
    answer = json.loads(capsys.readouterr().out)
    assert answer["data"]["path"] == "my.yaml"
    assert answer["data"]["notes"][0]["where"] == "my.conf"
    written = Path("my.yaml").read_text()
    assert "  teacher_config: /path/to/Qwen3-8B-teacher.yaml # TEACHER_MODEL_CONFIG, line 6\n" in written
    assert "  use: Qwen3-8B # STUDENT_MODEL, line 2\n" in written
    assert "  train_samples: 1024000 # TRAIN_SAMPLES, as the scripts did\n" in written
    values = [line for line in written.splitlines()[1:] if not line.endswith(":")]
    assert all(" # " in line for line in values)


def test_a_conversion_depends_on_the_file_and_not_on_the_settings_around_it(monkeypatch: pytest.MonkeyPatch) -> None:
    name = write(f"{TINY}export LR=${{LR:-1e-5}}\nexport RUN_TAG=lr$LR\n")
    monkeypatch.setenv("LR", "5")
    monkeypatch.setenv("NUM_GPUS", "3")
    assert main(["convert-conf", name]) == ExitCode.DONE
    config = load_experiment("x.yaml", (), {}).config
    assert (config.train.learning_rate, config.tag, config.cluster.processes_per_node) == (1e-5, "lr1e-5", 1)


def test_a_conversion_replaces_no_file(capsys: pytest.CaptureFixture[str]) -> None:
    Path("x.yaml").write_text("mine")
    assert main(["convert-conf", write(TINY)]) == ExitCode.USER_ERROR
    assert "x.yaml is there already" in capsys.readouterr().err
    assert Path("x.yaml").read_text() == "mine"
    assert main(["convert-conf", write("A='")]) == ExitCode.USER_ERROR
    assert main(["convert-conf", "absent.conf"]) == ExitCode.USER_ERROR
