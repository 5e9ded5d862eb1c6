"""Install the points when the portal starts."""

from django.apps import AppConfig


class Durability(AppConfig):
    name = "tests.operations.durability"
    label = "durability"

    def ready(self) -> None:
        from tests.operations.durability import looks, points  # noqa: PLC0415  need the models

        points.install()
        looks.install()
