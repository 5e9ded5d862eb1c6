"""Columns for sentences: language-neutral in the database, in the reader's language when loaded."""

from typing import TYPE_CHECKING, Any

from django.db import models

from beidou.base.sentences import Sentence, from_column, neutral, spoken, to_column
from beidou.base.storable import storable

if TYPE_CHECKING:
    _TextField = models.TextField[str, str]
else:
    _TextField = models.TextField


class SentenceField(_TextField):
    """A sentence or a plain text; a plain one, and each text put into a sentence, is cut at
    ``limit``.  What no column takes is replaced by a sign."""

    def __init__(self, *args: Any, limit: int = 1000, **kwargs: Any) -> None:
        self.limit = limit
        super().__init__(*args, **kwargs)

    def deconstruct(self) -> Any:
        name, path, args, kwargs = super().deconstruct()
        return name, path, args, {**kwargs, "limit": self.limit}

    def get_prep_value(self, value: Any) -> Any:
        value = super().get_prep_value(value)
        if isinstance(value, Sentence):
            value = value.each(lambda text: storable(text[: self.limit]))
        elif isinstance(value, str):
            value = value[: self.limit]
        return storable(to_column(value)) if isinstance(value, str) else value

    def from_db_value(self, value: str | None, expression: Any, connection: Any) -> str | None:
        return value if value is None else from_column(value)


class SentencesField(models.JSONField):
    """JSON in which texts may be sentences; what no column takes is replaced by a sign."""

    def get_prep_value(self, value: Any) -> Any:
        return super().get_prep_value(storable(neutral(value)))

    def from_db_value(self, value: Any, expression: Any, connection: Any) -> Any:
        return spoken(super().from_db_value(value, expression, connection))
