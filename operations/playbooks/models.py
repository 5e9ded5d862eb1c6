"""Sources of playbooks, what was read from them, what was released, and what each operation ran.

A source is read when somebody asks for it: that makes a ``SourceRevision``, which holds the
content. Nothing of it can be run before an administrator has looked at it and released it; then its
playbooks are offered (``SitePlaybook``).  An operation holds the revision that it was begun with,
so that a retry runs the same, whatever became of the source.
"""

import json
from datetime import timedelta
from typing import Any, ClassVar, TypeVar

from django.contrib.auth.models import Group
from django.core.validators import RegexValidator
from django.db import models
from django.db.models import Q
from django.utils import timezone
from django.utils.translation import gettext_lazy as _
from pydantic import BaseModel, ValidationError

from beidou.base.errors import PermanentError
from beidou.base.fields import EncryptedTextField
from beidou.base.permissions import Access
from beidou.base.sentence_fields import SentenceField, SentencesField
from beidou.base.sentences import Sentence
from operations.playbooks.declaration import Declaration, Playbook

D = TypeVar("D", bound=BaseModel)


def read(model: type[D], stored: Any) -> D:
    """What was stored, perhaps by another version of the portal."""
    try:
        return model.model_validate(stored)
    except ValidationError as error:
        raise PermanentError(
            Sentence(
                "This version of the portal cannot read what the source declares; read and release "
                "it anew."
            ),
            code="unreadable_declaration",
        ) from error


class PlaybookSource(models.Model):
    """A folder or a git repository.  A playbook is code that runs on hosts: administrators
    alone."""

    access = Access()
    audited_relations = ("teams",)
    READ_WITHIN: ClassVar = timedelta(minutes=5)

    class Kind(models.TextChoices):
        FOLDER = "folder", _("folder")
        GIT = "git", _("git repository")

    name = models.CharField(
        _("name"),
        max_length=63,
        unique=True,
        validators=[RegexValidator(r"\A[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\Z")],
        help_text=_("Small letters, digits and inner hyphens; it cannot be changed later."),
    )
    kind = models.CharField(_("kind"), max_length=6, choices=Kind.choices, default=Kind.GIT)
    location = models.CharField(
        _("location"),
        max_length=500,
        help_text=_("https://… or ssh://… of a repository; or a folder of the workers' machine."),
    )
    ref = models.CharField(
        _("branch, tag or commit"), max_length=200, blank=True, help_text=_("Of a repository.")
    )
    subfolder = models.CharField(
        _("subfolder"),
        max_length=200,
        blank=True,
        help_text=_("Where beidou.yaml lies; empty: at the top."),
    )
    user = models.CharField(_("user"), max_length=100, blank=True, help_text=_("For https."))
    secret = EncryptedTextField(
        _("secret"), help_text=_("Password or token for https, private key for ssh.")
    )
    host_keys = models.TextField(
        _("host keys"), blank=True, help_text=_("For ssh: lines as in known_hosts.")
    )
    teams = models.ManyToManyField(
        Group,
        blank=True,
        related_name="+",
        verbose_name=_("teams"),
        help_text=_(
            "Who may run its playbooks, beside the right on the cluster; none: every team."
        ),
    )
    enabled = models.BooleanField(_("enabled"), default=True)
    released = models.ForeignKey(
        "operations.SourceRevision",
        on_delete=models.SET_NULL,
        null=True,
        editable=False,
        related_name="+",
        verbose_name=_("released"),
    )
    asked_at = models.DateTimeField(_("asked"), null=True, editable=False)
    read_at = models.DateTimeField(_("last read"), null=True, editable=False)
    problem = SentenceField(_("problem"), limit=1000, blank=True, editable=False)
    created_at = models.DateTimeField(_("created"), auto_now_add=True)

    class Meta:
        verbose_name = _("source of playbooks")
        verbose_name_plural = _("sources of playbooks")
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name

    @property
    def _is_asked(self) -> bool:
        return self.asked_at is not None and (self.read_at is None or self.read_at < self.asked_at)

    @property
    def _is_late(self) -> bool:
        return self.asked_at is not None and timezone.now() - self.asked_at > self.READ_WITHIN

    @property
    def is_being_read(self) -> bool:
        return self._is_asked and not self._is_late

    @property
    def was_not_read(self) -> bool:
        """Its worker was lost, or none had time."""
        return self._is_asked and self._is_late


