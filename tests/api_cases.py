"""Every route of the API, found in the router, with what its viewset says about rights."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from django.db import models
from django.urls import NoReverseMatch, reverse

from beidou.api_urls import router
from beidou.base.permissions import Access, access_of

UNSAFE = ("post", "put", "patch", "delete")


@dataclass(frozen=True)
class Route:
    """One registered viewset."""

    prefix: str
    viewset: Any
    basename: str

    def __str__(self) -> str:
        return self.prefix

    @property
    def model(self) -> type[models.Model] | None:
        queryset = getattr(self.viewset, "queryset", None)
        return None if queryset is None else queryset.model

    @property
    def access(self) -> Access:
        return Access() if self.model is None else access_of(self.model)

    @property
    def is_of_clusters(self) -> bool:
        return self.access.cluster is not None

    @property
    def viewers_see_it(self) -> bool:
        return self.is_of_clusters and self.access.view_needs == "view"

    @property
    def actions(self) -> list[Any]:
        return list(self.viewset.get_extra_actions())

    def has(self, method: str) -> bool:
        """Whether one object can be asked with ``method``."""
        actions = {"get": "retrieve", "patch": "partial_update", "delete": "destroy"}
        return hasattr(self.viewset, actions[method]) and method in self.viewset.http_method_names

    def url(self, name: str, *args: Any) -> str | None:
        try:
            return reverse(f"{self.basename}-{name}", args=args)
        except NoReverseMatch:
            return None


@dataclass(frozen=True)
class Verb:
    """One extra action of a viewset with one of its methods."""

    route: Route
    action: Any
    method: str

    def __str__(self) -> str:
        return f"{self.route}:{self.method}:{self.action.__name__}"

    def url(self, pk: Any) -> str | None:
        args = (pk,) if self.action.detail else ()
        return self.route.url(self.action.url_name, *args)


ROUTES = [Route(*entry) for entry in router.registry]


def _verbs() -> Iterator[Verb]:
    for route in ROUTES:
        for action in route.actions:
            for method in action.mapping:
                yield Verb(route, action, method)


VERBS = list(_verbs())
