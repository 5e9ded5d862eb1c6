from django.apps import AppConfig
from django.contrib.admin import apps as admin_apps
from django.utils.translation import gettext_lazy as _


class OverviewConfig(AppConfig):
    name = "beidou.overview"
    label = "overview"
    verbose_name = _("Operations centre")
    default = True


class PortalAdminConfig(admin_apps.AdminConfig):
    """Django's admin with our site in place of its own."""

    default = False  # named in the settings by its own address
    default_site = "beidou.overview.site.PortalSite"
