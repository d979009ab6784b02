"""`script/mutate`: its mutations fit the code as it is now."""

import pytest

from tests.mutations import MUTATIONS, PROJECT_DIR, Mutation


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.what)
def test_a_mutation_changes_one_place_and_names_its_test(mutation: Mutation) -> None:
    assert (PROJECT_DIR / mutation.path).read_text().count(mutation.text) == 1
    assert mutation.instead != mutation.text
    assert (PROJECT_DIR / mutation.test).is_file()