class SourceRevision(models.Model):
    """The content of a source at one time; ``revision`` is the commit or, of a folder, the
    digest."""

    access = Access()

    source = models.ForeignKey(
        PlaybookSource,
        on_delete=models.CASCADE,
        related_name="revisions",
        verbose_name=_("source"),
    )
    revision = models.CharField(_("revision"), max_length=80)
    digest = models.CharField(_("digest"), max_length=80)
    archive = models.BinaryField()
    files = models.PositiveIntegerField(_("files"))
    size = models.PositiveIntegerField(_("bytes"))
    declaration = models.JSONField(_("declaration"), default=dict)
    remarks = SentencesField(_("worth a look"), default=list)
    read_at = models.DateTimeField(_("read"), default=timezone.now)
    released_at = models.DateTimeField(_("released"), null=True)
    released_by = models.CharField(_("released by"), max_length=150, blank=True)

    class Meta:
        verbose_name = _("revision of a source")
        verbose_name_plural = _("revisions of sources")
        ordering = ["-id"]
        constraints = [
            models.UniqueConstraint(
                fields=["source", "revision", "digest"], name="one_row_per_revision"
            )
        ]

    def __str__(self) -> str:
        return f"{self.source} {self.short}"

    @property
    def short(self) -> str:
        """As people name it: the first characters."""
        return self.revision.removeprefix("sha256:")[:12]

    @property
    def declared(self) -> Declaration:
        return read(Declaration, self.declaration)


class SitePlaybook(models.Model):
    """A playbook that was released, or was once; ``declaration`` is that of the released
    revision."""

    access = Access(everyone=True)

    source = models.ForeignKey(
        PlaybookSource,
        on_delete=models.CASCADE,
        related_name="playbooks",
        verbose_name=_("source"),
    )
    name = models.CharField(_("name"), max_length=63)
    title = models.CharField(_("title"), max_length=100)
    description = models.TextField(_("description"), blank=True)
    declaration = models.JSONField(_("declaration"), default=dict)
    is_offered = models.BooleanField(
        _("offered"), default=True, help_text=_("Whether the released revision declares it.")
    )

    class Meta:
        verbose_name = _("playbook")
        verbose_name_plural = _("playbooks")
        ordering = ["source__name", "name"]
        constraints = [
            models.UniqueConstraint(fields=["source", "name"], name="one_playbook_per_name")
        ]

    def __str__(self) -> str:
        return self.reference

    @property
    def reference(self) -> str:
        """What parameters of operations call it."""
        return f"{self.source.name}/{self.name}"

    @property
    def declared(self) -> Playbook:
        return read(Playbook, self.declaration)

    OFFERED: ClassVar[Q] = Q(is_offered=True, source__enabled=True, source__released__isnull=False)


class PlaybookRun(models.Model):
    """What an operation of the kind RunPlaybook runs; ``secrets`` is JSON, name to secret."""

    access = Access(cluster="operation__cluster")

    operation = models.OneToOneField(
        "operations.Operation", on_delete=models.CASCADE, related_name="playbook_run"
    )
    revision = models.ForeignKey(SourceRevision, on_delete=models.PROTECT, related_name="runs")
    declaration = models.JSONField(default=dict)
    secrets = EncryptedTextField()

    class Meta:
        verbose_name = _("run of a playbook")
        verbose_name_plural = _("runs of playbooks")

    def __str__(self) -> str:
        return f"{self.operation} {self.revision}"

    @property
    def declared(self) -> Playbook:
        return read(Playbook, self.declaration)

    @property
    def given_secrets(self) -> dict[str, str]:
        found: dict[str, Any] = json.loads(self.secrets or "{}")
        return {str(name): str(text) for name, text in found.items()}
