from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qad_core.config.environment import ENVIRONMENT_KEYS
from qad_core.config.fields import FIELDS
from qad_core.config.library import PART_FOLDERS, SHIPPED, find_library
from qad_core.config.load import ResolvedConfig, dump_resolved, load_experiment, read_resolved
from qad_core.config.problem_keys import keys_of_problem
from qad_core.config.problems import InvalidConfigError, Problem
from qad_core.config.schema import RunConfig
from qad_core.config.values import parse_override

FILES = {
    "models/small.yaml": "name: small\nweights: random\nrandom_seed: 7\n",
    "models/other.yaml": "name: other\nweights: random\n",
    "datasets/text.yaml": "name: text\nsource: {kind: made, max_characters: 500}\n",
    "parallelism/tp2.yaml": "name: tp2\ntensor_model_parallel_size: 2\n",
    "experiments/run.yaml": (
        "model: {use: small, name: mine}\ndataset: text\nparallelism: tp2\n"
        "train:\n  learning_rate: 1e-6\n  train_samples: 1e6\n"
    ),
}


@pytest.fixture
def configs(tmp_path: Path) -> Path:
    return write_configs(tmp_path / "my-configs", FILES)


def write_configs(root: Path, files: Mapping[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return root


def load(configs: Path, *overrides: str, **environ: str) -> ResolvedConfig:
    return load_experiment("run", overrides, {"QAD_CONFIGS": str(configs), **environ})


def problems_of(configs: Path, *overrides: str, **environ: str) -> list[tuple[str, str, str]]:
    with pytest.raises(InvalidConfigError) as caught:
        load(configs, *overrides, **environ)
    return [(problem.what, problem.where, problem.hint) for problem in caught.value.problems]


def test_each_layer_wins_over_the_one_below_it(configs: Path) -> None:
    key = "parallelism.tensor_model_parallel_size"
    experiment = configs / "experiments/run.yaml"
    seen: list[tuple[object, str]] = []

    def look(*overrides: str, **environ: str) -> None:
        resolved = load(configs, *overrides, **environ)
        seen.append((resolved.config.parallelism.tensor_model_parallel_size, resolved.origins[key]))

    look("parallelism=one-rank")
    look()
    experiment.write_text(FILES["experiments/run.yaml"].replace("tp2", f"{{use: tp2, {key.split('.')[1]}: 3}}"))
    look()
    look(TP_SIZE="4")
    look(f"{key}=5", TP_SIZE="4")
    assert seen == [
        (1, "default"),
        (2, f"file {configs}/parallelism/tp2.yaml"),
        (3, f"file {experiment}"),
        (4, "environment TP_SIZE"),
        (5, "command line"),
    ]


def test_every_value_has_an_origin(configs: Path) -> None:
    origins = load(configs).origins
    assert origins["model.name"] == f"file {configs}/experiments/run.yaml"
    assert origins["model.random_seed"] == f"file {configs}/models/small.yaml"
    assert origins["dataset.source.max_characters"] == f"file {configs}/datasets/text.yaml"
    assert origins["train.seed"] == "default"
    assert set(origins) >= {key for key, field in FIELDS.items() if field.section is None and "architecture" not in key}


def test_naming_another_part_drops_the_fields_laid_over_the_experiments_own(configs: Path) -> None:
    assert load(configs, "model=small").config.model.name == "mine"
    assert load(configs, "model=other").config.model.name == "other"
    assert load(configs, STUDENT_MODEL="Other").config.model.name == "other"
    assert load(configs, "model=other", TEACHER_MODEL="big").config.model.teacher_name == "big"


def test_a_part_may_be_a_path_beside_the_experiment(configs: Path) -> None:
    (configs / "experiments/local.yaml").write_text("name: near\nweights: random\n")
    (configs / "experiments/run.yaml").write_text("model: ./local.yaml\ndataset: text\n")
    assert load(configs).config.model.name == "near"


def test_an_experiment_may_be_given_as_a_path(configs: Path) -> None:
    path = configs / "experiments/run.yaml"
    assert load_experiment(str(path), (), {"QAD_CONFIGS": str(configs)}) == load(configs)


def test_1e_6_is_a_number_in_yaml_and_in_an_override(configs: Path) -> None:
    from_file = load(configs).config
    assert type(from_file.train.learning_rate) is float
    assert from_file.train.learning_rate == 1e-6
    assert load(configs, "train.learning_rate=2e-6").config.train.learning_rate == 2e-6
    assert load(configs, LR="3e-6").config.train.learning_rate == 3e-6
    assert from_file.train.train_samples == 1_000_000
    assert type(from_file.train.train_samples) is int


def test_the_run_name_writes_the_rate_as_the_scripts_did(configs: Path) -> None:
    assert load(configs).config.run_name == "mine-Teacher-mine-Data-text-lr1e-6"
    assert load(configs, "learning_rate=0.00015", "tag=a").config.run_name.endswith("-lr0.00015-a")


def test_a_text_field_takes_the_text_as_it_stands(configs: Path) -> None:
    for text in ("1e-6", "2024-01-02", "true", "a #b", "x=y"):
        assert load(configs, f"tag={text}").config.tag == text
    assert load(configs, "model.tokenizer=x", "model.tokenizer=null").config.model.tokenizer is None


@pytest.mark.parametrize(
    ("text", "iterations"), [("100", (100,)), ("3,7", (3, 7)), ("[3, 7]", (3, 7)), ("3-5,9", (3, 4, 5, 9)), ("", ())]
)
def test_iterations_to_skip_are_single_iterations(configs: Path, text: str, iterations: tuple[int, ...]) -> None:
    assert load(configs, ITERATIONS_TO_SKIP=text).config.train.iterations_to_skip == iterations
    assert load(configs, f"train.iterations_to_skip={text}").config.train.iterations_to_skip == iterations


def test_every_environment_variable_sets_its_field(configs: Path) -> None:
    (configs / "kd.yaml").touch()
    texts = {
        "STUDENT_MODEL": "other", "DATASET_NAME": "text", "LR_DECAY_STYLE": "linear", "LR": "0.5",
        "MIN_LR": "0.25", "ITERATIONS_TO_SKIP": "3", "KD_CFG_PATH": str(configs / "kd.yaml"),
    }  # fmt: skip
    for name, key in ENVIRONMENT_KEYS.items():
        resolved = load(configs, **{name: texts.get(name, "5")})
        if key in PART_FOLDERS:
            assert resolved.origins[f"{key}.name"].startswith("file"), name
        else:
            assert resolved.origins[key] == f"environment {name}", name


WRONG = [
    ("train.lerning_rate=1", "train.learning_rate"),
    ("train.lr=1", "train.learning_rate"),
    ("tp_size=2", "parallelism.tensor_model_parallel_size"),
    ("train.temperature=2", "distillation.temperature"),
    ("model=smal", "small"),
    ("loss=qatt", "qat"),
]


@pytest.mark.parametrize(("override", "near"), WRONG)
def test_a_wrong_name_is_answered_with_the_nearest(configs: Path, override: str, near: str) -> None:
    ((_, where, hint),) = problems_of(configs, override)
    assert where == f"command line: {override}"
    assert f"Did you mean {near}?" in hint


def test_a_wrong_dataset_name_is_never_a_silent_fall_back(configs: Path) -> None:
    ((what, where, hint),) = problems_of(configs, DATASET_NAME="txet")
    assert ("'txet'" in what, where, "Did you mean text?" in hint) == (True, "environment DATASET_NAME", True)


def test_an_unknown_key_in_a_file_is_named_with_its_line(configs: Path) -> None:
    (configs / "datasets/text.yaml").write_text("name: text\nsource:\n  kind: made\n  max_caracters: 5\n")
    ((what, where, hint),) = problems_of(configs)
    assert "dataset.source.max_caracters" in what
    assert where == f"{configs}/datasets/text.yaml line 4"
    assert hint == "Did you mean dataset.source.max_characters?"


def test_all_problems_of_a_load_are_named_at_once(configs: Path) -> None:
    (configs / "models/small.yaml").write_text("name: small\nweigths: random\n")
    (configs / "experiments/run.yaml").write_text(
        "model: small\ndataset: text\ntrain:\n  seed: true\n  adam_beta1: 2\n"
    )
    found = problems_of(configs, "nonsense", "train.precision=fp16", "train.micro_batch_size=0", LR="fast", GBS="[")
    assert len(found) == 8
    for part in ("weigths", "seed = true", "adam_beta1", "nonsense", "fp16", "micro_batch_size", "'fast'", "'['"):
        assert sum(part in what for what, _, _ in found) == 1, part


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("model: [1", "is not YAML"),
        ("model: small\nmodel: other\n", "duplicate key"),
        ("- a\n", "no mapping"),
        ("model: small\n", "dataset is missing"),
        ("model: small\ndataset: text\ntag: 5\n", "tag = 5"),
        ("model: small\ndataset: text\ntrain: fast\n", "not a section"),
        ("model: small\ndataset: text\ntrain: {learning_rate: .inf}\n", "finite"),
        ("model: {use: 3}\ndataset: text\n", "not a part's name"),
        ("model: small\ndataset: " + "[" * 3000, "nested too deeply"),
    ],
)
def test_a_broken_experiment_file_is_one_clear_problem(configs: Path, text: str, named: str) -> None:
    (configs / "experiments/run.yaml").write_text(text)
    ((what, _, hint),) = problems_of(configs)
    assert named in what
    assert hint


