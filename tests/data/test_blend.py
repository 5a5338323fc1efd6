from __future__ import annotations

import json
from pathlib import Path

import pytest

from qad_core.data.blend import Blend, BlendEntry, read_blend, token_file_pair, write_blend
from qad_core.errors import DataError


def make_token_files(*prefixes: Path) -> None:
    for prefix in prefixes:
        for file in token_file_pair(prefix):
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(b"x")


def write_json(tmp_path: Path, value: object) -> Path:
    path = tmp_path / "blend.json"
    path.write_text(json.dumps(value))
    return path


def test_a_datablend_of_the_scripts_loads_as_it_is(tmp_path: Path) -> None:
    stem, code = tmp_path / "stem_30pct_cot_chat_train_text_document", tmp_path / "code.v2_train_text_document"
    make_token_files(stem, code)
    value = {"train": [0.3, str(code), 0.7, str(stem)], "valid": ["1", str(stem)], "test": f"2.0 {code} 1 {stem}"}
    blend = read_blend(write_json(tmp_path, value))
    assert blend == Blend(
        train=(BlendEntry(0.3, code), BlendEntry(0.7, stem)),
        valid=(BlendEntry(1.0, stem),),
        test=(BlendEntry(2.0, code), BlendEntry(1.0, stem)),
    )


def test_what_is_written_is_read_back_also_after_the_folder_was_moved(tmp_path: Path) -> None:
    inside, outside = tmp_path / "data/train_text_document", tmp_path / "elsewhere/valid_text_document"
    make_token_files(inside, outside)
    blend = Blend(train=(BlendEntry(1.0, inside),), valid=(BlendEntry(0.5, outside),), test=())
    write_blend(tmp_path / "data/blend.json", blend)
    assert read_blend(tmp_path / "data/blend.json") == blend
    (tmp_path / "data").rename(tmp_path / "moved")
    assert read_blend(tmp_path / "moved/blend.json").train[0].prefix == tmp_path / "moved/train_text_document"


def test_a_relative_prefix_is_looked_for_in_the_working_directory_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    make_token_files(tmp_path / "tokens", tmp_path / "here/tokens")
    path = write_json(tmp_path, {"train": [1, "tokens"], "valid": [], "test": []})
    assert read_blend(path).train[0].prefix == Path("tokens")
    (tmp_path / "here/tokens.idx").unlink()
    assert read_blend(path).train[0].prefix == tmp_path / "tokens"


@pytest.mark.parametrize(
    ("value", "complaint"),
    [
        ([1, "p"], "holds a list, not an object"),
        ({"train": [], "test": []}, r"lacks the keys \['valid'\]"),
        ({"train": [1, "p", 2], "valid": [], "test": []}, "3 items, an odd number"),
        ({"train": ["p", 1], "valid": [], "test": []}, "weight 'p', which is not a number above 0"),
        ({"train": [0, "p"], "valid": [], "test": []}, "weight 0, which"),
        ({"train": [True, "p"], "valid": [], "test": []}, "weight True, which"),
        ({"train": [[1], "p"], "valid": [], "test": []}, r"weight \[1\], which"),
        ({"train": [1, 2], "valid": [], "test": []}, "prefix 2, which is not a path"),
        ({"train": {"p": 1}, "valid": [], "test": []}, '"train" in .* is a dict'),
    ],
)
def test_a_malformed_datablend_is_refused_with_the_value(tmp_path: Path, value: object, complaint: str) -> None:
    with pytest.raises(DataError, match=complaint):
        read_blend(write_json(tmp_path, value))


def test_a_file_that_is_not_json_or_not_there_is_refused(tmp_path: Path) -> None:
    (tmp_path / "blend.json").write_text('{"train": ')
    with pytest.raises(DataError, match="cannot be read"):
        read_blend(tmp_path / "blend.json")
    with pytest.raises(DataError, match="is not there"):
        read_blend(tmp_path / "none.json")


def test_every_missing_token_file_is_named_once(tmp_path: Path) -> None:
    make_token_files(tmp_path / "whole", tmp_path / "half")
    (tmp_path / "half.idx").unlink()
    value = {"train": [1, "whole", 1, "half"], "valid": [1, "half"], "test": [1, "gone"]}
    with pytest.raises(DataError) as caught:
        read_blend(write_json(tmp_path, value))
    named = caught.value.message.partition("not there: ")[2].split(", ")
    assert named == [str(tmp_path / file) for file in ("half.idx", "gone.bin", "gone.idx")]
