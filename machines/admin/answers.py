"""How a page says what a service answered."""

from collections.abc import Iterator
from contextlib import contextmanager

from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest

from beidou.base.errors import BeidouError, Forbidden


@contextmanager
def said_on_page(request: HttpRequest) -> Iterator[None]:
    """Show a refusal as a message of the next page; a missing right is a 403."""
    try:
        yield
    except Forbidden as error:
        raise PermissionDenied(error.message) from error
    except BeidouError as error:
        messages.error(request, error.message)