def test_the_fields_that_a_section_lacks_are_one_problem_that_names_them(configs: Path) -> None:
    (configs / "experiments/run.yaml").write_text("dataset: text\n")
    overrides = ("model.name=a", "model.weights=b", "model.architecture.num_layers=4")
    ((what, where, hint),) = problems_of(configs, *overrides)
    assert what == "model.architecture is given in part: 7 of its fields are missing"
    assert "model.architecture.family, model.architecture.hidden_size" in where and "num_layers" not in where
    assert "model=NAME" in hint
    assert keys_of_problem(Problem(what, where, hint)) == tuple(where.split(", ")), "a form marks each field"


@pytest.mark.parametrize("override", ["model=", "train=null"])
def test_a_section_set_to_nothing_is_no_silent_default(configs: Path, override: str) -> None:
    ((what, _, _),) = problems_of(configs, override)
    assert "names nothing" in what


def test_an_ambiguous_last_name_lists_what_it_may_mean(configs: Path) -> None:
    ((what, _, _),) = problems_of(configs, "interval=5")
    assert "evaluation.interval" in what
    assert "checkpoint.interval" in what


def test_an_unknown_experiment_is_answered_with_the_nearest() -> None:
    with pytest.raises(InvalidConfigError, match="Did you mean tiny"):
        load_experiment("tinny", (), {})


