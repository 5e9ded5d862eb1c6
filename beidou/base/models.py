"""Users, API tokens, the audit trail, and the outbox of news."""

import base64
import hashlib
import json
import secrets
import time
from datetime import datetime
from typing import Any, ClassVar, NoReturn
from urllib.parse import quote, urlencode

from django.conf import settings
from django.contrib.auth.models import AbstractUser
from django.db import models, transaction
from django.utils import timezone
from django.utils.translation import gettext_lazy as _
from django_otp.models import Device, ThrottlingMixin, TimestampMixin
from django_otp.oath import TOTP

from beidou.base.fields import EncryptedTextField
from beidou.base.permissions import Access
from beidou.base.sentence_fields import SentenceField


class User(AbstractUser):
    """A person or program that signs in; teams are its groups."""

    audited_relations = ("groups", "user_permissions")

    language = models.CharField(
        _("language"),
        max_length=10,
        blank=True,
        choices=settings.LANGUAGES,
        help_text=_("Language of the pages; empty follows the browser."),
    )

    class Meta:
        verbose_name = _("user")
        verbose_name_plural = _("users")
        permissions = [("audit_fleet", "May see everything of the fleet (fleet-wide Auditor)")]

    def __str__(self) -> str:
        return self.get_full_name() or self.username

    def save(self, *args: Any, **kwargs: Any) -> None:
        """In one transaction with the audit entry of a new password; see ``signals``."""
        with transaction.atomic():
            super().save(*args, **kwargs)


class ApiToken(models.Model):
    """A key for the API, sent as ``Authorization: Token …``; only its SHA-256 is stored."""

    access = Access(owner="user")

    user = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        on_delete=models.CASCADE,
        related_name="api_tokens",
        verbose_name=_("user"),
    )
    name = models.CharField(_("name"), max_length=100, help_text=_("What uses this token."))
    digest = models.CharField(max_length=64, unique=True, editable=False)
    hint = models.CharField(_("begins with"), max_length=8, editable=False)
    created_at = models.DateTimeField(_("created"), default=timezone.now, editable=False)
    expires_at = models.DateTimeField(_("expires"), null=True, blank=True)
    used_at = models.DateTimeField(_("last used"), null=True, editable=False)
    revoked_at = models.DateTimeField(_("revoked"), null=True, editable=False)

    class Meta:
        verbose_name = _("API token")
        verbose_name_plural = _("API tokens")
        ordering = ["-created_at"]

    def __str__(self) -> str:
        return f"{self.name} ({self.hint}…)"

    @staticmethod
    def digest_of(key: str) -> str:
        return hashlib.sha256(key.encode()).hexdigest()

    @classmethod
    def issue(
        cls, *, user: Any, name: str, expires_at: datetime | None = None
    ) -> tuple["ApiToken", str]:
        """A new token and its key, which can never be shown again."""
        key = secrets.token_urlsafe(32)
        token = cls.objects.create(
            user=user, name=name, digest=cls.digest_of(key), hint=key[:6], expires_at=expires_at
        )
        return token, key

    @property
    def is_valid(self) -> bool:
        expired = self.expires_at is not None and self.expires_at <= timezone.now()
        return self.revoked_at is None and not expired


def new_totp_key() -> str:
    return secrets.token_hex(20)


class TotpDevice(TimestampMixin, ThrottlingMixin, Device):  # type: ignore[misc]
    """The authenticator app of a user: a secret, and codes of six digits every 30 seconds.

    django-otp's own model of it keeps the secret readable in the database.
    """

    STEP_SECONDS = 30
    DIGITS = 6
    TOLERANCE = 1  # codes of the interval before and after are taken too

    access = Access(owner="user")

    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="+")
    key = EncryptedTextField(default=new_totp_key, editable=False)
    drift = models.SmallIntegerField(default=0)
    # The interval of the last code taken: it and those before it are void.
    last_t = models.BigIntegerField(default=-1)

    class Meta(Device.Meta):  # type: ignore[misc]
        verbose_name = _("authenticator app")
        verbose_name_plural = _("authenticator apps")

    @property
    def bin_key(self) -> bytes:
        return bytes.fromhex(self.key)

    @property
    def config_url(self) -> str:
        """What an authenticator app reads from the QR code."""
        issuer = settings.OTP_TOTP_ISSUER
        query = {
            "secret": base64.b32encode(self.bin_key).decode(),
            "algorithm": "SHA1",
            "digits": self.DIGITS,
            "period": self.STEP_SECONDS,
            "issuer": issuer,
        }
        return f"otpauth://totp/{quote(f'{issuer}:{self.user.get_username()}')}?{urlencode(query)}"

    def get_throttle_factor(self) -> float:
        return 1

    def verify_token(self, token: str) -> bool:
        """Whether this is the code of now; each is right once, and wrong ones slow down."""
        is_allowed, _why = self.verify_is_allowed()
        if not is_allowed:
            return False
        totp = TOTP(self.bin_key, self.STEP_SECONDS, 0, self.DIGITS, self.drift)
        totp.time = time.time()
        is_right = token.isdecimal() and totp.verify(int(token), self.TOLERANCE, self.last_t + 1)
        if is_right:
            self.last_t, self.drift = totp.t(), totp.drift
            self.throttle_reset(commit=False)
            self.set_last_used_timestamp(commit=False)
            self.save()
        else:
            self.throttle_increment(commit=True)
        return bool(is_right)


def _shown(value: Any) -> str:
    if isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False, indent=2 if isinstance(value, dict) else None)


class AppendOnlyQuerySet(models.QuerySet["AuditEntry"]):
    """Entries are written by ``audit.record`` and never touched again."""

    def _refuse(self) -> NoReturn:
        raise TypeError("Audit entries are append-only.")

    def update(self, **kwargs: Any) -> NoReturn:
        self._refuse()

    def delete(self) -> NoReturn:
        self._refuse()

    def bulk_create(self, *args: Any, **kwargs: Any) -> NoReturn:
        self._refuse()


