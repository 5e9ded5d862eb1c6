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


@pytest.mark.parametrize(
    "address",
    ["127.0.0.1", "0.0.0.0", "255.255.255.255", "224.0.0.1", "::1", "::", "fe80::1", "169.254.1.1"],
)  # fmt: skip
def test_where_no_other_host_can_be_no_machine_is(address, admin, api):
    answer = api(admin).post("/api/v1/machines/", {"address": address}, format="json")
    assert answer.status_code == 400
    assert answer.json()["fields"]["address"] == "No machine can be reached at this address."


@pytest.mark.parametrize("field", ["cpus", "memory_mib"])
def test_a_number_that_no_host_has_is_refused(field, admin, api):
    given = {"address": "10.8.3.11", field: 99_999_999_999}
    answer = api(admin).post("/api/v1/machines/", given, format="json")
    assert (answer.status_code, list(answer.json()["fields"])) == (400, [field])


def test_no_address_at_all_is_still_told_as_such(admin, api):
    answer = api(admin).post("/api/v1/machines/", {"address": "nowhere"}, format="json")
    assert "valid IPv4 or IPv6 address" in answer.json()["fields"]["address"]
