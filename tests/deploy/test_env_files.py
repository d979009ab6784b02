"""Files of settings: read as systemd reads them, complete when they are written, and then only added to."""

from pathlib import Path

import pytest

from deploy.installer import env_files, settings_files
from deploy.installer.errors import InstallError
from tests.systemd.sandbox import REPOSITORY

PAGE = settings_files.read_page(REPOSITORY)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("PLAIN=a b=c \n", "a b=c"),
        ("  MOVED =\t x\r\n", "x"),
        ("QUOTED=\"in 'marks' \" \n", "in 'marks' "),
        ("SINGLE='a \\ \"b\" # '", 'a \\ "b" # '),
        ("JOINED='a' \"b\"c 'd'", "abc 'd'"),
        ("EMPTY=", ""),
        ("ESCAPED=b\\c\\\\d\\ ", "bc\\d "),
        ('DOUBLE="\\"q\\" \\\\ \\$x \\`y\\` \\n"', '"q" \\ $x `y` \\n'),
        ("CONTINUED=a\\\n  b\\\n", "a  b"),
        ("LINES='a\nB=1'", "a\nB=1"),
        ('OPEN="a\nB=1', "a\nB=1"),
        ("SEPARATORS=a\x85\u2028b", "a\x85\u2028b"),
        ("TWICE=1\nTWICE=2", "2"),
        ("# A=1\n ;B=1\nlower\n=C=1\nexport D=1\n1E=1\nÄ=1\nLAST=x", "x"),
    ],
)
def test_it_reads_what_systemd_reads(text: str, wanted: str) -> None:
    """All this was compared with systemd 252, as well as random texts of these characters."""
    assert list(env_files.parse(text).values()) == [wanted]


def test_what_versions_of_systemd_read_differently_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "worker.env"
    path.write_text("A=1\n# C:\\\nB=2\n")
    with pytest.raises(InstallError, match=r"worker\.env: The comment in line 2 ends with a back"):
        env_files.read(path)
    path.write_bytes(b"A=1\nB=\xe4\n")
    with pytest.raises(InstallError, match=r"Line 2 of .*worker\.env is not UTF-8"):
        env_files.read(path)
    path.write_bytes(b"A=1\nB=2\n#\0\n")
    with pytest.raises(InstallError, match=r"Line 3 of .*worker\.env has a NUL character"):
        env_files.read(path)


@pytest.mark.parametrize(
    "value", ["plain=x #y", "pa\\ss", '"q" $HOME `x`', "'", " blanks ", "é \\\\", "", "#x"]
)
def test_what_it_writes_is_read_as_it_was(value: str) -> None:
    text = env_files.render({"BEFORE": "1", "VALUE": value}, {}, "Heading")
    assert env_files.parse(text)["VALUE"] == value
    changed = env_files.change("A='x\nVALUE=no'\nVALUE =\"old\ntext\"\nB=2\n", {"VALUE": value})
    assert env_files.parse(changed) == {"A": "x\nVALUE=no", "VALUE": value, "B": "2"}


@pytest.mark.parametrize("value", ["two\nlines", "\x1b", "a\u2028b", "\udce4"])
def test_a_value_that_no_line_can_have_is_refused(value: str) -> None:
    with pytest.raises(InstallError, match="KEY has a character in its value"):
        env_files.as_line("KEY", value)


@pytest.mark.parametrize("end", ['OPEN="x\n', "OPEN='x"])
def test_nothing_is_added_behind_a_value_that_does_not_end(end: str) -> None:
    with pytest.raises(InstallError, match="Its last value does not end"):
        env_files.add_missing(f"A=1\n{end}", {"KEY": "k"}, {})


def test_a_new_file_sets_what_it_was_given_and_explains_all_the_rest() -> None:
    described = env_files.describe(PAGE)
    text = env_files.render({"HOST_DRIVER": "systemd"}, described, "Heading")
    assert env_files.parse(text) == {"HOST_DRIVER": "systemd"}
    for name, (default, _) in described.items():
        assert name == "HOST_DRIVER" or f"\n#{name}={default}\n" in text


def test_defaults_that_are_a_sentence_are_not_taken_for_values() -> None:
    described = env_files.describe(PAGE)
    assert described["HOST_ADDRESS"][0] == ""
    assert described["PORT"][0] == "8000"
    assert described["BIND"][0] == "127.0.0.1"
    assert described["ALLOWED_HOSTS"][0] == "127.0.0.1,localhost,[::1]"


def test_a_release_from_before_that_page_explains_its_settings_in_the_readme(
    tmp_path: Path,
) -> None:
    (tmp_path / "README.md").write_text("| `PORT` | `8000` | where it listens |\n")
    page = settings_files.read_page(tmp_path)
    assert env_files.describe(page) == {"PORT": ("8000", "where it listens")}


def test_adding_what_is_missing_leaves_every_line_that_is_there() -> None:
    described = {"NEW": ("1", "What is new."), "OLD": ("2", "Old."), "QUIET": ("3", "Commented.")}
    before = "OLD=mine\n#QUIET=9\n"
    text = env_files.add_missing(before, {"OLD": "theirs", "KEY": "k"}, described)
    assert text.startswith(before)
    assert env_files.parse(text) == {"OLD": "mine", "KEY": "k"}
    assert text.count("QUIET") == 1
    assert "# What is new.\n#NEW=1" in text
    assert env_files.add_missing(text, {"OLD": "theirs", "KEY": "k"}, described) == text
