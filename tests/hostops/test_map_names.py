"""The map that was meant is found whatever names there are, and before anybody loses patience."""

import random
import time

import pytest

from hostops.map_names import drop_folder, find_nearest, find_similar

MAPS = {"c5m1_waterfront", "c1m1_hotel", "c4m1_milltown_a", "c4m1_milltown_b"}


@pytest.mark.parametrize(
    ("asked", "meant"),
    [
        ("c5m1_waterfont", "c5m1_waterfront"),
        ("maps/C5M1_waterfont", "c5m1_waterfront"),
        ("c4m1_miltown_a", "c4m1_milltown_a"),
        ("hotel", "c1m1_hotel"),
        ("x", None),
    ],
)
def test_the_nearest_map_is_found_if_one_is_near(asked: str, meant: str | None) -> None:
    assert find_nearest(asked, MAPS) == meant


def test_names_that_somebody_has_thought_up_for_that_are_compared_within_seconds() -> None:
    dice = random.Random(15)
    names = {"".join(dice.choices("ab", k=128)) for _ in range(5_000)}
    began_at = time.thread_time()
    assert find_nearest("ab" * 64, names) in {None, *names}
    assert time.thread_time() - began_at < 5
    assert find_nearest("c5m1_waterfont", {*names, *MAPS}) == "c5m1_waterfront"


def test_only_the_folder_of_maps_is_dropped() -> None:
    assert drop_folder("Maps/c1m1_hotel") == "c1m1_hotel"
    assert drop_folder("maps\\c1m1_hotel") == "c1m1_hotel"
    assert drop_folder("c1m1_hotel") == drop_folder("mapsx/c1m1_hotel") == ""


def test_several_similar_names_come_with_the_nearest_first() -> None:
    names = {"c1m1_hotel", "c1m1_motel", "c8m5_rooftop"}
    assert find_similar("c1m1_hotle", names, 3) == ["c1m1_hotel", "c1m1_motel"]
    assert find_similar("c1m1_hotle", names, 1) == ["c1m1_hotel"]
