import sys

from django.apps import AppConfig
from django.contrib import admin
from django.contrib.admin import apps as admin_apps
from django.utils.translation import gettext_lazy as _


class OverviewConfig(AppConfig):
    name = "beidou.overview"
    label = "overview"
    verbose_name = _("Operations centre")
    default = True


class PortalAdminConfig(admin_apps.SimpleAdminConfig):
    """Django's admin with our site in place of its own."""

    default = False  # named in the settings by its own address
    default_site = "beidou.overview.site.PortalSite"

    def ready(self) -> None:
        super().ready()
        # The collector shows no pages, and has its memory for nodes and pods.  If it needs the
        # address of one, the URLs load them.
        if sys.argv[1:2] != ["collect"]:
            admin.autodiscover()
