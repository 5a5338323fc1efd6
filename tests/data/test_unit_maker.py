from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from qad_core.config.schema import SourceConfig
from qad_core.data.fast_encoder import ReferenceEncoder
from qad_core.data.sources import Piece, Unit
from qad_core.data.unit_maker import UnitFiles, UnitMaker
from qad_core.models.tokenizer import BytesTokenizer

UNIT = Unit("made", 0, (Piece(""),))
TOKEN = np.dtype(np.uint16)


@pytest.fixture
def maker(tmp_path: Path) -> UnitMaker:
    return UnitMaker(
        folder=tmp_path,
        sources={"made": SourceConfig(kind="made", max_characters=20_000)},
        encoder=ReferenceEncoder(BytesTokenizer()),
        apply_chat_template=str,
        open_answer=None,
        eod_id=None,
        token_dtype=TOKEN,
        digest_seed=0,
    )


def is_whole(maker: UnitMaker) -> bool:
    return UnitFiles(maker.folder, UNIT).read_counts(TOKEN, masked=False) is not None


def test_a_unit_that_is_made_a_second_time_stays_whole_meanwhile(maker: UnitMaker) -> None:
    seen: list[bool] = []
    for _ in range(2):
        maker.make(UNIT, print, lambda tokens, characters: seen.append(is_whole(maker)))
    half = len(seen) // 2
    assert half and seen == [False] * half + [True] * half
    assert sorted(path.suffix for path in maker.folder.iterdir()) == [".json", ".npy", ".tokens"]


@pytest.mark.parametrize("suffix", [".json", ".npy", ".tokens"])
@pytest.mark.parametrize("keep", [None, 0, 1, 100])
def test_a_unit_with_a_file_cut_or_lost_counts_as_missing(maker: UnitMaker, suffix: str, keep: int | None) -> None:
    maker.make(UNIT, print, lambda tokens, characters: None)
    assert is_whole(maker)
    path = next(maker.folder.glob(f"*{suffix}"))
    data = path.read_bytes()
    path.unlink()
    if keep is not None:
        path.write_bytes(data[:keep])
    assert not is_whole(maker)
