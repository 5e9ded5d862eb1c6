"""The theme's settings: name, marks, colours, navigation, search and languages."""

from typing import Any

from django.http import HttpRequest
from django.templatetags.static import static
from django.utils.translation import gettext_lazy as _


def _file(name: str) -> Any:
    """The address of a static file, asked for when a page needs it: names carry a digest."""

    def address(request: HttpRequest) -> str:
        return static(name)

    return address


# Tailwind's blue: white on 600 has a contrast of 5.2, 500 on the dark ground one of 5.6.
_PRIMARY = {
    "50": "oklch(97% .014 254.604)",
    "100": "oklch(93.2% .032 255.585)",
    "200": "oklch(88.2% .059 254.128)",
    "300": "oklch(80.9% .105 251.813)",
    "400": "oklch(70.7% .165 254.624)",
    "500": "oklch(68% .169 255)",
    "600": "oklch(54.6% .245 262.881)",
    "700": "oklch(48.8% .243 264.376)",
    "800": "oklch(42.4% .199 265.638)",
    "900": "oklch(37.9% .146 265.522)",
    "950": "oklch(28.2% .091 267.935)",
}

UNFOLD: dict[str, Any] = {
    "SITE_TITLE": "Beidou",
    "SITE_HEADER": "Beidou",
    "SITE_SUBHEADER": _("Fleets of clusters and machines"),
    "SITE_URL": None,  # the admin is the site: there is no other to go back to
    "SITE_ICON": _file("beidou/logo.svg"),
    "SITE_FAVICONS": [
        {"rel": "icon", "sizes": "any", "type": "image/svg+xml", "href": _file("beidou/logo.svg")}
    ],
    "SHOW_HISTORY": True,
    "SHOW_VIEW_ON_SITE": False,
    "SHOW_LANGUAGES": True,
    "SHOW_BACK_BUTTON": False,
    "BORDER_RADIUS": "6px",
    "COLORS": {
        "primary": _PRIMARY,
        # The theme's own subtle grey on its ground is below 4.5.
        "font": {
            "subtle-light": "var(--color-base-600)",
            "subtle-dark": "var(--color-base-400)",
            "default-light": "var(--color-base-700)",
            "default-dark": "var(--color-base-300)",
            "important-light": "var(--color-base-900)",
            "important-dark": "var(--color-base-100)",
        },
    },
    "ENVIRONMENT": "beidou.overview.navigation.environment",
    "STYLES": [_file("beidou/display.css"), _file("beidou/app.css")],
    "SCRIPTS": [_file("beidou/display.js"), _file("beidou/app.js")],
    "ACCOUNT": {"navigation": "beidou.overview.navigation.account"},
    "LANGUAGES": {"action": "beidou.overview.navigation.language_address"},
    # The history would stay in the browser for whoever signs in next.
    "COMMAND": {"show_history": False},
    "SIDEBAR": {
        "show_search": True,
        "command_search": True,
        "show_all_applications": False,
        "navigation": "beidou.overview.navigation.sidebar",
    },
}
