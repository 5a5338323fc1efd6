"""The teacher's YAML and the KD config of Megatron's scripts: what they set, and what is refused of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from qad_core.config.architecture import teacher_architecture
from qad_core.config.checks import check_experiment
from qad_core.config.load import dump_resolved, load_experiment, read_resolved
from qad_core.config.schema import ArchitectureConfig, DistillationConfig
from qad_core.run.identity import fingerprint
from tests.core.test_config_checks import QWEN, make_folder

LARGER = """# a teacher, as the scripts' example has it
num_layers: 6
hidden_size: 256
num_attention_heads: 8
num_query_groups: 4
kv_channels: 32
ffn_hidden_size: 512
"""
DOCUMENTED = """logit_layers: ["output_layer", "output_layer"]
intermediate_layer_pairs: []
skip_lm_loss: true
kd_loss_scale: 1.0
logit_kl_temperature: 2.0
"""


@pytest.fixture(autouse=True)
def a_working_directory_of_its_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)


def write(text: str, name: str = "x.yaml") -> str:
    Path(name).write_text(text)
    return name


def problems_of(*overrides: str) -> list[tuple[str, str]]:
    found = check_experiment("tiny", overrides, {})[1]
    assert all(problem.hint for problem in found)
    return [(problem.what, problem.where) for problem in found]


def teacher_of(*overrides: str, **environ: str) -> ArchitectureConfig:
    teacher = teacher_architecture(load_experiment("tiny", overrides, environ).config)
    assert teacher is not None
    return teacher


def test_a_teachers_yaml_gives_its_shape_and_the_student_the_rest() -> None:
    write(LARGER)
    overrides = ("model.teacher_weights=random", "model.teacher_config=x.yaml")
    assert problems_of(*overrides) == []
    teacher = teacher_of(*overrides)
    assert (teacher.num_layers, teacher.hidden_size, teacher.ffn_hidden_size) == (6, 256, 512)
    assert (teacher.num_attention_heads, teacher.num_query_groups, teacher.kv_channels) == (8, 4, 32)
    assert (teacher.vocab_size, teacher.rotary_base, teacher.family) == (512, 10000.0, "qwen3")
    assert teacher == teacher_of("model.teacher_weights=random", TEACHER_MODEL_CONFIG="x.yaml")


def test_a_teachers_yaml_may_speak_of_experts_in_megatrons_names() -> None:
    write("num_experts: 8\nmoe_router_topk: 2\nmoe_ffn_hidden_size: 64\nswiglu: true\nbf16: true\nqk_layernorm: true\n")
    teacher = teacher_of("model.teacher_weights=random", "model.teacher_config=x.yaml")
    assert (teacher.family, teacher.num_moe_experts, teacher.moe_ffn_hidden_size) == ("qwen3_moe", 8, 64)
    assert problems_of("model.teacher_weights=random", "model.teacher_config=x.yaml") == []


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("num_layer: 6\n", "'num_layer' is not known here (did you mean num_layers?)"),
        ("normalization: LayerNorm\n", "normalization is 'LayerNorm', but the models here have 'RMSNorm'"),
        ("qk_layernorm: false\n", "qk_layernorm is False, but a qwen3 has True"),
        ("num_layers: many\n", "wrong values: num_layers"),
        ("- 1\n", "x.yaml"),
        ("vocab_size: 1024\n", "the teacher's vocab_size is 1024, the student's 512"),
        ("num_experts: 8\n", "the teacher's family qwen3_moe lacks moe_router_topk, moe_ffn_hidden_size"),
    ],
)
def test_what_no_teacher_here_can_be_is_refused(text: str, named: str) -> None:
    write(text)
    ((what, where),) = problems_of("model.teacher_weights=random", "model.teacher_config=x.yaml")
    assert named in what and "model.teacher_config" in where


def test_a_teachers_yaml_that_is_not_there_is_an_error() -> None:
    ((what, where),) = problems_of("model.teacher_config=absent.yaml")
    assert "there is no teacher config at" in what and "absent.yaml" in what
    assert where.startswith("model.teacher_config")


def test_a_teachers_yaml_must_agree_with_its_weights() -> None:
    write("num_layers: 6\n")
    make_folder("teacher", QWEN)
    ((what, _),) = problems_of("model.teacher_config=x.yaml", "model.teacher_weights=teacher")
    assert what == "the teacher's num_layers is 6 in its config, but 4 with its weights"
    # The student's own weights are of the student's shape.
    assert [item[0] for item in problems_of("model.teacher_config=x.yaml")] == [what]


def test_a_larger_teacher_is_read_from_its_own_config_json() -> None:
    make_folder("teacher", QWEN | {"num_hidden_layers": 6, "hidden_size": 256, "intermediate_size": 512})
    assert problems_of("model.teacher_weights=teacher") == []
    teacher = teacher_of("model.teacher_weights=teacher")
    assert (teacher.num_layers, teacher.hidden_size) == (6, 256)


def test_a_kd_config_sets_the_loss_with_its_lines_as_origins() -> None:
    write(DOCUMENTED)
    for overrides, environ in (((f"distillation.config={Path('x.yaml')}",), {}), ((), {"KD_CFG_PATH": "x.yaml"})):
        resolved = load_experiment("tiny", overrides, environ)
        expected = DistillationConfig(config=str(Path("x.yaml").absolute()), temperature=2.0)
        assert resolved.config.distillation == expected
        assert resolved.origins["distillation.temperature"] == "file x.yaml"
        Path("resolved.yaml").write_text(dump_resolved(resolved))
        assert read_resolved(Path("resolved.yaml")).config == resolved.config
    assert problems_of("distillation.config=x.yaml") == []


def test_a_kd_config_lies_under_what_is_set_beside_it_and_over_what_is_weaker() -> None:
    write(DOCUMENTED)
    write("distillation: {temperature: 3.0, top_k: 5}\n", "e.yaml")
    base = ("model=tiny", "dataset=made-text")

    def loss_of(*overrides: str) -> tuple[float, int]:
        distillation = load_experiment("e.yaml", (*base, *overrides), {}).config.distillation
        return distillation.temperature, distillation.top_k

    assert loss_of() == (3.0, 5)
    assert loss_of("distillation.config=x.yaml") == (2.0, 0)
    assert loss_of("distillation.config=x.yaml", "distillation.temperature=4") == (4.0, 0)


def test_where_a_kd_config_lies_is_no_part_of_what_a_run_is() -> None:
    write(DOCUMENTED)
    write(DOCUMENTED, "y.yaml")
    one, other = (
        fingerprint(load_experiment("tiny", (f"distillation.config={name}",), {}).config)
        for name in ("x.yaml", "y.yaml")
    )
    assert one == other != fingerprint(load_experiment("tiny", (), {}).config)


def test_a_kd_config_with_another_meaning_than_in_the_scripts_says_so() -> None:
    write("skip_lm_loss: false\nkd_loss_scale: 0.5\nlogit_kl_topk: 16\n")
    resolved, problems = check_experiment("tiny", ("distillation.config=x.yaml",), {})
    assert problems == [] and resolved is not None
    loss = resolved.config.distillation
    assert (loss.skip_lm_loss, loss.kd_loss_scale, loss.top_k) == (False, 0.5, 16)
    assert [note.where for note in resolved.notes] == ["x.yaml line 1", "x.yaml line 3"]
    assert "CE + kd_loss_scale x KL" in resolved.notes[0].what


def test_a_scale_that_does_nothing_in_megatrons_scripts_does_nothing_here_and_is_noted() -> None:
    write("skip_lm_loss: true\nkd_loss_scale: 10.0\n")
    resolved, problems = check_experiment("tiny", ("distillation.config=x.yaml",), {})
    assert problems == [] and resolved is not None
    assert resolved.config.distillation.kd_loss_scale == 1
    assert [note.where for note in resolved.notes] == ["x.yaml line 2"]


@pytest.mark.parametrize(
    ("text", "named", "where"),
    [
        ("intermediate_layer_pairs: [[decoder.final_layernorm, decoder.final_layernorm, l1]]\n",
         "'l1' is no loss between layers: they are cosine and mse", "x.yaml line 1"),
        ("\nlogit_layers: [a, b]\n", "the logits that are compared are the output layers'", "x.yaml line 2"),
        ("logit_kl_temprature: 2\n", "'logit_kl_temprature' is not a key of a KD config", "x.yaml line 1"),
        ("criterion: mse\n", "criterion is made by Megatron's scripts themselves", "x.yaml line 1"),
        ("logit_kl_temperature: 0\n", "distillation.temperature = 0", "x.yaml line 1"),
        ("kd_loss_scale: [\n", "KD config: x.yaml is not YAML", "distillation.config"),
    ],
)  # fmt: skip
def test_what_a_kd_config_cannot_have_is_refused_with_its_line(text: str, named: str, where: str) -> None:
    write(text)
    ((what, place),) = problems_of("distillation.config=x.yaml")
    assert named in what and where in place


def test_a_kd_config_that_is_not_there_is_an_error() -> None:
    ((what, where),) = problems_of("distillation.config=absent.yaml")
    assert what == "KD config: absent.yaml cannot be read: No such file or directory"
    assert where == "command line: distillation.config=absent.yaml"
