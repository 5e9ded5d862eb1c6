"""How a page says what a service answered."""

from collections.abc import Iterator
from contextlib import contextmanager

from django.contrib import messages
from django.http import HttpRequest

from beidou.base.errors import SAID


@contextmanager
def said_on_page(request: HttpRequest) -> Iterator[None]:
    """Show a refusal as a message of the next page; a missing right passes and becomes a 403."""
    try:
        yield
    except SAID as error:
        messages.error(request, error.message)
