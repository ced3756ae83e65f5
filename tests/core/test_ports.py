"""What the models reach through, filled at start-up."""

import pytest

from django_hookflow.core import ports
from django_hookflow.exceptions import ConfigurationError


@pytest.fixture
def installed():
    before = ports.codec(), ports.controls()
    yield before
    ports.install(codec=before[0], controls=before[1])


def test_what_was_installed_is_had(installed):
    ports.install(codec=installed[0], controls="controls")
    assert ports.codec() is installed[0]
    assert ports.controls() == "controls"
    ports.install(codec="codec", controls=installed[1])
    assert ports.codec() == "codec"
    assert ports.controls() is installed[1]


@pytest.mark.parametrize("port", [ports.codec, ports.controls])
def test_before_the_app_is_ready_the_error_says_what_to_add(installed, port):
    ports.install(codec=None, controls=None)
    with pytest.raises(ConfigurationError, match='add "django_hookflow" to INSTALLED_APPS'):
        port()
