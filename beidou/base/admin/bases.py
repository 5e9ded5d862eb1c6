"""The admin bases: Django's declarative admin, made to obey object permissions and to audit.

``ObjectPermissionAdmin`` shows only what ``visible_to`` shows and asks ``may`` for each row.
Actions declare ``permissions=["operate"]`` as Django wants it and still filter their rows with
``for_action``, because Django asks without an object.  ``ReadOnlyAdmin`` is for what programs
write.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn, TypeVar

from django import forms
from django.contrib import admin, messages
from django.contrib.admin import helpers
from django.contrib.admin.options import IS_POPUP_VAR, IncorrectLookupParameters
from django.contrib.admin.utils import unquote
from django.core.exceptions import PermissionDenied
from django.core.paginator import Paginator
from django.core.validators import MinValueValidator
from django.db import models
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils.safestring import SafeString
from django.utils.text import capfirst
from django.utils.translation import gettext as _
from unfold.admin import ModelAdmin

from beidou.base import audit, display, permissions
from beidou.base.admin import meanwhile, readonly  # noqa: F401  takes the theme's place
from beidou.base.context import note_refusal
from beidou.base.models import AuditEntry
from beidou.base.numbers import as_key
from beidou.base.permissions import CHANGE, VIEW

M = TypeVar("M", bound=models.Model)
_COUNTS = (
    models.PositiveSmallIntegerField,
    models.PositiveIntegerField,
    models.PositiveBigIntegerField,
)

if TYPE_CHECKING:
    _Base = admin.ModelAdmin[models.Model]
else:
    _Base = ModelAdmin


class MappingField(forms.JSONField):
    """JSON in which an empty mapping is an empty field, both ways."""

    def prepare_value(self, value: Any) -> Any:
        return "" if value == {} else super().prepare_value(value)

    def to_python(self, value: Any) -> Any:
        found = super().to_python(value)
        return {} if found is None else found


def ago_column(field: str, description: Any) -> Any:
    """A column for ``field`` that tells how long ago, with the moment itself on hover."""

    @admin.display(description=description, ordering=field)
    def column(obj: models.Model) -> SafeString:
        return display.ago(getattr(obj, field))

    column.__name__ = field
    return column


@dataclass(frozen=True)
class EmptyList:
    """What a list says when it has no row at all, and the one button to begin with."""

    text: object
    url: str = ""
    button: object = ""


class ObjectPermissionAdmin(_Base):
    """A ModelAdmin whose rights come from the model's ``access``.

    ``change_action``: the right that editing a row needs.  Adding and deleting need Django's model
    permission, since no row exists yet, respectively ``change`` on the row as well.
    ``history_place``: where on its own page an object shows its history, as the end of an address
    (``?tab=history``); empty where the audit trail alone knows it.
    ``counted``: what one and what several rows are called where they are counted, if the list
    itself is called otherwise: “108 audit entries” in the “Audit trail”.
    ``marks_cluster``: the page of a row names the row's cluster with its red mark, where that one's
    certificate is not verified; on every other page the mark stands above the form.
    """

    change_action: ClassVar[str] = CHANGE
    history_place: ClassVar[str] = ""
    counted: ClassVar[tuple[Any, Any] | None] = None
    marks_cluster: ClassVar[bool] = False
    empty_value_display = display.NOTHING
    compressed_fields = True
    warn_unsaved_form = True
    list_filter_submit = True
    list_fullwidth = True
    show_full_result_count = False
    change_form_before_template = "admin/seen.html"

    def get_form(
        self, request: HttpRequest, obj: Any = None, change: bool = False, **kwargs: Any
    ) -> Any:
        form: Any = super().get_form(request, obj, change=change, **kwargs)
        form.reader = request.user  # a class of this request alone; see ``readonly``
        return meanwhile.guarded(form, request, obj)

    def render_change_form(
        self, request: HttpRequest, context: dict[str, Any], *args: Any, **kwargs: Any
    ) -> Any:
        context["seen"] = meanwhile.as_text(request)
        cluster = None if self.marks_cluster else getattr(context.get("original"), "cluster", None)
        context["is_insecure"] = getattr(cluster, "insecure_tls", False)
        return super().render_change_form(request, context, *args, **kwargs)

    def get_queryset(self, request: HttpRequest) -> models.QuerySet[Any]:
        return permissions.visible_to(request.user, super().get_queryset(request))

    def has_module_permission(self, request: HttpRequest) -> bool:
        return self.has_view_permission(request)

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        if obj is None:
            return permissions.may_anywhere(request.user, self.model, VIEW)
        return permissions.may(request.user, obj, VIEW)

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        if obj is None:
            return permissions.may_anywhere(request.user, self.model, self.change_action)
        return permissions.may(request.user, obj, self.change_action)

    def has_add_permission(self, request: HttpRequest) -> bool:
        meta = self.model._meta
        return bool(request.user.has_perm(f"{meta.app_label}.add_{meta.model_name}"))

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        meta = self.model._meta
        if not request.user.has_perm(f"{meta.app_label}.delete_{meta.model_name}"):
            return False
        return obj is None or permissions.may(request.user, obj, self.change_action)

    def has_operate_permission(self, request: HttpRequest) -> bool:
        """Asked by Django for actions with ``permissions=["operate"]``."""
        return permissions.may_anywhere(request.user, self.model, permissions.OPERATE)

    def has_approve_permission(self, request: HttpRequest) -> bool:
        return permissions.may_anywhere(request.user, self.model, permissions.APPROVE)

    def _get_obj_does_not_exist_redirect(
        self, request: HttpRequest, opts: Any, object_id: str
    ) -> NoReturn:
        """What one may not see does not exist; Django would lead to the home page instead."""
        raise Http404(
            _("There is no %(what)s %(key)s, or you may not see it.")
            % {"what": opts.verbose_name, "key": object_id}
        )

    def for_action(
        self, request: HttpRequest, queryset: models.QuerySet[M], action: str
    ) -> tuple[list[M], int]:
        """The chosen rows on which the user may do ``action``, and how many were left out; 403 when
        that is all of them."""
        chosen = queryset.count()
        rows = list(permissions.visible_to(request.user, queryset, action))
        if chosen and not rows:
            note_refusal(queryset.first())
            raise PermissionDenied
        return rows, chosen - len(rows)

    def formfield_for_dbfield(self, db_field: Any, request: HttpRequest, **kwargs: Any) -> Any:
        if isinstance(db_field, models.JSONField) and db_field.default is dict:
            kwargs.setdefault("form_class", MappingField)
            # What has changed is told by the row, not by a second, hidden field in the form.
            kwargs.setdefault("show_hidden_initial", False)
        if isinstance(db_field, _COUNTS):
            # Its own least value; the form would know only that the column takes nothing below 0.
            least = [each for each in db_field.validators if isinstance(each, MinValueValidator)]
            kwargs.setdefault("min_value", max(each.limit_value for each in least))
        return super().formfield_for_dbfield(db_field, request, **kwargs)

    def empty_list(self, request: HttpRequest) -> EmptyList | None:
        """What to do first, as far as this person may; shown only when nothing is listed."""
        return None

    def get_changelist_instance(self, request: HttpRequest) -> Any:
        try:
            listed: Any = super().get_changelist_instance(request)
        except OverflowError as error:  # SQLite: a key of twenty digits, a day before year 1
            raise IncorrectLookupParameters from error
        # The theme's template of an empty list knows the list alone.
        listed.empty_list = partial(self.empty_list, request)
        if not (listed.has_active_filters or listed.query):
            # All rows are shown: the head of the page need not offer “Show all”.
            listed.full_result_count = listed.result_count
        return listed

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """A list is called what it lists; Django would say “Select … to change”."""
        self._refuse_missing_action(request)
        context = dict(extra_context or {})
        if IS_POPUP_VAR not in request.GET:
            context.setdefault("title", capfirst(str(self.opts.verbose_name_plural)))
        response: HttpResponse = super().changelist_view(request, context)
        return response

    def _refuse_missing_action(self, request: HttpRequest) -> None:
        """403 for an action that the list has, but not for this person; Django would show the list
        as if nothing had been asked."""
        asked = set(request.POST.getlist("action"))
        known = {name for _function, name, _label in self._get_base_actions()}  # type: ignore[attr-defined]
        if asked & known <= self.get_actions(request).keys():
            return
        keys = [as_key(key) for key in request.POST.getlist(helpers.ACTION_CHECKBOX_NAME)]
        if (chosen := self.get_queryset(request).filter(pk__in=filter(None, keys)).first()) is None:
            return
        note_refusal(chosen)
        raise PermissionDenied

    # Django makes one transaction of the object, its relations and its inlines.
    def changeform_view(
        self, request: HttpRequest, object_id: str | None = None, *args: Any, **kwargs: Any
    ) -> HttpResponse:
        with self.unseen_is_gone(request, object_id), audit.entries_last():
            response: HttpResponse = super().changeform_view(request, object_id, *args, **kwargs)
        return response

    def delete_view(
        self, request: HttpRequest, object_id: str, *args: Any, **kwargs: Any
    ) -> HttpResponse:
        with self.unseen_is_gone(request, object_id), audit.entries_last():
            response: HttpResponse = super().delete_view(request, object_id, *args, **kwargs)
        return response

    @contextmanager
    def unseen_is_gone(self, request: HttpRequest, object_id: str | None) -> Iterator[None]:
        """404 instead of a refusal for an object that one may not see.

        Django asks for rights before it looks whether there is an object at all.
        """
        try:
            yield
        except PermissionDenied:
            if object_id is None:
                raise
            found: Any = self.get_object(request, unquote(object_id))
            if found is not None and permissions.may(request.user, found, VIEW):
                note_refusal(found)
                raise
            self._get_obj_does_not_exist_redirect(request, self.opts, object_id)

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        before = audit.snapshot(self.model._default_manager.get(pk=obj.pk)) if change else {}
        with audit.entries_last():
            super().save_model(request, obj, form, change)
            old, new = audit.difference(before, audit.snapshot(obj))
            if new or not change:
                audit.record(
                    "change" if change else "add",
                    obj,
                    before=old,
                    after=new,
                    reason=form.cleaned_data.get("change_reason", "") if form else "",
                )

    def delete_model(self, request: HttpRequest, obj: Any) -> None:
        with audit.entries_last():
            audit.record("delete", obj, before=audit.snapshot(obj))
            super().delete_model(request, obj)

    def delete_queryset(self, request: HttpRequest, queryset: models.QuerySet[Any]) -> None:
        with audit.entries_last():
            for obj in queryset:
                audit.record("delete", obj, before=audit.snapshot(obj))
            super().delete_queryset(request, queryset)

    def history_view(self, request: HttpRequest, object_id: str, extra_context: Any = None) -> Any:
        """What the audit trail says of the object to this user; never an empty page."""
        if self.get_object(request, unquote(object_id)) is None:
            self._get_obj_does_not_exist_redirect(request, self.opts, object_id)
        address = reverse(
            f"admin:{self.opts.app_label}_{self.opts.model_name}_change", args=[object_id]
        )
        if self.history_place:
            return HttpResponseRedirect(address + self.history_place)
        entries = permissions.visible_to(
            request.user,
            AuditEntry.objects.filter(
                object_type=self.opts.label_lower, object_id=unquote(object_id)
            ),
        )
        page = Paginator(entries.order_by("-id"), 100).get_page(request.GET.get("p"))
        if not page.paginator.count:
            messages.info(
                request, _("The audit trail holds nothing about this object that you may see.")
            )
            return HttpResponseRedirect(address)
        context = {
            "action_list": page,
            "pagination_required": page.paginator.num_pages > 1,
            "page_range": page.paginator.get_elided_page_range(page.number),
            **(extra_context or {}),
        }
        return super().history_view(request, object_id, context)

    # The audit trail is the log of the product; Django's second, weaker one stays empty.
    def log_addition(self, request: HttpRequest, obj: Any, message: Any) -> Any:
        return None

    def log_change(self, request: HttpRequest, obj: Any, message: Any) -> Any:
        return None

    def log_deletions(self, request: HttpRequest, queryset: Any) -> Any:
        return []


class ReadOnlyAdmin(ObjectPermissionAdmin):
    """Rows that programs write: to be looked at."""

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


def confirm_action(
    model_admin: Any,
    request: HttpRequest,
    *,
    title: str,
    action: str,
    plan: list[str],
    objects: list[models.Model],
    form: Any = None,
    button: str,
    dangerous: bool = False,
) -> TemplateResponse:
    """The page between a dangerous action and its deed: what will happen, and a button.

    Django's own pattern (``delete_selected``): the action is posted again with ``post=yes``, and
    checks everything once more then.
    """
    context = {
        **model_admin.admin_site.each_context(request),
        "title": title,
        "opts": model_admin.model._meta,
        "media": model_admin.media,
        "action": action,
        "action_checkbox_name": "_selected_action",
        "plan": plan,
        "objects": objects,
        "form": form,
        "button": button,
        "dangerous": dangerous,
    }
    return TemplateResponse(request, "admin/confirm_action.html", context)
