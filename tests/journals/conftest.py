from collections.abc import Callable

import pytest
from django.conf import settings

from tests.journals.bench import Bench, MemoryBench, OrmBench

KINDS: dict[str, Callable[[], Bench]] = {
    "memory": MemoryBench,
    **{alias: (lambda alias=alias: OrmBench(alias)) for alias in settings.DATABASES},
}


@pytest.fixture(params=list(KINDS))
def bench(request: pytest.FixtureRequest) -> Bench:
    """Each journal in turn; the test carries ``django_db(databases="__all__")``."""
    return KINDS[request.param]()


@pytest.fixture
def orm(alias: str) -> OrmBench:
    """The ORM journal on each database in turn, by a virtual clock."""
    return OrmBench(alias)
