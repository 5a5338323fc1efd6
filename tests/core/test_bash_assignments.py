from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qad_core.config.bash_assignments import Assignments, read_assignments
from qad_core.config.bash_expansion import LONGEST_VALUE, Surroundings
from qad_core.config.bash_words import BashSyntaxError

BASH = shutil.which("bash") or "/bin/bash"


def read(text: str, environ: Mapping[str, str] | None = None, *, environment_first: bool = True) -> Assignments:
    names = frozenset({"LR", "RUN_TAG", "MODELS_ROOT"})
    return read_assignments(text, Surroundings(environ or {}, names, environment_first, lambda name: "TOKEN" in name))


def texts(text: str, **environ: str) -> dict[str, str | None]:
    return {name: variable.text for name, variable in read(text, environ).variables.items()}


READ = [
    ('export A="x"', {"A": "x"}),
    ("A=x", {"A": "x"}),
    ("export A=1 B=2", {"A": "1", "B": "2"}),
    ("A=1 B=$A", {"A": "1", "B": "1"}),
    ("A=1\nexport A=2 B=$A", {"A": "2", "B": "1"}),  # export sees all its words before it sets any
    ("A=1; B=2", {"A": "1", "B": "2"}),
    ("B=b; A='x $B'\"z $B\"w", {"B": "b", "A": "x $Bz bw"}),
    (r"A=x\ y\#z", {"A": "x y#z"}),
    (r'A="a\"b\\c\$d\e"', {"A": r'a"b\c$d\e'}),
    ("export A=1 \\\n  B=2", {"A": "1", "B": "2"}),
    ('A="x\\\ny"', {"A": "xy"}),
    ("A='x\ny'", {"A": "x\ny"}),
    ("A=1 # B=2", {"A": "1"}),
    ("A=x#y", {"A": "x#y"}),
    ("A='# x' B=\"#\"", {"A": "# x", "B": "#"}),
    ("A=a; B=$A/${A}x", {"A": "a", "B": "a/ax"}),
    ("A=${B:-x} B=", {"A": "x", "B": ""}),
    ("B=; A=${B:-x} C=${B-y}", {"B": "", "A": "x", "C": ""}),
    ("A=${B:=x}/$B", {"B": "x", "A": "x/x"}),
    (': "${A:=x}"\n: ${B=y}', {"A": "x", "B": "y"}),
    ("A=${B:-${C:-${D:-x y}}}", {"A": "x y"}),
    ('A="${B:-"x y"} z"', {"A": "x y z"}),
    ("A=${B:-'x}'}", {"A": "x}"}),
    ("A=1; B=${A:+yes} C=${D:+yes}", {"A": "1", "B": "yes", "C": ""}),
    ("declare -x A=1\ntypeset -gx B=2", {"A": "1", "B": "2"}),
    ('export "A=x y"', {"A": "x y"}),
    ("A=1; unset A; unset -v B", {}),
    ("set -e\nset -euo pipefail\nset +x\nA=1", {"A": "1"}),
    ("A=x; A+=y", {"A": "xy"}),
    ("A=~/x:~ B=\"~/x\" C=x~", {"A": "/home/me/x:/home/me", "B": "~/x", "C": "x~"}),
    ("A=1\nA=2", {"A": "2"}),
    ("export A\nexport -n B=1", {"B": "1"}),
    ("A=$ B=a$%", {"A": "$", "B": "a$%"}),
    ("", {}),
    ("\n # nothing\n\n", {}),
]  # fmt: skip


@pytest.mark.parametrize(("text", "expected"), READ)
def test_what_is_read_is_what_bash_would_set(text: str, expected: dict[str, str | None]) -> None:
    found = read(text, {"HOME": "/home/me"})
    assert {name: variable.text for name, variable in found.variables.items()} == expected
    assert found.skipped == ()


