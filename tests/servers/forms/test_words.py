"""What forms say about faults: the panel's words instead of Django's, but never instead of a field's own."""

from django import forms
from django.core.validators import MinValueValidator

from servers.forms.words import PlainForm


class OneForm(PlainForm, forms.Form):
    """A form with a fault in each field."""

    name = forms.CharField(max_length=3)
    port = forms.IntegerField(min_value=1024)
    count = forms.IntegerField(validators=[MinValueValidator(3, "Three at the least.")])
    mode = forms.ChoiceField(choices=[("coop", "coop")])
    own = forms.ChoiceField(choices=[], error_messages={"invalid_choice": "That is gone."})


def faults_of(**typed: str) -> dict[str, list[str]]:
    return {name: [str(text) for text in texts] for name, texts in OneForm(typed).errors.items()}


def test_faults_are_told_in_the_panels_words_and_a_fields_own_stay() -> None:
    assert faults_of(name="long", port="80", count="2", mode="x", own="x") == {
        "name": ["Use at most 3 characters. This has 4."],
        "port": ["Use 1024 or more."],
        "count": ["Three at the least."],
        "mode": ["Choose one from the list."],
        "own": ["That is gone."],
    }


def test_what_is_missing_and_what_is_no_number() -> None:
    faults = faults_of(name="a\0", port="many", mode="coop")
    assert faults["name"] == ["Remove the NUL character."]
    assert faults["port"] == ["Enter a whole number."]
    assert faults["count"] == ["Fill this in."]
