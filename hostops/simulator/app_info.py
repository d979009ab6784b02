"""What `app_info_print` prints: Steam's data of an app, in Valve's KeyValues."""

from collections.abc import Iterator, Mapping


def app_info_lines(app_id: str, build_id: str, *, is_garbled: bool = False) -> Iterator[str]:
    """Yield the lines; garbled, they say everything but the build."""
    public = {} if is_garbled else {"buildid": build_id, "timeupdated": "1785186678"}
    # The other build ids are not the one that is wanted, and the name holds what has to be escaped.
    branches = {"beta": {"buildid": "1", "pwdrequired": "1"}, "public": public}
    common = {"name": 'Left 4 Dead 2 Dedicated Server \\"simulated\\"', "buildid": "2"}
    return key_values({app_id: {"common": common, "depots": {"branches": branches}}})


def key_values(blocks: Mapping[str, object], indent: str = "") -> Iterator[str]:
    """Yield the lines of nested blocks and values."""
    for name, value in blocks.items():
        if isinstance(value, Mapping):
            yield f'{indent}"{name}"'
            yield f"{indent}{{"
            yield from key_values(value, indent + "\t")
            yield f"{indent}}}"
        else:
            yield f'{indent}"{name}"\t\t"{value}"'