def test_a_resolved_config_reads_back_with_its_origins(configs: Path, tmp_path: Path) -> None:
    resolved = load(configs, "tag=1e-6", "paths.models_root=/a b/#c", LR="2e-5", ITERATIONS_TO_SKIP="3,4")
    text = dump_resolved(resolved)
    (tmp_path / "config.yaml").write_text(text)
    assert read_resolved(tmp_path / "config.yaml") == resolved
    assert "learning_rate: 2e-05 # environment LR" in text
    assert "seed: 1234\n" in text


def test_paths_are_counted_from_the_folder_that_a_config_was_loaded_in(
    configs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/me")
    resolved = load(
        configs, "dataset.source.kind=text", "dataset.source.paths=a,/b", "blend=c.json", "data_cache=~/cache"
    )
    config, text = resolved.config, dump_resolved(resolved)
    assert config.paths.checkpoint_root == tmp_path / "runs"
    assert config.paths.data_cache == Path("/home/me/cache")
    assert config.dataset.source and config.dataset.source.paths == (str(tmp_path / "a"), "/b")
    assert config.dataset.blend == str(tmp_path / "c.json")
    monkeypatch.chdir("/")
    (tmp_path / "config.yaml").write_text(text)
    assert read_resolved(tmp_path / "config.yaml") == resolved, "origins as well: a default path stays one"


def test_a_resolved_config_edited_by_hand_is_read_strictly(configs: Path, tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    text = dump_resolved(load(configs))
    path.write_text(text.replace("  seed: 1234", "  seed: 99"))
    assert read_resolved(path).origins["train.seed"] == f"file {path}"
    path.write_text(text.replace("  seed: 1234", "  sead: 99"))
    with pytest.raises(InvalidConfigError, match=r"Did you mean train\.seed"):
        read_resolved(path)


TEXTS = st.text(st.characters(codec="utf-8"), max_size=12)


@settings(deadline=None, max_examples=40)
@given(tag=TEXTS, name=TEXTS, rate=st.floats(1e-12, 1e3), samples=st.integers(1, 10**12), paths=st.lists(TEXTS))
def test_any_values_survive_dump_and_read(
    tmp_path_factory: pytest.TempPathFactory, tag: str, name: str, rate: float, samples: int, paths: list[str]
) -> None:
    config = RunConfig.model_validate(
        {
            "tag": tag,
            "model": {"name": name, "weights": "random", "teacher_name": tag},
            "dataset": {"name": name, "source": {"kind": "text", "paths": paths}},
            "train": {"learning_rate": rate, "train_samples": samples},
        }
    )
    path = tmp_path_factory.getbasetemp() / "any.yaml"
    path.write_text(dump_resolved(ResolvedConfig(config, {"tag": "command line"})), encoding="utf-8", newline="")
    assert read_resolved(path).config == config


@settings(deadline=None)
@given(value=st.floats(allow_nan=False, allow_infinity=False) | st.integers() | st.booleans())
def test_any_number_of_an_override_is_read_as_itself(value: float) -> None:
    assert parse_override(f"train.learning_rate={json.dumps(value)}") == ("train.learning_rate", value)


@settings(deadline=None)
@given(text=TEXTS.filter(lambda text: text == text.strip() and text[:1] not in ("'", '"')))
def test_any_text_of_an_override_is_read_as_itself(text: str) -> None:
    assert parse_override(f"tag={text}") == ("tag", text)


def test_the_package_ships_every_file_of_configs() -> None:
    files = sorted(SHIPPED.rglob("*.yaml"))
    assert files
    assert files == sorted(SHIPPED.glob("*/*.yaml")), "package-data takes shipped/*/*.yaml only"
    assert all(path.read_text(encoding="utf-8").startswith("# ") for path in files)


def test_each_parts_name_is_that_of_its_file() -> None:
    library = find_library({})
    for section in ("dataset", "parallelism", "cluster"):
        for name in library.names(PART_FOLDERS[section]):
            path = library.find_part(section, name, Path())
            assert f"\nname: {name}\n" in path.read_text(encoding="utf-8")
