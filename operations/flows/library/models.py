"""Templates of one-click tasks that the site has written."""

from django.core.validators import RegexValidator
from django.db import models
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from beidou.base.permissions import Access


class TaskTemplate(models.Model):
    """One name with its versions; ``title``, ``description`` and ``version`` are the newest's.

    Whoever is signed in may see templates.  Writing them is a right of the team of its own
    (``operations.add_tasktemplate``): what a task may do on a cluster is asked when it begins.
    """

    access = Access(everyone=True)

    name = models.CharField(
        _("name"),
        max_length=40,
        unique=True,
        validators=[RegexValidator(r"\A[A-Za-z0-9]([A-Za-z0-9-]{0,38}[A-Za-z0-9])?\Z")],
        help_text=_("Letters, digits and inner hyphens; it cannot be changed later."),
    )
    title = models.CharField(_("title"), max_length=100)
    description = models.CharField(_("description"), max_length=500, blank=True)
    version = models.PositiveIntegerField(_("version"), default=1)
    is_offered = models.BooleanField(_("offered"), default=True)
    saved_at = models.DateTimeField(_("saved"), default=timezone.now)
    saved_by_name = models.CharField(_("saved by"), max_length=150, blank=True)

    class Meta:
        app_label = "operations"
        verbose_name = _("template of one-click tasks")
        verbose_name_plural = _("templates of one-click tasks")
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name


class TemplateVersion(models.Model):
    """What a template was from one saving to the next; written once."""

    access = Access(everyone=True)

    template = models.ForeignKey(TaskTemplate, on_delete=models.CASCADE, related_name="versions")
    number = models.PositiveIntegerField(_("version"))
    content = models.JSONField(_("content"), default=dict)
    comment = models.CharField(_("what has changed"), max_length=500, blank=True)
    saved_at = models.DateTimeField(_("saved"), default=timezone.now)
    saved_by_name = models.CharField(_("saved by"), max_length=150, blank=True)

    class Meta:
        app_label = "operations"
        verbose_name = _("version of a template")
        verbose_name_plural = _("versions of templates")
        ordering = ["template", "-number"]
        constraints = [
            models.UniqueConstraint(fields=["template", "number"], name="one_version_per_number")
        ]

    def __str__(self) -> str:
        return f"{self.template} {self.number}"
