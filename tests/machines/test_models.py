"""What the fields of machines take."""

import pytest
from django.core.exceptions import ValidationError

from machines.models import Machine, validate_labels


@pytest.mark.parametrize(
    "name", ["bad_host", "extra_1!", "-a", "a-", "a..b", ".a", "a b", "x" * 64]
)
def test_what_cannot_be_a_hostname_is_refused(name):
    with pytest.raises(ValidationError):
        Machine._meta.get_field("hostname").run_validators(name)


@pytest.mark.parametrize("name", ["bj-r12-11", "A1", "node-1.example.internal", "7"])
def test_hostnames_as_nodes_have_them_are_taken(name):
    Machine._meta.get_field("hostname").run_validators(name)


@pytest.mark.parametrize(
    "labels", [{"a\n": "b"}, {"a": "b\n"}, {"a ": "b"}, {"-a": "b"}, {"x/": "b"}, {"a": 1}]
)
def test_what_kubernetes_takes_for_no_label_is_refused(labels):
    with pytest.raises(ValidationError):
        validate_labels(labels)


@pytest.mark.parametrize("labels", [{}, {"a": ""}, {"example.com/zone": "A.b_c-1"}])
def test_labels_as_kubernetes_has_them_are_taken(labels):
    validate_labels(labels)
