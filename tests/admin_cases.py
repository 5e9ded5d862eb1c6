"""What every page of the admin must answer to the four people of the tests.

The expectation is derived from the model's ``access`` and from nothing else, so that a page which
forgets to ask for rights, or asks in its own way, differs from it.
"""

from dataclasses import dataclass
from typing import Any

from django.contrib import admin
from django.db import models
from django.urls import reverse

from beidou.base.admin import ReadOnlyAdmin
from beidou.base.permissions import Access, access_of

PAGES = sorted(admin.site._registry.items(), key=lambda item: item[0]._meta.label)
QUERIES_LIST_MAX = 15
QUERIES_OBJECT_MAX = 45


@dataclass(frozen=True)
class Case:
    """One registered model and its page."""

    model: type[models.Model]
    page: Any

    def __str__(self) -> str:
        return self.model._meta.label

    @property
    def access(self) -> Access:
        return access_of(self.model)

    @property
    def is_read_only(self) -> bool:
        return isinstance(self.page, ReadOnlyAdmin)

    @property
    def is_of_clusters(self) -> bool:
        return self.access.cluster is not None

    @property
    def viewers_see_it(self) -> bool:
        """Whether the role Viewer on the row's cluster is enough to see the row."""
        return self.is_of_clusters and self.access.view_needs == "view"

    def url(self, page: str, *args: Any) -> str:
        meta = self.model._meta
        return reverse(f"admin:{meta.app_label}_{meta.model_name}_{page}", args=args)


CASES = [Case(model, page) for model, page in PAGES]
OF_CLUSTERS = [case for case in CASES if case.is_of_clusters]
FOR_VIEWERS = [case for case in CASES if case.viewers_see_it]
FOR_ADMINISTRATORS = [
    case
    for case in CASES
    if case.access == Access() or (case.is_of_clusters and not case.viewers_see_it)
]
EVERYBODY = ("admin", "operator", "viewer", "stranger")
