from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _


class NotificationsConfig(AppConfig):
    name = "notifications"
    verbose_name = _("Notifications")

    def ready(self) -> None:
        from beidou.base import companions, notices, tasks
        from notifications import process
        from notifications.services import following

        companions.register("messenger", process.main)
        notices.register_teller(following.fate_of, following.may_be_told)
        tasks.register(
            tasks.Periodic(
                "notifications: forget old ones",
                "notifications.tasks.forget_old",
                60,
                "deletes notices and messages older than BEIDOU_NOTICE_DAYS",
            )
        )
