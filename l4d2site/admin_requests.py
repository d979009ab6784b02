"""What every admin page accepts from a request, whichever package has registered its model.

Django trusts staff with a lot: lookups over any column, values that no database can compare, thousands of
rows.
"""

from collections.abc import Iterator
from functools import cache
from typing import Any, cast

from django.contrib.admin import ListFilter, ModelAdmin
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.contrib.admin.options import BaseModelAdmin, IncorrectLookupParameters, InlineModelAdmin
from django.contrib.admin.views.main import ChangeList
from django.contrib.admin.widgets import AutocompleteSelect
from django.core.exceptions import BadRequest, FieldDoesNotExist, ValidationError
from django.db.models import QuerySet
from django.db.models.constants import LOOKUP_SEP
from django.forms import ModelMultipleChoiceField
from django.http import HttpRequest, HttpResponse
from django.utils.translation import gettext as _

COMPARISONS = frozenset(
    [
        *("exact", "iexact", "contains", "icontains", "startswith", "istartswith"),
        *("gt", "gte", "lt", "lte", "isnull"),
    ]
)
"""How an address may compare. SQLite leaves `regex` to Python, whose time may double with each character."""

SEARCH_CHARS = 200
"""How much of a search is read. Each word is a condition, and SQLite refuses a thousand of them."""

MOST_INLINE_ROWS = 200
"""The most inline rows read from a form: with five fields each, Django accepts no more fields."""


def is_value_of(field: Any, value: Any) -> bool:
    """Return whether a column can have this value."""
    try:
        field.clean(value, None)
    except ValidationError:
        return False
    return True


class CheckedAutocomplete(AutocompleteSelect):
    """A searchable choice. A value that cannot be a key chooses nothing, instead of failing."""

    def optgroups(self, name: str, value: Any, attrs: Any = None) -> Any:
        """Return the options to show: those of the chosen rows."""
        return super().optgroups(name, [one for one in value if self.is_key(one)], attrs)

    def is_key(self, value: Any) -> bool:
        """Return whether a row of the other model can have this key."""
        return is_value_of(self.field.target_field, value)


class CheckedChoices(ModelMultipleChoiceField):  # type: ignore[type-arg]
    """Several rows of another model. What cannot be a key is a fault, where SQLite would fail to compare it."""

    def clean(self, value: Any) -> Any:
        """Refuse the first value that cannot be a key; a list that is none is judged as Django does."""
        primary_key = cast("QuerySet[Any]", self.queryset).model._meta.pk
        for key in value if isinstance(value, list | tuple) else []:
            if not is_value_of(primary_key, key):
                raise ValidationError(
                    self.error_messages["invalid_choice"],
                    code="invalid_choice",
                    params={"value": key},
                )
        return super().clean(value)


class CheckedFields(BaseModelAdmin):  # type: ignore[type-arg]
    """Forms whose fields can be shown again, without failing, whatever an address or a form has sent."""

    def formfield_for_foreignkey(self, db_field: Any, request: HttpRequest, **kwargs: Any) -> Any:
        """Return the field for a relation."""
        if db_field.name in self.get_autocomplete_fields(request) and "widget" not in kwargs:
            kwargs["widget"] = CheckedAutocomplete(db_field, self.admin_site)
        return super().formfield_for_foreignkey(db_field, request, **kwargs)

    def formfield_for_manytomany(self, db_field: Any, request: HttpRequest, **kwargs: Any) -> Any:
        """Return the field for several rows of another model."""
        kwargs.setdefault("form_class", CheckedChoices)
        return super().formfield_for_manytomany(db_field, request, **kwargs)


class CheckedRequests(CheckedFields, ModelAdmin):  # type: ignore[type-arg]
    """Keeps a list from revealing columns that it does not show, and from failing on odd values."""

    def lookup_allowed(self, lookup: str, value: str, request: HttpRequest) -> bool:
        """Return whether an address may filter by that: only by what the list, its filters and search show.

        Otherwise people could find out what is in a column that they may not read, by whether a row is listed.
        """
        path, _separator, comparison = lookup.rpartition(LOOKUP_SEP)
        if comparison not in COMPARISONS:
            path = lookup
        is_shown = path in self.find_shown_paths(request)
        return is_shown and super().lookup_allowed(lookup, value, request)

    def find_shown_paths(self, request: HttpRequest) -> set[str]:
        """Return the columns that the list, its filters and its search show, and the parameters of filters."""
        paths = {str(name) for name in self.get_list_display(request)}
        paths |= {str(name).lstrip("^=@") for name in self.get_search_fields(request)}
        for one in self.get_list_filter(request):
            if isinstance(one, type) and issubclass(one, ListFilter):
                paths.add(str(getattr(one, "parameter_name", "")))
            else:
                paths.add(str(one[0] if isinstance(one, tuple | list) else one))
        return paths | {f"{path}{LOOKUP_SEP}{key}" for path in paths for key in self.find_key(path)}

    def find_key(self, path: str) -> Iterator[str]:
        """Yield the name of the key of a relation: Django's filters compare it, as `host__id__exact`."""
        try:
            field = self.opts.get_field(path)
        except FieldDoesNotExist:
            return
        if key := getattr(field, "target_field", None):
            yield key.name

    def get_changelist_instance(self, request: HttpRequest) -> ChangeList:
        """Return the list; without the filters, as Django does, if the database cannot compare their values."""
        try:
            return super().get_changelist_instance(request)
        except OverflowError as error:  # More digits, or a later year, than a column can have.
            raise IncorrectLookupParameters from error

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        """Return what the beginning of a search finds."""
        return super().get_search_results(request, queryset, search_term[:SEARCH_CHARS])

    def get_object(
        self, request: HttpRequest, object_id: str, from_field: str | None = None
    ) -> Any:
        """Return the row with this key. An empty `_to_field` names no column."""
        return super().get_object(request, object_id, from_field or None)

    def response_action(  # type: ignore[override] # django-stubs knows another parameter.
        self, request: HttpRequest, queryset: QuerySet[Any], **of_later: Any
    ) -> HttpResponse | None:
        """Run an action on the chosen rows, if the values that name them can be keys.

        `of_later` are arguments that later versions of Django add, as 6.1 does.
        """
        chosen = request.POST.getlist(ACTION_CHECKBOX_NAME)
        if not all(is_value_of(self.opts.pk, key) for key in chosen):
            raise BadRequest(_("No row can have the key that was chosen."))
        return super().response_action(request, queryset, **of_later)

    def get_inlines(self, request: HttpRequest, obj: Any) -> list[Any]:
        """Return the inline rows, with forms that check what they get."""
        return [check_inline(inline) for inline in super().get_inlines(request, obj)]


class CheckedInline(CheckedFields, InlineModelAdmin):  # type: ignore[type-arg]
    """Inline rows, at most as many as a form can send."""

    def get_formset(self, request: HttpRequest, obj: Any = None, **kwargs: Any) -> Any:
        """Return the forms. Otherwise Django would make two thousand if a request claims to have that many."""
        formset = super().get_formset(request, obj, **kwargs)
        formset.absolute_max = min(formset.max_num, MOST_INLINE_ROWS)
        return formset


@cache
def check_inline(inline: type[Any]) -> type[Any]:
    """Return the same inline rows with forms that check what they get."""
    return type(inline.__name__, (CheckedInline, inline), {"__module__": inline.__module__})
