"""Real Chromium before the real server, as operations have it."""

from pathlib import Path

import pytest

from tests.operations.browser.conftest import open_page, portal  # noqa: F401  fixtures


def pytest_collection_modifyitems(items):
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.browser)
            item.add_marker(pytest.mark.django_db(transaction=True))
