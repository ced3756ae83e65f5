import pytest

from django_hookflow.core.tags import check_tags


def test_tags_are_pairs_of_text():
    assert check_tags({"shop": "EU ", "order": 42}) == (("order", "42"), ("shop", "EU "))
    assert check_tags({"k" * 100: "v" * 200}) == (("k" * 100, "v" * 200),)
    assert check_tags({"below": -7}) == (("below", "-7"),)
    assert check_tags({"large": 10**199}) == (("large", "1" + 199 * "0"),)
    assert check_tags(None) == check_tags({}) == ()


@pytest.mark.parametrize(
    ("tags", "told"),
    [
        ([("a", "b")], "tags is a dict"),
        ("a=b", "tags is a dict"),
        ({1: "a"}, "a tag's key is a str of 1 to 100 characters, not 1"),
        ({"": "a"}, "a tag's key has 1 to 100"),
        ({"k" * 101: "a"}, "a tag's key has 1 to 100"),
        ({"a\x00": "a"}, "NUL"),
        ({"a": ""}, "the value of tag 'a' has 1 to 200"),
        ({"a": "v" * 201}, "the value of tag 'a' has 1 to 200"),
        ({"a": True}, "or a whole number, not True"),
        ({"a": 1.5}, "or a whole number, not 1.5"),
        ({"a": None}, "or a whole number, not None"),
        ({"a": 10**200}, "or a whole number"),
        ({"a": 10**5000}, "or a whole number"),
        ({"a": "\ud800"}, "surrogate"),
    ],
)
def test_what_is_no_tag_is_refused(tags, told):
    with pytest.raises((TypeError, ValueError), match=told):
        check_tags(tags)
