import pytest

from django_hookflow.core.addresses import is_loopback


@pytest.mark.parametrize(
    "url",
    [
        "http://localhost",
        "http://LOCALHOST:8000/x",
        "http://app.localhost/",
        "http://127.0.0.1:8080",
        "http://127.255.0.9",
        "http://[::1]:8080/",
    ],
)
def test_this_machine(url):
    assert is_loopback(url) is True


@pytest.mark.parametrize(
    "url",
    [
        "https://app.example",
        "http://notlocalhost",
        "http://localhost.example",
        "http://128.0.0.1",
        "http://[::2]/",
        "http://[::1",
        "http://",
        "localhost",
        "",
    ],
)
def test_elsewhere_or_no_url(url):
    assert is_loopback(url) is False
