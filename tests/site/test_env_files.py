"""Settings files: what each line means, and what is said about a line that must be a mistake."""

from pathlib import Path

import environ
import pytest

from l4d2site.env_files import EnvFileError, EnvFiles, parse
from tests.site.test_settings import load

SECRET = "hunter2-hunter2-hunter2"

GOOD = """\
# A comment
   # and one that is moved in

PLAIN=value
export EXPORTED=value
SINGLE='with blanks and # and \\n'
DOUBLE="a \\"quoted\\" word, a \\\\ and \\n"
HASH=abc#def
EMPTY=
EQUALS=postgres://user:a=b@host/name?x=y
"""


def test_it_reads_what_django_environ_reads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / ".env"
    path.write_text(GOOD)
    theirs: dict[str, str] = {}
    monkeypatch.setattr(environ.Env, "ENVIRON", theirs)
    environ.Env.read_env(path)
    ours = {name: one.value for name, one in parse(path, path.read_bytes(), {}).items()}
    assert ours == theirs
    assert len(ours) == 7


def test_windows_line_ends_and_a_byte_order_mark_are_no_part_of_it() -> None:
    settings = parse(Path(".env"), b"\xef\xbb\xbfPORT=8001\r\nDEBUG=true\r\n", {})
    assert {name: one.value for name, one in settings.items()} == {"PORT": "8001", "DEBUG": "true"}


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (b"SECRET_KEY " + SECRET.encode(), "it is neither NAME=VALUE nor a comment"),
        (SECRET.encode(), "it is neither NAME=VALUE nor a comment"),
        (b"SECRET_KEY = " + SECRET.encode(), "write SECRET_KEY=VALUE"),
        (b"SECRET_KEY: " + SECRET.encode(), "write SECRET_KEY=VALUE"),
        (b'SECRET_KEY="' + SECRET.encode(), "the value of SECRET_KEY begins with a quotation mark"),
        (b"SECRET_KEY='" + SECRET.encode() + b'"', "the value of SECRET_KEY begins with"),
        (b'SECRET_KEY="' + SECRET.encode() + b'" # mine', "put a comment on a line of its own"),
        (b"SECRET_KEY=" + SECRET.encode() + b'"', "the value of SECRET_KEY ends with"),
        (b"SECRET_KEY='", "the value of SECRET_KEY begins with"),
        (b"SECRET_KEY=\xfc" + SECRET.encode(), "it is not UTF-8"),
        (b"SECRET_KEY=\0" + SECRET.encode(), "it has a NUL character"),
        (b"SECRET_KEY=$" + SECRET.encode(), "the value of SECRET_KEY begins with a dollar sign"),
    ],
)
def test_a_line_that_cannot_be_meant_so_is_named_without_its_value(line: bytes, said: str) -> None:
    with pytest.raises(EnvFileError) as refused:
        parse(Path("/etc/some.env"), b"# mine\nDEBUG=false\n" + line + b"\n", {})
    assert str(refused.value).startswith("Line 3 of /etc/some.env is wrong: ")
    assert said in str(refused.value)
    assert "hunter2" not in str(refused.value)


def test_two_lines_that_disagree_are_both_named() -> None:
    with pytest.raises(EnvFileError, match=r"lines 1 and 3 set PORT to different values"):
        parse(Path(".env"), b"PORT=1\nPORT=1\nPORT=2\n", {})
    assert parse(Path(".env"), b"PORT=1\nPORT=1\n", {})["PORT"].value == "1"


def test_a_dollar_sign_stands_for_a_variable_that_is_there() -> None:
    data = b"URL=postgres://a/b\nDATABASE_URL=$URL\nPANEL_URL=$OTHER\n"
    assert parse(Path(".env"), data, {"OTHER": "x"})["DATABASE_URL"].value == "$URL"


def test_the_environment_wins_over_files_and_the_first_file_over_the_next(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    first.write_text("A=first\nB=first\n")
    second.write_text("A=second\nB=second\nC=second\n")
    files = EnvFiles(environment := {"A": "environment"})
    for path in (first, second, tmp_path / "missing"):
        files.read(path)
    assert environment == {"A": "environment", "B": "first", "C": "second"}
    assert files.place_of("A") == ""
    assert files.place_of("B") == f" (line 2 of {first})"
    assert files.place_of("C") == f" (line 3 of {second})"
    assert files.unread == ""


# --- As programs start ------------------------------------------------------------------------


@pytest.fixture
def var_dir(tmp_path: Path) -> Path:
    """Return a VAR_DIR for the test."""
    (tmp_path / "var").mkdir()
    return tmp_path / "var"


def test_a_program_ends_with_one_line_that_names_file_and_line(var_dir: Path) -> None:
    (var_dir / "local.env").write_text(f'GAME_SOURCE=simulator\nSECRET_KEY="{SECRET}\n')
    answer = load(VAR_DIR=str(var_dir), SECRET_KEY=None)
    assert answer.returncode == 1
    assert answer.stderr.startswith(f"saferoom: Line 2 of {var_dir}/local.env is wrong: ")
    assert answer.stderr.count("\n") == 1
    assert "hunter2" not in answer.stderr


def test_a_number_that_is_none_is_told_with_its_line(var_dir: Path) -> None:
    (var_dir / "local.env").write_text("\nPORT=8000 # mine\nBODY_MAX_BYTES=3\n")
    answer = load(VAR_DIR=str(var_dir))
    assert answer.stderr == (
        f"saferoom: PORT is '8000 # mine' (line 2 of {var_dir}/local.env), but must be a port number.\n"
    )


def test_a_file_of_another_account_is_named_where_a_setting_is_missing(var_dir: Path) -> None:
    # A folder in its place cannot be read by root either.
    (var_dir / "local.env").mkdir()
    answer = load(VAR_DIR=str(var_dir), SECRET_KEY=None)
    assert answer.stderr.startswith("saferoom: SECRET_KEY is not set.")
    assert f"{var_dir}/local.env cannot be read: Is a directory." in answer.stderr
    assert load(VAR_DIR=str(var_dir)).returncode == 0
