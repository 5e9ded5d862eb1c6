"""Tags of the home page: numbers that lead to the lists behind them."""

from django import template
from django.db.models import Model
from django.template import Context
from django.urls import reverse
from django.utils.formats import number_format
from django.utils.html import format_html
from django.utils.safestring import SafeString

from beidou.base import display, permissions
from beidou.overview import links
from beidou.overview.figures import Counted
from operations.kinds.base import KINDS

register = template.Library()


@register.simple_tag
def figure(counted: Counted, label: object = "", *, tone: str = "", name: str = "") -> SafeString:
    """``tone`` colours the number where it is not zero; ``name`` makes its address in the page
    unique, by which the refresh finds the focus again."""
    anchor = f"figure-{name or 'all'}-{counted.key}"
    content = format_html(
        '<span class="bd-figure-number{}">{}</span> <span class="bd-figure-label">{}</span>',
        f" bd-tone-{tone}" if tone and counted.count else "",
        number_format(counted.count, force_grouping=True),
        label or str(counted.label).lower(),
    )
    if not counted.url:
        return format_html('<span class="bd-figure" id="{}">{}</span>', anchor, content)
    return format_html(
        '<a class="bd-figure" id="{}" href="{}">{}</a>', anchor, counted.url, content
    )


@register.simple_tag
def state_word(model: str, state: str, label: str) -> SafeString:
    """The badge of a state without a row that has it."""
    return display.badge(label, display.tone_of(state, model))


@register.filter
def number(value: int) -> str:
    """Grouped by thousands as the language does it."""
    return number_format(value, force_grouping=True)


@register.filter
def kind_title(name: str) -> str:
    """What people call the kind of an operation; its own name where the kind is gone."""
    kind = KINDS.get(name)
    return str(kind.title) if kind else name


@register.filter
def page(obj: Model) -> str:
    return links.page(obj)


@register.simple_tag
def listing(label: str, **lookups: object) -> str:
    return links.listing(label, **lookups)


@register.simple_tag(takes_context=True)
def events_address(context: Context) -> str:
    """The event centre, for somebody who sees single namespaces and no cluster."""
    if not permissions.namespaces_of(context["request"].user).exists():
        return ""
    return links.listing("events.Event")


@register.simple_tag
def adopt_address() -> str:
    """Where clusters are adopted: the add page of the cluster list."""
    return reverse("admin:clusters_cluster_add") if links.listing("clusters.Cluster") else ""