NOT_READ = [
    ("if [ -f x ]; then\n  export A=1\nelse\n  B=2\nfi\nC=3", {"C": "3"}, [(1, "`if` (to line 5)"), (1, "A, B")]),
    ("for x in 1 2; do A=$x; done; C=3", {"C": "3"}, [(1, "`for`")]),
    ('case "$x" in a|if) A=1;; (b) B=2;; esac; C=3', {"C": "3"}, [(1, "`case`")]),
    ("f() {\n  A=1\n}\nfunction g {\n B=1\n}\nC=3", {"C": "3"}, [(1, "a function"), (4, "a function")]),
    ("source x.sh\n. y.sh\neval 'A=1'\nC=3", {"C": "3"}, [(1, "`source`"), (2, "`.`"), (3, "`eval`")]),
    ("A=(1 2)\nexport B=(3)\nC=3", {"A": None, "B": None, "C": "3"}, [(1, "array A"), (2, "array B")]),
    ("[ -n x ] && A=1\ntrue | cat\nC=3 > file\n", {}, [(1, "`&&`"), (2, "`|`"), (3, "`>`")]),
    ("export &\nx &", {}, [(1, "`&`"), (2, "`&`")]),
    ("A=1 &\n(B=2)\n{ C=3; }", {}, [(1, "`&`"), (2, "`(`"), (3, "`{`")]),
    ("cat <<EOF > f\nA=1\nexport B=\"x\nEOF\nC=3", {"C": "3"}, [(1, "`<<`")]),
    ("A=1 make B=2", {}, [(1, "a command")]),
    ("A= secret", {}, [(1, "`A=` has a space")]),
    ("A = 1", {}, [(1, "space before `=`")]),
    ("export A = 1", {}, [(1, "no NAME=value")]),
    ("declare -i A=1+2", {"A": None}, [(1, "`declare -i`")]),
    ("set -- A=1", {}, [(1, "`set`")]),
    ("C=3\nreturn 0\nA=1", {"C": "3"}, [(2, "what follows is not read")]),
]  # fmt: skip


@pytest.mark.parametrize(("text", "expected", "named"), NOT_READ)
def test_everything_else_is_not_run_but_named_with_its_line(
    text: str, expected: dict[str, str | None], named: list[tuple[int, str]]
) -> None:
    found = read(text)
    assert {name: variable.text for name, variable in found.variables.items()} == expected
    for line, part in named:
        assert any(item.line == line and part in item.what and item.hint for item in found.skipped), (line, part)


UNKNOWN = [
    ("A=$(date)", "what a command in $(...) prints"),
    ("A=x$(echo \"$(echo ')')\" '(' # ')\n)", "what a command in $(...) prints"),
    ("A=`date`", "what a command in backquotes prints"),
    ("A=$((1 + 2))", "what a command in $(...) prints"),
    ("A=$B", "B, which has no value here"),
    ("A=$HOME/x", "HOME, which has no value here"),
    ("A=${B:?must be set}", "B, which has no value here"),
    ("A=$1", "$1"),
    ("A=${B%.x}", "an expansion of another kind"),
    ("A=${#B}", "an expansion of another kind"),
    ("A=$'x'", "the quoting $'...'"),
    ("A=x\\", "a backslash at the end"),
    ("A=~root/x", "the home folder ~root"),
    ("A=$PWD/x", "PWD, which only a running bash knows"),
    ("export A={1,2}", "braces"),
    ("A=$A", "A, which has no value here"),
    ("B=$(x); A=$B", "B, whose value is not known"),
    ("A=1; A=$(x)", "what a command in $(...) prints"),
    ("HF_TOKEN=x; A=$HF_TOKEN", "the secret HF_TOKEN"),
]


@pytest.mark.parametrize(("text", "reason"), UNKNOWN)
def test_a_value_that_only_a_run_could_tell_is_not_guessed(text: str, reason: str) -> None:
    variable = read(text).variables["A"]
    assert variable.text is None
    assert reason in variable.reason


def test_the_last_assignment_gives_the_line() -> None:
    found = read('A=1\n\nexport B="x\ny" \\\n  A=2\n').variables
    assert (found["A"].line, found["B"].line) == (4 + 1, 3)


def test_a_setting_of_the_environment_counts_more_than_the_files_where_another_value_refers_to_it() -> None:
    text = 'export LR=${LR:-1e-6}\nexport RUN_TAG="lr$LR"\n'
    assert texts(text) == {"LR": "1e-6", "RUN_TAG": "lr1e-6"}
    assert texts(text, LR="1e-5") == {"LR": "1e-6", "RUN_TAG": "lr1e-5"}
    assert texts(': "${LR:=1e-6}"\nRUN_TAG=lr$LR', LR="1e-5") == {"LR": "1e-6", "RUN_TAG": "lr1e-5"}
    alone = read(text, {"LR": "1e-5"}, environment_first=False)
    assert {name: variable.text for name, variable in alone.variables.items()} == {"LR": "1e-6", "RUN_TAG": "lr1e-6"}


def test_what_came_from_the_environment_is_told() -> None:
    found = read('A=$MODELS_ROOT/x B=$HOME B="${SCRATCH:-/tmp}"', {"MODELS_ROOT": "/m", "HOME": "/h"})
    assert found.variables["A"].text == "/m/x"
    assert found.taken == {"MODELS_ROOT": "/m"}
    assert found.defaulted == {"SCRATCH"}


