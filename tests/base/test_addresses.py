"""Where a secret may go that was given for an address."""

import pytest

from beidou.base.addresses import is_other_host


@pytest.mark.parametrize(
    ("old", "new", "is_other"),
    [
        ("https://a/x", "https://A/y?z", False),
        ("https://a/x", "https://b/x", True),
        ("https://a/x", "https://a:8443/x", True),
        ("https://a.example/x", "https://a.example@b/x", True),
        ("https://a/x", "https://[::1/x", True),
        ("https://a/x", "a/x", True),
    ],
)
def test_another_host_or_service_is_another(old, new, is_other):
    assert is_other_host(old, new) == is_other
