"""Which labels a selector means, as Kubernetes decides it."""

import pytest

from clusters.drivers.selectors import RawRequirement, RawSelector, Requirement, selector


@pytest.mark.parametrize(
    ("operator", "values", "labels", "holds"),
    [
        ("In", ("a", "b"), {"k": "b"}, True),
        ("In", ("a",), {"k": "c"}, False),
        ("In", ("a",), {}, False),
        ("NotIn", ("a",), {"k": "b"}, True),
        ("NotIn", ("a",), {}, True),
        ("NotIn", ("a",), {"k": "a"}, False),
        ("Exists", (), {"k": ""}, True),
        ("Exists", (), {}, False),
        ("DoesNotExist", (), {}, True),
        ("DoesNotExist", (), {"k": "x"}, False),
        ("Gt", ("5",), {"k": "6"}, True),
        ("Gt", ("5",), {"k": "5"}, False),
        ("Lt", ("5",), {"k": "4"}, True),
        ("Lt", ("5",), {"k": "many"}, False),
        ("Lt", (), {"k": "4"}, False),
        ("Resembles", ("a",), {"k": "a"}, False),
    ],
)
def test_an_operator_holds_as_in_kubernetes(operator, values, labels, holds):
    assert Requirement("k", operator, values).holds(labels) is holds


def test_no_selector_means_nothing_and_an_empty_one_everything():
    assert selector(None) is None
    assert selector(RawSelector()).matches({})


def test_labels_and_expressions_must_all_hold():
    found = selector(RawSelector({"app": "web"}, [RawRequirement("tier", "In", ["front", "back"])]))
    assert found.matches({"app": "web", "tier": "back"})
    assert not found.matches({"app": "web"})
    assert str(found) == "app in (web),tier in (front,back)"