class AuditEntry(models.Model):
    """Who did what to which object, from where, and how it ended.

    Keys of users, objects and clusters are plain values: an entry outlives what it speaks of.
    ``digest`` chains each entry to the one before; see ``audit.py``.
    """

    # Auditors see all of it, owners of a cluster what concerns their cluster.
    access = Access(cluster="cluster_id", view_permission="base.audit_fleet", view_needs="change")

    class Outcome(models.TextChoices):
        DONE = "done", _("done")
        REFUSED = "refused", _("refused")
        FAILED = "failed", _("failed")

    at = models.DateTimeField(_("at"), db_index=True)
    actor_id = models.BigIntegerField(_("actor key"), null=True)
    actor = models.CharField(_("actor"), max_length=150, db_index=True)
    address = models.CharField(_("address"), max_length=45, blank=True)
    request_id = models.CharField(_("request"), max_length=64, blank=True, db_index=True)
    verb = models.CharField(_("action"), max_length=60, db_index=True)
    object_type = models.CharField(_("kind of object"), max_length=60, blank=True)
    object_id = models.CharField(_("object key"), max_length=64, blank=True)
    object_name = models.CharField(_("object"), max_length=200, blank=True)
    cluster_id = models.BigIntegerField(_("cluster key"), null=True, db_index=True)
    before = models.JSONField(_("before"), default=dict)
    after = models.JSONField(_("after"), default=dict)
    reason = SentenceField(_("reason"), limit=500, blank=True)
    outcome = models.CharField(_("outcome"), max_length=10, choices=Outcome.choices)
    previous = models.CharField(_("digest of the entry before"), max_length=64, blank=True)
    digest = models.CharField(_("digest"), max_length=64)

    objects: ClassVar[Any] = AppendOnlyQuerySet.as_manager()

    class Meta:
        verbose_name = _("audit entry")
        verbose_name_plural = _("audit trail")
        ordering = ["-id"]
        indexes = [models.Index(fields=["object_type", "object_id", "-id"])]

    def __str__(self) -> str:
        return f"{self.actor}: {self.verb} {self.object_name}"

    def save(self, *args: Any, **kwargs: Any) -> None:
        if self.pk is not None:
            raise TypeError("Audit entries are append-only.")
        super().save(*args, **kwargs)

    def delete(self, *args: Any, **kwargs: Any) -> NoReturn:
        raise TypeError("Audit entries are append-only.")

    @property
    def changes(self) -> list[dict[str, str]]:
        """One row per field with its value before and after, as a person reads it."""
        return [
            {
                "field": name,
                "before": _shown(self.before[name]) if name in self.before else "",
                "after": _shown(self.after[name]) if name in self.after else "",
            }
            for name in dict.fromkeys([*self.before, *self.after])
        ]


class AuditWords(models.Model):
    """What pages show of an entry, in every language: what their search looks into.

    Beside the trail, because it can be made again from the entry, which is never touched.  What
    happens to an entry nevertheless must not be hindered or hidden here: there is no constraint.
    """

    entry = models.OneToOneField(
        AuditEntry,
        on_delete=models.DO_NOTHING,
        db_constraint=False,
        primary_key=True,
        related_name="words",
    )
    text = models.TextField()

    def __str__(self) -> str:
        return self.text


class AuditHead(models.Model):
    """The end of the chain, one row: taken with a lock by every writer.

    It also makes a removed tail visible: the last entry must be the one named here.
    """

    entry_id = models.BigIntegerField(default=0)
    count = models.BigIntegerField(default=0)
    digest = models.CharField(max_length=64, blank=True)

    def __str__(self) -> str:
        return f"{self.count} entries"


class Notice(models.Model):
    """Something that people may want to be told; see ``notices.py``.

    Keys of clusters and teams are plain values, because this app knows neither.  ``routed_at``:
    when it was handed to those who are told.  ``receiver``: the only one who is told.
    """

    access = Access(cluster="cluster_id", team="team_id", view_permission="base.audit_fleet")

    class Severity(models.TextChoices):
        INFO = "info", _("information")
        WARNING = "warning", _("warning")
        CRITICAL = "critical", _("critical")

    RANKS: ClassVar[dict[str, int]] = {Severity.INFO: 1, Severity.WARNING: 2, Severity.CRITICAL: 3}

    at = models.DateTimeField(_("at"), default=timezone.now, db_index=True)
    kind = models.CharField(_("kind"), max_length=40, db_index=True)
    severity = models.CharField(_("severity"), max_length=8, choices=Severity.choices)
    title = SentenceField(_("title"), limit=300)
    details = SentenceField(_("details"), limit=1000, blank=True)
    cluster_id = models.BigIntegerField(_("cluster key"), null=True, db_index=True)
    team_id = models.BigIntegerField(_("team key"), null=True)
    object_type = models.CharField(_("kind of object"), max_length=60, blank=True)
    object_id = models.CharField(_("object key"), max_length=64, blank=True)
    key = models.CharField(
        _("told once"), max_length=160, null=True, blank=True, unique=True, editable=False
    )
    routed_at = models.DateTimeField(_("handed on"), null=True)
    receiver = models.CharField(_("only to"), max_length=100, blank=True)
    is_followed = models.BooleanField(default=False, editable=False)

    class Meta:
        verbose_name = _("notice")
        verbose_name_plural = _("notices")
        ordering = ["-id"]
        indexes = [
            models.Index(fields=["id"], condition=models.Q(routed_at=None), name="notices_to_route")
        ]

    def __str__(self) -> str:
        return self.title
