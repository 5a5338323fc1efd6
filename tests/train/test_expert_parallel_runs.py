"""A mixture of experts trains the same run under every layout over ranks, and may change it at a resume."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from megatron.core import dist_checkpointing

from qad_core.config.schema import ParallelismConfig
from qad_core.run.calibration import read_unseen, unseen_words
from qad_core.run.folder import RunFolder, iteration_folder
from qad_core.train.parallel import initialize_parallel, shut_down_parallel
from tests.train.expert_runs import TINY_MOE, Layout, do_jobs, make_job
from tests.train.tiny_run import gradient_norms_of, losses_of, make_run

ONE_RANK, TP2_EP2 = Layout(), Layout(tensor=2, expert=2)
LAYOUTS = {
    "EP2": Layout(expert=2),
    "EP4": Layout(expert=4),
    "TP2xEP2": TP2_EP2,
    "PP2xEP2": Layout(pipeline=2, expert=2),
    "TP2xPP2xEP2": Layout(tensor=2, pipeline=2, expert=2),
}
MODEL = "tiny-moe"
TOLERANCE = 1e-4
WEIGHTS_ONLY = ("quantization.activations=false",)  # no rounding flips then, see test_parallel_runs.py
FEW_TOKENS = (
    "model.architecture.num_moe_experts=32",
    "train.train_samples=8",  # one step
    "quantization.calibration_sequences=1",
    "quantization.weight_scales=mse",
)
"""32 tokens that go to 2 experts each: not all experts see one. Block scales of weights are held."""


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory, data_cache: Path) -> Iterator[Path]:
    """Folder of the runs: each layout's, and one that is stopped after three steps and goes on on one rank.

    `stopped` is that one's checkpoint, `moved` the same after a load and a save on one rank, where it then goes on, and
    `back` after another in the first layout. `few tokens` are of one step, after a calibration on 32 tokens.
    """
    root = tmp_path_factory.mktemp("experts")
    make_run(root / "data", data_cache, TINY_MOE)
    do_jobs(
        [
            make_job(root / "one", data_cache, ONE_RANK, WEIGHTS_ONLY),
            *(make_job(root / name, data_cache, layout, WEIGHTS_ONLY) for name, layout in LAYOUTS.items()),
            make_job(root / "stopped", data_cache, TP2_EP2, (*WEIGHTS_ONLY, "train.exit_iteration=3")),
            make_job(root / "stopped", data_cache, ONE_RANK, WEIGHTS_ONLY, save_into=root / "moved"),
            make_job(root / "moved", data_cache, TP2_EP2, WEIGHTS_ONLY, save_into=root / "back"),
            make_job(root / "moved", data_cache, ONE_RANK, WEIGHTS_ONLY),
            make_job(root / "few tokens, one", data_cache, ONE_RANK, FEW_TOKENS),
            make_job(root / "few tokens, TP2xEP2", data_cache, TP2_EP2, FEW_TOKENS),
            make_job(root / "few tokens, TP2xEP2", data_cache, ONE_RANK, FEW_TOKENS, save_into=root / "few, moved"),
        ]
    )
    initialize_parallel(ParallelismConfig(), device="cpu")  # reading a checkpoint's tensors takes a process group
    yield root
    shut_down_parallel()


@pytest.mark.parametrize("name", LAYOUTS)
def test_every_layout_gives_the_single_ranks_losses_and_gradients(name: str, runs: Path) -> None:
    ours, theirs = RunFolder(runs / name), RunFolder(runs / "one")
    assert len(losses_of(theirs)) == 5
    assert losses_of(ours) == pytest.approx(losses_of(theirs), rel=TOLERANCE)
    assert gradient_norms_of(ours) == pytest.approx(gradient_norms_of(theirs), rel=TOLERANCE)


def test_a_run_goes_on_under_another_layout(runs: Path) -> None:
    moved, theirs = RunFolder(runs / "moved"), RunFolder(runs / "one")
    assert losses_of(moved) == pytest.approx(losses_of(theirs)[3:], rel=TOLERANCE)
    assert gradient_norms_of(moved) == pytest.approx(gradient_norms_of(theirs)[3:], rel=TOLERANCE)


def test_weights_and_optimizer_survive_a_change_of_layout_and_back_bit_for_bit(runs: Path) -> None:
    stopped, moved, back = (tensors_of(runs / name, step=3) for name in ("stopped", "moved", "back"))
    weight = "decoder.layers.1.mlp.experts.linear_fc2.weight"
    assert weight in stopped
    assert f"chained_1.optimizer.state.exp_avg.{weight}" in stopped
    assert differing(stopped, moved) == differing(stopped, back) == []
    few = (tensors_of(runs / name, step=1) for name in ("few tokens, TP2xEP2", "few, moved"))
    assert differing(*few) == []  # with quantized activations and held block scales


def test_experts_that_calibration_sent_no_token_take_the_layers_largest_amax_and_are_named(runs: Path) -> None:
    said = [unseen_lines(runs / f"few tokens, {name}") for name in ("one", "TP2xEP2")]
    assert said[0] == said[1] and len(said[0]) == 1
    kept, same = (read_unseen(RunFolder(runs / f"few tokens, {name}").calibration) for name in ("one", "TP2xEP2"))
    assert said[0] == [unseen_words(kept)]
    assert [layer.layer for layer in kept] == [layer.layer for layer in same] == [0, 1]
    unseen = list(kept[0].experts)
    assert list(same[0].experts) == unseen and 0 < len(unseen) < 32
    amax = tensors_of(runs / "few tokens, one", step=1)["decoder.layers.0.mlp.experts.linear_fc1.input_quantizer._amax"]
    assert amax.shape == (32,)
    assert torch.equal(amax[unseen], amax.max().expand(len(unseen)))
    assert len(amax.unique()) > 4  # each of the others has its own


def test_every_layout_calibrates_to_the_same_scales(runs: Path) -> None:
    one, sharded = (tensors_of(runs / f"few tokens, {name}", step=1) for name in ("one", "TP2xEP2"))
    scales = [name for name in one if "experts" in name and name.endswith("_amax")]
    assert len(scales) == 2 * 2 * 3  # layers, linears: of inputs, of weights and of their blocks
    for name in scales:
        torch.testing.assert_close(sharded[name], one[name], rtol=1e-5, atol=0)
    assert not [name for name in one if name.endswith("_amax") and ("router" in name or "output_layer" in name)]


def tensors_of(folder: Path, step: int) -> dict[str, torch.Tensor]:
    """Every whole tensor of a run's checkpoint."""
    checkpoint = iteration_folder(RunFolder(folder).checkpoints(MODEL), step)
    loaded = dist_checkpointing.load_plain_tensors(str(checkpoint))
    return {name: value for name, value in loaded.items() if isinstance(value, torch.Tensor)}


def differing(ours: dict[str, torch.Tensor], theirs: dict[str, torch.Tensor]) -> list[str]:
    """Names of the tensors that are not the same, bit for bit."""
    assert ours.keys() == theirs.keys()
    return [name for name in ours if not torch.equal(ours[name], theirs[name])]


def unseen_lines(folder: Path) -> list[str]:
    """What the first rank's first log says of experts without tokens, without the time."""
    log = min(path for path in RunFolder(folder).logs.glob("*_qad_*.log") if "_rank" not in path.name)
    return [line.split("WARNING ")[1] for line in log.read_text().splitlines() if "saw no token" in line]
