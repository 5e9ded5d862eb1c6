"""When which template is begun on which machines, and who answers for it."""

from django.conf import settings
from django.core.validators import MaxValueValidator, MinValueValidator, RegexValidator
from django.db import models
from django.db.models import Q
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from beidou.base.permissions import Access
from beidou.base.sentence_fields import SentenceField
from clusters.models import Cluster
from operations.models import Operation

EVERY_LEAST = 5  # minutes
EVERY_MOST = 366 * 1440


class TaskSchedule(models.Model):
    """Whoever saved it last is its owner: each task is begun with their rights at that time."""

    access = Access(cluster="cluster")

    name = models.CharField(
        _("name"),
        max_length=60,
        unique=True,
        validators=[RegexValidator(r"\A[a-z0-9]([a-z0-9-]{0,58}[a-z0-9])?\Z")],
        help_text=_("Small letters, digits and inner hyphens; its tasks are called so."),
    )
    cluster = models.ForeignKey(
        Cluster,
        on_delete=models.CASCADE,
        related_name="task_schedules",
        verbose_name=_("cluster"),
    )
    template = models.CharField(
        _("template"),
        max_length=40,
        help_text=_("The version that is newest when the schedule is saved is begun each time."),
    )
    # What the owner has seen: whoever writes templates must not decide what is done with the
    # rights of somebody else.
    template_version = models.PositiveIntegerField(_("version"), default=0, editable=False)
    versions_below = models.JSONField(default=dict, editable=False)
    machines = models.TextField(
        _("machines"),
        blank=True,
        max_length=20000,
        help_text=_(
            "Addresses, ranges, networks, hostnames or serial numbers, looked up each time; empty, "
            "where every step can be done with a whole cluster: all of its machines."
        ),
    )
    params = models.JSONField(
        _("parameters"),
        default=dict,
        blank=True,
        help_text=_("JSON, as at the start of a task with the template."),
    )
    cron = models.CharField(
        _("cron expression"),
        max_length=100,
        blank=True,
        help_text=_("minute hour day month weekday, like “30 2 * * sat”; or give an interval."),
    )
    every_minutes = models.PositiveIntegerField(
        _("every … minutes"),
        null=True,
        blank=True,
        validators=[MinValueValidator(EVERY_LEAST), MaxValueValidator(EVERY_MOST)],
        help_text=_("Instead of a cron expression."),
    )
    time_zone = models.CharField(
        _("time zone"),
        max_length=64,
        blank=True,
        help_text=_("Of the cron expression, like Europe/Berlin; empty: that of the portal."),
    )
    batch_size = models.PositiveIntegerField(
        _("machines per batch"), default=0, help_text=_("0: all of them at once.")
    )
    batch_pause = models.PositiveIntegerField(
        _("seconds between batches"), default=0, validators=[MaxValueValidator(7 * 86400)]
    )
    max_failed_percent = models.PositiveSmallIntegerField(
        _("stop when more than this share of the machines failed, %"),
        default=100,
        validators=[MaxValueValidator(100)],
    )
    priority = models.CharField(
        _("priority"),
        max_length=6,
        choices=Operation.Priority.choices,
        default=Operation.Priority.NORMAL,
        help_text=_("Which begins first where not all can; high is for who may approve."),
    )
    reason = models.CharField(_("reason"), max_length=400, blank=True)
    enabled = models.BooleanField(_("enabled"), default=True)
    owner = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        on_delete=models.SET_NULL,
        null=True,
        editable=False,
        related_name="+",
        verbose_name=_("owner"),
    )
    owner_name = models.CharField(_("owner"), max_length=150, blank=True, editable=False)
    next_at = models.DateTimeField(_("next"), null=True, editable=False)
    last_at = models.DateTimeField(_("last begun"), null=True, editable=False)
    last_task = models.ForeignKey(
        "operations.AutoOperationTask",
        on_delete=models.SET_NULL,
        null=True,
        editable=False,
        related_name="+",
        verbose_name=_("last task"),
    )
    # Why the last time was passed over or put off, or why it was switched off by the portal.
    message = SentenceField(_("message"), limit=500, blank=True, editable=False)
    created_at = models.DateTimeField(_("created"), default=timezone.now, editable=False)

    class Meta:
        app_label = "operations"
        verbose_name = _("schedule of tasks")
        verbose_name_plural = _("schedules of tasks")
        ordering = ["name"]
        indexes = [
            models.Index(
                fields=["next_at"], condition=Q(enabled=True), name="operations_schedules_due"
            )
        ]

    def __str__(self) -> str:
        return self.name