UNCLOSED = [
    ("A=1\nB='x\ny", 2, "single quote"),
    ('A=1\n\nB="x\n', 3, "double quote"),
    ("A=${B:-x\n", 1, "${"),
    ("A=1\nB=$(date\n", 2, "$("),
    ("A=`date\n", 1, "backquote"),
    ("A=1\nif x; then\nB=2\n", 2, "`if`"),
    ("cat <<EOF\nA=1\n", 1, "here-document"),
    ("A=1\n; B=2", 2, "nothing before it"),
    ("A=" + "${A:-" * 5000, 1, "nested too deeply"),
    ("A=" + "$(" * 5000, 1, "$("),
]


@pytest.mark.parametrize(("text", "line", "named"), UNCLOSED)
def test_text_without_its_end_is_an_error_with_the_line_of_its_start(text: str, line: int, named: str) -> None:
    with pytest.raises(BashSyntaxError) as caught:
        read(text)
    assert caught.value.line == line
    assert named in caught.value.message


def test_a_huge_or_growing_value_is_given_up_soon() -> None:
    start = time.monotonic()
    assert texts("A=" + "x" * 2**20)["A"] is None
    assert texts("A=" + "~\\a'b'" * 2**17)["A"] is None
    doubling = "A=xx\n" + "A=$A$A\n" * 100 + 'B="' + "$A" * 10_000 + '"'
    assert texts(doubling) == {"A": None, "B": None}
    assert len(texts("A=" + "x" * LONGEST_VALUE)["A"] or "") == LONGEST_VALUE
    assert time.monotonic() - start < 10


def bash_says(folder: Path, text: str, *names: str) -> list[str]:
    """What bash itself has in variables after sourcing a text; `-` for one that is not set."""
    (folder / "f").write_text(text, encoding="utf-8")
    shown = " ".join(f'"${{{name}--}}"' for name in names)
    command = [BASH, "--norc", "-c", f"source ./f >/dev/null; printf '%s\\0' {shown}"]
    environment = {"HOME": "/home/me", "PATH": "/nonexistent", "LC_ALL": "C.UTF-8"}
    ran = subprocess.run(command, cwd=folder, env=environment, capture_output=True, check=True, timeout=20)
    return ran.stdout.decode("utf-8", "surrogateescape").split("\0")[:-1]


@pytest.mark.parametrize(("text", "expected"), READ)
def test_the_expected_values_are_those_of_bash(tmp_path: Path, text: str, expected: dict[str, str | None]) -> None:
    known = {name: value for name, value in expected.items() if value is not None}
    assert bash_says(tmp_path, text, *known) == list(known.values()) or not known


# Printable characters and the blanks that people write; no control characters.
PRINTABLE = st.text(
    st.characters(codec="utf-8", exclude_categories=("Cc", "Cs"), include_characters="\t\n"), max_size=40
)


@settings(max_examples=60, deadline=None)
@given(PRINTABLE)
def test_quoted_values_agree_with_bash(tmp_path_factory: pytest.TempPathFactory, value: str) -> None:
    folder = tmp_path_factory.getbasetemp()
    single = value.replace("'", "")
    double = "".join(character for character in value if character not in '$`"').rstrip("\\")
    text = f"export A='{single}'\nexport B=\"{double}\"\n"
    assert list(texts(text).values()) == bash_says(folder, text, "A", "B")


FRAGMENTS = st.lists(
    st.sampled_from(
        ["A", "x", " ", '"', "'", "\\", "$A", "${A}", "${B:-", "${A-", "${A:=", "${B:+", "}", "#", ";", "\n", "~", "~/",
         ":", "\nA=", "\nexport B=", " B=", "+", "=", "$", "{", "\\\n", "unset A\n", "A+=", "é", "*", "!", "%",
         "set -e\n"]
    ),
    max_size=14,
).map("".join)  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(FRAGMENTS)
def test_whatever_is_read_without_a_word_agrees_with_bash(
    tmp_path_factory: pytest.TempPathFactory, fragment: str
) -> None:
    text = f"A={fragment}\n"
    try:
        found = read(text, {"HOME": "/home/me"})
    except BashSyntaxError:
        return
    known = {name: variable.text for name, variable in found.variables.items()}
    if found.skipped or None in known.values():
        return
    ours = [known.get(name, "-") for name in ("A", "B")]
    assert bash_says(tmp_path_factory.getbasetemp(), text, "A", "B") == ours
