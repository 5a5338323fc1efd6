"""A secret that stands in a config is refused by its key, and its value is said nowhere."""

from __future__ import annotations

from pathlib import Path

import pytest

from qad_core.cli import main
from qad_core.config.checks import check_experiment
from qad_core.config.load import load_experiment
from qad_core.config.secret_values import Secrets
from qad_core.errors import ConfigError, ExitCode

VALUE = "s3cr3t-v4lue-17"
TOKEN = "hf_AbCdEfGhIjKlMnOpQrStUv"


@pytest.fixture(autouse=True)
def a_working_directory_of_its_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("QAD_CONFIGS", raising=False)


@pytest.mark.parametrize("name", ["HF_TOKEN", "SLURM_JWT", "WANDB_API_KEY", "AWS_SECRET_ACCESS_KEY"])
@pytest.mark.parametrize(
    ("override", "key"),
    [
        (f"tag={VALUE}", "tag"),
        (f"model.weights=/models/{VALUE}/x", "model.weights"),
        (f"cluster.slurm.setup=[true, export X={VALUE}]", "cluster.slurm.setup"),
        (f"dataset={{name: {VALUE}}}", "dataset.name"),
        (f"train.seed={VALUE}", "train.seed"),
        (f"train.no_such_key={VALUE}", "train.no_such_key"),
        (VALUE, "override"),
    ],
)
def test_the_value_of_a_secret_variable_is_refused_by_key_and_name(name: str, override: str, key: str) -> None:
    _, problems = check_experiment("tiny", [override], {name: VALUE})
    said = "\n".join(map(str, problems))
    assert key in said and VALUE not in said
    with pytest.raises(ConfigError) as caught:
        load_experiment("tiny", [override], {name: VALUE})
    assert VALUE not in str(caught.value)


def test_it_is_refused_in_a_file_and_in_the_environment_too() -> None:
    Path("mine.yaml").write_text(f"model: tiny\ndataset: made-text\ntag: {VALUE}\ntrain: {{sequence_length: 64}}\n")
    for experiment, environ in (("mine.yaml", {}), ("tiny", {"RUN_TAG": VALUE})):
        _, problems = check_experiment(experiment, [], {"HF_TOKEN": VALUE, **environ})
        assert [problem.what.partition(" holds")[0] for problem in problems] == ["tag"]
        assert VALUE not in str(problems) and "HF_TOKEN" in problems[0].what


def test_a_variable_that_the_config_calls_a_secret_is_one() -> None:
    overrides = [f"tag={VALUE}", "cluster.slurm.secrets=[LICENCE]"]
    _, problems = check_experiment("tiny", overrides, {"LICENCE": VALUE})
    assert "tag holds the value of LICENCE" in problems[0].what


@pytest.mark.parametrize("text", [f"/x/{TOKEN}", "docker://me:pass@registry/image"])
def test_what_looks_like_a_secret_is_refused_without_any_variable(text: str) -> None:
    _, problems = check_experiment("tiny", [f"cluster.container.image={text}"], {})
    assert "cluster.container.image holds" in problems[0].what and text not in str(problems)


def test_variables_that_only_sound_like_secrets_refuse_nothing() -> None:
    environ = {
        "MAX_TOKENS": "4096", "GIT_AUTHOR_NAME": "runs-of-mine", "TOKENIZERS_PARALLELISM": "runs-of-mine",
        "HF_TOKEN_PATH": "/home/runs-of-mine", "USER": "somebody", "MY_KEY": "somebody",
    }  # fmt: skip
    assert list(Secrets.of(environ).values) == []


def test_a_conf_with_a_secret_is_not_converted(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", VALUE)
    Path("old.conf").write_text(f"STUDENT_CKPT=/models/{VALUE}\nRUN_TAG={TOKEN}\n")
    assert main(["convert-conf", "old.conf"]) == ExitCode.USER_ERROR
    said = capsys.readouterr()
    assert "model.weights" in said.err and "tag" in said.err
    assert VALUE not in said.out + said.err and TOKEN not in said.out + said.err
    assert not Path("old.yaml").exists()
