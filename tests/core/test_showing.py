import pytest

from django_hookflow.core.showing import MOST, has_surrogate, show


class Broken:
    def __repr__(self):
        raise RuntimeError


def test_a_short_value_is_shown_whole():
    assert show({"a": 1}) == "{'a': 1}"
    longest = "x" * (MOST - 2)
    assert show(longest) == repr(longest)


def test_a_long_value_is_cut_to_the_limit():
    assert show("x" * (MOST - 1)) == "'" + "x" * (MOST - 4) + "..."
    assert len(show("x" * 10_000)) == MOST


@pytest.mark.parametrize(
    ("value", "shown"), [(Broken(), "<Broken>"), (10**5000, "<int>")], ids=["raising", "huge"]
)
def test_a_value_without_a_repr_is_shown_by_its_type(value, shown):
    assert show(value) == shown


@pytest.mark.parametrize("text", ["\ud800", "a\udbff", "\udc00b", "\udfffz"])
def test_lone_surrogates_are_found(text):
    assert has_surrogate(text)


@pytest.mark.parametrize("text", ["", "abc", "é", "\ud7ff", "\ue000", "😀"])
def test_other_text_has_none(text):
    assert not has_surrogate(text)
