from django.apps import AppConfig
from django.db.models.signals import post_migrate
from django.utils.translation import gettext_lazy as _


class BaseConfig(AppConfig):
    name = "beidou.base"
    label = "base"
    verbose_name = _("Access and audit")
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from beidou.base import notices, signals, tasks

        signals.connect()
        notices.register(notices.Kind("account.locked_out", _("Name locked out")))
        post_migrate.connect(tasks.apply_schedules, dispatch_uid="beidou-schedules")
