"""Files of settings: read as systemd reads them, complete when they are written, and then only added to."""

from pathlib import Path

from deploy.installer import env_files, settings_files
from tests.systemd.sandbox import REPOSITORY

PAGE = settings_files.read_page(REPOSITORY)


def test_it_reads_what_systemd_reads() -> None:
    text = (
        "# PLAIN=no\n\nPLAIN=a b=c\n  QUOTED=\"in marks\"\nSINGLE='one'\nEMPTY=\n;OLD=no\nlower\n"
    )
    wanted = {"PLAIN": "a b=c", "QUOTED": "in marks", "SINGLE": "one", "EMPTY": ""}
    assert env_files.parse(text) == wanted


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
