"""Who is told of what, by which way, and what became of each message.

Notices (``beidou.base.notices``) are what happened.  A rule says which of them concern whom; a
receiver is a way to tell somebody; a delivery is one message to one receiver.
"""

import uuid
from typing import Any, ClassVar

from django.conf import settings
from django.contrib.auth.models import Group
from django.db import models
from django.db.models import Q
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from beidou.base.fields import EncryptedTextField
from beidou.base.models import Notice
from beidou.base.permissions import Access
from beidou.base.sentence_fields import SentenceField, SentencesField
from clusters.models import Cluster


class Receiver(models.Model):
    """A way to tell somebody: mailboxes, a webhook, a chat.  Its secrets are never shown again."""

    access = Access(team="team")

    class Channel(models.TextChoices):
        EMAIL = "email", _("e-mail")
        WEBHOOK = "webhook", _("signed webhook")
        SLACK = "slack", "Slack"
        DINGTALK = "dingtalk", "DingTalk"
        FEISHU = "feishu", "Feishu"
        WECOM = "wecom", "WeCom"

    CHATS = frozenset({Channel.SLACK, Channel.DINGTALK, Channel.FEISHU, Channel.WECOM})

    name = models.CharField(_("name"), max_length=100, unique=True)
    # CASCADE: without its team a receiver would be the fleet's, and hear of every cluster.
    team = models.ForeignKey(
        Group,
        on_delete=models.CASCADE,
        null=True,
        blank=True,
        related_name="+",
        verbose_name=_("team"),
        help_text=_("It is told only what this team may see; empty: the whole fleet."),
    )
    channel = models.CharField(_("channel"), max_length=10, choices=Channel.choices)
    addresses = models.TextField(
        _("addresses"), blank=True, help_text=_("E-mail: one address per line, at most 50.")
    )
    webhook_url = models.CharField(
        _("address of the webhook"),
        max_length=500,
        blank=True,
        help_text=_("https://… ; what is secret belongs into the secret, not into the address."),
    )
    secret = EncryptedTextField(
        _("secret of the webhook"), help_text=_("Signs each message; at least 16 characters.")
    )
    service_url = EncryptedTextField(
        _("address of the chat"),
        help_text=_(
            "As apprise writes it: slack://…, dingtalk://…, feishu://… or wecombot://… with the "
            "tokens of the bot."
        ),
    )
    language = models.CharField(
        _("language"), max_length=10, choices=settings.LANGUAGES, default="en"
    )
    enabled = models.BooleanField(_("enabled"), default=True)
    tested_at = models.DateTimeField(_("last tested"), null=True, editable=False)
    test_result = SentenceField(_("result of the test"), limit=500, blank=True, editable=False)
    created_at = models.DateTimeField(_("created"), auto_now_add=True)

    class Meta:
        verbose_name = _("receiver")
        verbose_name_plural = _("receivers")
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name


class NotificationRule(models.Model):
    """Which news are told to which receivers."""

    access = Access(team="team")
    audited_relations = ("clusters", "receivers")

    class Scope(models.TextChoices):
        ALL = "all", _("all clusters")
        LABELS = "labels", _("clusters with labels")
        CHOSEN = "chosen", _("chosen clusters")

    name = models.CharField(_("name"), max_length=100, unique=True)
    team = models.ForeignKey(
        Group,
        on_delete=models.CASCADE,
        null=True,
        blank=True,
        related_name="+",
        verbose_name=_("team"),
        help_text=_("It tells only of what this team may see; empty: of the whole fleet."),
    )
    kinds = models.JSONField(
        _("kinds"), default=list, blank=True, help_text=_("What is told; none chosen: everything.")
    )
    severity = models.CharField(
        _("severity at least"),
        max_length=8,
        choices=Notice.Severity.choices,
        default=Notice.Severity.WARNING,
    )
    scope = models.CharField(_("of"), max_length=6, choices=Scope.choices, default=Scope.ALL)
    labels = models.CharField(
        _("cluster labels"),
        max_length=500,
        blank=True,
        help_text=_("key=value, separated by commas; a cluster must carry all of them."),
    )
    clusters = models.ManyToManyField(
        Cluster, blank=True, related_name="+", verbose_name=_("clusters")
    )
    receivers = models.ManyToManyField(
        Receiver, blank=True, related_name="rules", verbose_name=_("receivers")
    )
    enabled = models.BooleanField(_("enabled"), default=True)
    created_at = models.DateTimeField(_("created"), auto_now_add=True)

    class Meta:
        verbose_name = _("notification rule")
        verbose_name_plural = _("notification rules")
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name

    @property
    def wanted_labels(self) -> dict[str, str]:
        pairs = (part.partition("=") for part in self.labels.split(",") if part.strip())
        return {key.strip(): value.strip() for key, _equals, value in pairs}


class Delivery(models.Model):
    """One message to one receiver, also when it tells of thousands of notices.

    WAITING and FAILED ones are due at ``next_try_at``; a SENDING one belongs to a process until
    ``lease_until``.  ``key`` is in the message: who gets the same one twice drops the second.
    """

    access = Access(team="receiver__team")

    class Status(models.TextChoices):
        WAITING = "waiting", _("Waiting")
        SENDING = "sending", _("Being sent")
        SENT = "sent", _("Sent")
        FAILED = "failed", _("Failed, tried again")
        GIVEN_UP = "given_up", _("Given up")

    DUE = frozenset({Status.WAITING, Status.FAILED})

    receiver = models.ForeignKey(
        Receiver, on_delete=models.CASCADE, related_name="deliveries", verbose_name=_("receiver")
    )
    key = models.UUIDField(_("message key"), default=uuid.uuid4, unique=True, editable=False)
    status = models.CharField(
        _("status"), max_length=8, choices=Status.choices, default=Status.WAITING
    )
    severity = models.CharField(_("severity"), max_length=8, choices=Notice.Severity.choices)
    count = models.PositiveIntegerField(_("notices"), default=1)
    content = SentencesField(_("content"), default=dict)
    is_test = models.BooleanField(_("test"), default=False)
    followed = models.ManyToManyField(
        Notice,
        editable=False,
        related_name="+",
        help_text="Those that somebody waits for; each is in one message per receiver.",
    )
    tries = models.PositiveSmallIntegerField(_("tries"), default=0)
    last_error = SentenceField(_("last error"), limit=500, blank=True)
    created_at = models.DateTimeField(_("created"), default=timezone.now, db_index=True)
    next_try_at = models.DateTimeField(_("next try"), default=timezone.now)
    tried_at = models.DateTimeField(_("last try"), null=True)
    lease_until = models.DateTimeField(null=True)
    sent_at = models.DateTimeField(_("sent"), null=True)

    class Meta:
        verbose_name = _("message")
        verbose_name_plural = _("messages")
        ordering = ["-id"]
        indexes = [
            models.Index(fields=["receiver", "tried_at"], name="deliveries_tried"),
            models.Index(
                fields=["next_try_at"],
                condition=Q(status__in=["waiting", "failed"]),
                name="deliveries_due",
            ),
            models.Index(
                fields=["lease_until"], condition=Q(status="sending"), name="deliveries_leases"
            ),
        ]

    STATUS_FIELD: ClassVar[str] = "status"

    def __str__(self) -> str:
        return str(self.key)

    @property
    def first_line(self) -> Any:
        """The title of the worst notice that it tells of, in the reader's language."""
        lines = self.content.get("lines") or [{}]
        return lines[0].get("title", "")
