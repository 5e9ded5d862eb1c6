"""Which systems of the site a cluster has, and what was asked of them."""

import uuid
from typing import ClassVar

from django.db import models
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from beidou.base.fields import EncryptedTextField
from beidou.base.permissions import Access
from beidou.base.sentence_fields import SentenceField
from clusters.models import Cluster


class SiteSystem(models.Model):
    """One system of the site; its secret is never shown again."""

    access = Access(cluster="cluster")

    class Purpose(models.TextChoices):
        NETWORK = "network", _("network")
        TICKETS = "tickets", _("tickets")
        PROMETHEUS = "prometheus", "Prometheus"

    SIGNED: ClassVar[frozenset[str]] = frozenset({Purpose.NETWORK, Purpose.TICKETS})

    cluster = models.ForeignKey(
        Cluster, on_delete=models.CASCADE, related_name="site_systems", verbose_name=_("cluster")
    )
    purpose = models.CharField(_("purpose"), max_length=10, choices=Purpose.choices)
    url = models.CharField(
        _("address"),
        max_length=500,
        help_text=_("https://… ; what is secret belongs into the secret, not into the address."),
    )
    secret = EncryptedTextField(
        _("secret"),
        help_text=_(
            "Network and tickets: signs what is asked and answered, at least 16 characters. "
            "Prometheus: the bearer token, empty for none."
        ),
    )
    created_at = models.DateTimeField(_("created"), auto_now_add=True)

    class Meta:
        app_label = "operations"
        verbose_name = _("site system")
        verbose_name_plural = _("site systems")
        ordering = ["cluster__name", "purpose"]
        constraints = [
            models.UniqueConstraint(fields=["cluster", "purpose"], name="one_system_per_purpose")
        ]

    def __str__(self) -> str:
        return f"{self.get_purpose_display()} {self.cluster}"


class SiteRequest(models.Model):
    """One question to a system of the site, and what it answered.

    ``key`` is the same at each repetition, so that whoever gets the question twice knows it.  It
    is open until ``ended_at``; ``accepted_at`` says that the system has it and will call back.
    """

    access = Access(cluster="cluster")

    cluster = models.ForeignKey(Cluster, on_delete=models.CASCADE, related_name="+")
    purpose = models.CharField(max_length=10, choices=SiteSystem.Purpose.choices)
    key = models.UUIDField(default=uuid.uuid4, unique=True, editable=False)
    step = models.ForeignKey(
        "operations.Step", on_delete=models.CASCADE, null=True, related_name="site_requests"
    )
    order = models.OneToOneField(
        "operations.WorkOrder", on_delete=models.CASCADE, null=True, related_name="site_request"
    )
    host = models.CharField(max_length=255, blank=True)
    data = models.JSONField(default=dict, help_text="What is asked.")
    answer = models.JSONField(default=dict, help_text="What was answered so far.")
    seen = models.JSONField(default=list, help_text="Signatures of callbacks that were taken.")
    tries = models.PositiveSmallIntegerField(default=0)
    next_try_at = models.DateTimeField(null=True)
    last_error = SentenceField(limit=500, blank=True)
    created_at = models.DateTimeField(default=timezone.now)
    accepted_at = models.DateTimeField(null=True)
    ended_at = models.DateTimeField(null=True)

    class Meta:
        app_label = "operations"
        verbose_name = _("request to a site system")
        verbose_name_plural = _("requests to site systems")
        ordering = ["id"]
        indexes = [
            models.Index(
                fields=["next_try_at"],
                condition=models.Q(next_try_at__isnull=False),
                name="operations_site_requests_due",
            )
        ]

    def __str__(self) -> str:
        return str(self.key)
