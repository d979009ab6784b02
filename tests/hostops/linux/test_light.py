"""The launcher's replacements for parts of the standard library behave the same."""

import json
import math
import subprocess
import sys

import pytest
from django.conf import settings

from hostops.linux.light import dump_json, load_json, suppress


@pytest.mark.parametrize(
    "document",
    [
        {},
        {"run": 3, "at": 1764208252.25, "is_boxed": True, "address": "", "none": None},
        {"walls": [["Own root", True, "", ""]], "lower": ["a", ["b"]], "empty": []},
        'a "quoted" \\ text\nwith é, \U0001f600 and a lone \udcff',
        [-1, 0, 10**20, -1e300, 0.1],
        math.inf,
    ],
)
def test_it_writes_and_reads_what_json_does(document: object) -> None:
    assert dump_json(document) == json.dumps(document)
    assert load_json(f" {json.dumps(document, indent=2)}\n") == document


@pytest.mark.parametrize(
    "text", ["", " ", "{", "nul", "[1] 2", "{'a': 1}", '"\n"', '{"a": 1},', "\0"]
)
def test_what_is_not_one_document_is_a_value_error(text: str) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        json.loads(text)
    with pytest.raises(ValueError, match=r"\w"):
        load_json(text)


def test_what_has_no_form_in_json_is_a_type_error() -> None:
    with pytest.raises(TypeError, match="cannot be written as JSON"):
        dump_json({"path": object()})


@pytest.mark.parametrize("missing", ["_json = None", "_json.make_encoder = lambda: None"])
def test_another_python_uses_json_itself(missing: str) -> None:
    program = (
        f"import sys, _json, json\n{missing}\nsys.modules['_json'] = _json\n"
        "from hostops.linux import light\n"
        "assert light.load_json is json.loads and light.dump_json is json.dumps\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, cwd=settings.BASE_DIR)


def test_only_the_named_exceptions_are_suppressed() -> None:
    with suppress(KeyError, OSError):
        raise FileNotFoundError
    with pytest.raises(ValueError, match="other"), suppress(KeyError, OSError):
        raise ValueError("other")
    with suppress():
        pass
