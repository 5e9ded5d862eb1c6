"""Users and teams; and no pages for the tables of libraries, which have better ones here."""

from typing import Any

# Imported so that they are registered before they are taken out below.
import django_otp.plugins.otp_static.admin  # noqa: F401
import django_q.admin  # noqa: F401
from axes.utils import reset as unlock
from django.contrib import admin, messages
from django.contrib.auth.admin import GroupAdmin, UserAdmin
from django.contrib.auth.models import Group, Permission
from django.db import models, transaction
from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from django.utils.html import format_html_join
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext
from django_otp.plugins.otp_static.models import StaticDevice
from django_q.models import Failure, OrmQ, Schedule, Success
from unfold.decorators import action, display
from unfold.forms import AdminPasswordChangeForm, UserChangeForm, UserCreationForm

from beidou.base import audit, permissions, second_factor, tokens
from beidou.base.admin.bases import EmptyList, ObjectPermissionAdmin, ReadOnlyAdmin, ago_column
from beidou.base.admin.rights import PermissionsField
from beidou.base.display import NOTHING, ago
from beidou.base.models import ApiToken, User
from beidou.base.sentences import Sentence

for _model in (Group, StaticDevice, OrmQ, Schedule, Success, Failure):
    if admin.site.is_registered(_model):
        admin.site.unregister(_model)

# Everywhere else these are teams; Django asks migrations for none of these names.
Group._meta.verbose_name = gettext_lazy("team")
Group._meta.verbose_name_plural = gettext_lazy("teams")
User._meta.get_field("groups").verbose_name = gettext_lazy("teams")


# What three switches of a user do, as (label, help text).
_WORDS: dict[str, dict[str, Any]] = {
    "is_active": {
        "label": gettext_lazy("Active"),
        "help_text": gettext_lazy("Off: neither pages nor API; the account and its past stay."),
    },
    "is_staff": {
        "label": gettext_lazy("May open the pages"),
        "help_text": gettext_lazy("Off: the account of a program that uses the API alone."),
    },
    "is_superuser": {
        "label": gettext_lazy("Administrator"),
        "help_text": gettext_lazy("May see and do everything, without any team or grant."),
    },
}


def grantable() -> models.QuerySet[Permission]:
    """What a team may be given beyond its roles on clusters; the rest follows the roles."""
    chosen = models.Q(codename="audit_fleet", content_type__app_label="base")
    for model, page in admin.site._registry.items():
        if not isinstance(page, ReadOnlyAdmin) and model not in (User, Group):
            name = model._meta.model_name
            chosen |= models.Q(
                content_type__app_label=model._meta.app_label,
                codename__in=[f"add_{name}", f"delete_{name}"],
            )
    return Permission.objects.filter(chosen).select_related("content_type")


class SetPasswordForm(AdminPasswordChangeForm):
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["password2"].help_text = _(
            "API tokens stay valid when the password changes; revoke them on their own."
        )

    def save(self, commit: bool = True) -> User:
        with transaction.atomic():
            user: User = super().save(commit)
            if not user.has_usable_password():  # a usable one has its entry by now
                audit.record(
                    "set password", user, reason=Sentence("sign-in by password switched off")
                )
        return user


class RelationAudit(ObjectPermissionAdmin):
    """Records what ``save_model`` cannot see yet: members of many-to-many fields."""

    audited_relations: tuple[str, ...] = ()

    def save_related(self, request: HttpRequest, form: Any, formsets: Any, change: bool) -> None:
        with audit.entries_last():
            before = audit.relations(form.instance, self.audited_relations)
            super().save_related(request, form, formsets, change)
            after = audit.relations(form.instance, self.audited_relations)
            old, new = audit.difference(before, after)
            if new:
                audit.record("change", form.instance, before=old, after=new)


class NewPersonForm(UserCreationForm):
    """Django's own words for the switch speak of sign-ins that this portal does not have."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["usable_password"].help_text = _(
            "Disabled: nobody signs in with this account; a program uses it with API tokens."
        )


@admin.register(User)
class PeopleAdmin(UserAdmin, RelationAudit):  # type: ignore[misc, type-arg]
    form = UserChangeForm
    add_form = NewPersonForm
    change_password_form = SetPasswordForm
    audited_relations = User.audited_relations
    list_display = ("username", "name", "team_names", "level", "is_active", "last_seen")
    list_filter = ("is_active", "is_superuser", "groups")
    search_fields = ("username", "first_name", "last_name", "email")
    ordering = ("username",)
    filter_horizontal = ("groups", "user_permissions")
    readonly_fields = ("last_login", "date_joined", "second_factor_state")
    list_prefetch_related = ("groups",)
    actions = ("unlock_sign_in", "remove_second_factor", "revoke_tokens")
    fieldsets = (
        (None, {"fields": ("username", "password")}),
        (gettext_lazy("Person"), {"fields": ("first_name", "last_name", "email", "language")}),
        (
            gettext_lazy("Rights"),
            {"fields": ("is_active", "is_staff", "is_superuser", "groups", "user_permissions")},
        ),
        (
            gettext_lazy("Sign-in"),
            {"fields": ("last_login", "date_joined", "second_factor_state")},
        ),
    )
    add_fieldsets = (
        (
            None,
            {
                "classes": ("wide",),
                "fields": ("username", "usable_password", "password1", "password2", "is_staff"),
            },
        ),
    )

    def get_queryset(self, request: HttpRequest) -> models.QuerySet[User]:
        return super().get_queryset(request).prefetch_related("groups")

    def get_changeform_initial_data(self, request: HttpRequest) -> dict[str, Any]:
        return {"is_staff": True, **super().get_changeform_initial_data(request)}

    def formfield_for_dbfield(self, db_field: Any, request: HttpRequest, **kwargs: Any) -> Any:
        """Django's own words speak of staff, superusers and an admin site."""
        kwargs |= _WORDS.get(db_field.name, {})
        return super().formfield_for_dbfield(db_field, request, **kwargs)

    def formfield_for_manytomany(self, db_field: Any, request: Any, **kwargs: Any) -> Any:
        if db_field.name == "user_permissions":
            kwargs |= {"queryset": grantable(), "form_class": PermissionsField}
        if db_field.name == "groups":
            kwargs["help_text"] = _("What a team may do on clusters is granted on the page Grants.")
        return super().formfield_for_manytomany(db_field, request, **kwargs)

    def user_change_password(self, request: HttpRequest, id: str, *args: Any) -> HttpResponse:  # noqa: A002
        with self.unseen_is_gone(request, id):
            response: HttpResponse = super().user_change_password(request, id, *args)
        return response

    @display(description=gettext_lazy("last signed in"), ordering="last_login")
    def last_seen(self, obj: User) -> SafeString:
        return ago(obj.last_login)

    @display(description=gettext_lazy("name"), ordering="last_name")
    def name(self, obj: User) -> str:
        return obj.get_full_name() or NOTHING

    @display(description=gettext_lazy("teams"))
    def team_names(self, obj: User) -> str:
        return ", ".join(group.name for group in obj.groups.all()) or NOTHING

    @display(
        description=gettext_lazy("level"),
        label={"administrator": "danger", "member": "info", "no pages": "warning"},
    )
    def level(self, obj: User) -> tuple[str, str]:
        if obj.is_superuser:
            return "administrator", _("administrator")
        return ("member", _("member")) if obj.is_staff else ("no pages", _("API only"))

    @display(description=gettext_lazy("second factor"), boolean=True)
    def second_factor_state(self, obj: User) -> bool:
        return second_factor.is_enabled(obj)

    @action(
        description=gettext_lazy("Unlock sign-in after failed attempts"),
        permissions=["change"],
    )
    def unlock_sign_in(self, request: HttpRequest, queryset: models.QuerySet[User]) -> None:
        for user in queryset:
            with transaction.atomic():
                unlock(username=user.username)
                audit.record("unlock", user)
        self._say(request, queryset.count())

    @action(
        description=gettext_lazy("Remove the second factor (the phone is lost)"),
        permissions=["change"],
    )
    def remove_second_factor(self, request: HttpRequest, queryset: models.QuerySet[User]) -> None:
        for user in queryset:
            second_factor.switch_off(user, reason=Sentence("removed by an administrator"))
        self._say(request, queryset.count())

    @action(description=gettext_lazy("Revoke all API tokens"), permissions=["change"])
    def revoke_tokens(self, request: HttpRequest, queryset: models.QuerySet[User]) -> None:
        chosen = ApiToken.objects.filter(user__in=queryset, revoked_at=None)
        for token in chosen.select_related("user"):
            tokens.revoke(token, reason=Sentence("revoked by an administrator"))
        self._say(request, queryset.count())

    def _say(self, request: HttpRequest, count: int) -> None:
        messages.success(
            request,
            ngettext("Done for %(count)d user.", "Done for %(count)d users.", count)
            % {"count": count},
        )


@admin.register(Group)
class TeamAdmin(GroupAdmin, RelationAudit):
    """Django's groups are the product's teams; roles on clusters are given on the grant page."""

    audited_relations = ("permissions",)
    list_display = ("name", "members")
    search_fields = ("name",)
    fieldsets = ((None, {"fields": ("name", "member_names", "roles", "permissions")}),)
    add_fieldsets = ((None, {"fields": ("name", "permissions")}),)
    readonly_fields = ("member_names", "roles")
    filter_horizontal = ("permissions",)

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        return super().get_fieldsets(request, obj) if obj else self.add_fieldsets

    def get_queryset(self, request: HttpRequest) -> Any:
        return super().get_queryset(request).annotate(members_count=models.Count("user"))

    def formfield_for_manytomany(
        self, db_field: Any, request: HttpRequest | None = None, **kwargs: Any
    ) -> Any:
        if db_field.name == "permissions":
            kwargs["form_class"] = PermissionsField
        field = super().formfield_for_manytomany(db_field, request, **kwargs)
        if db_field.name == "permissions" and field is not None:
            field.queryset = grantable()
            field.label = _("Rights beyond the roles on clusters")
        return field

    def empty_list(self, request: HttpRequest) -> EmptyList:
        return EmptyList(_("No team yet. People get their roles on clusters through teams."))

    @display(description=gettext_lazy("members"), ordering="members_count")
    def members(self, obj: Any) -> int:
        return int(obj.members_count)

    @display(description=gettext_lazy("members"))
    def member_names(self, obj: Any) -> SafeString | str:
        """Each leads to the page on which the person's teams are chosen."""
        people = [
            (reverse("admin:base_user_change", args=[user.pk]), str(user))
            for user in obj.user_set.order_by("username")
        ]
        return format_html_join(", ", '<a href="{}">{}</a>', people) or NOTHING

    @display(description=gettext_lazy("roles on clusters"))
    def roles(self, obj: Any) -> str:
        """By the name of the relation: the app of the grants is above this one."""
        grants = obj.cluster_grants.select_related("cluster")
        each = (f"{row.get_role_display()} · {row.cluster or row.label}" for row in grants)
        return ", ".join(each) or NOTHING


@admin.register(ApiToken)
class ApiTokenAdmin(ReadOnlyAdmin):
    """Everybody sees their own tokens, administrators all; they are made on *My account*."""

    list_display = (
        "name",
        "user",
        "hint",
        "state",
        ago_column("created_at", gettext_lazy("created")),
        ago_column("used_at", gettext_lazy("last used")),
        ago_column("expires_at", gettext_lazy("expires")),
    )
    list_filter = (("user", admin.RelatedOnlyFieldListFilter),)
    search_fields = ("name", "user__username")
    list_select_related = ("user",)
    actions = ("revoke",)
    fields = ("name", "user", "hint", "created_at", "used_at", "expires_at", "revoked_at")

    def empty_list(self, request: HttpRequest) -> EmptyList:
        return EmptyList(
            _("No API token yet. Everybody makes their own on the page My account."),
            reverse("account"),
            _("My account"),
        )

    @display(description=gettext_lazy("state"), label={"valid": "success", "void": "danger"})
    def state(self, obj: ApiToken) -> tuple[str, str]:
        return ("valid", _("valid")) if obj.is_valid else ("void", _("void"))

    def has_revoke_permission(self, request: HttpRequest) -> bool:
        return permissions.may_anywhere(request.user, ApiToken, permissions.CHANGE)

    @action(description=gettext_lazy("Revoke"), permissions=["revoke"])
    def revoke(self, request: HttpRequest, queryset: models.QuerySet[ApiToken]) -> None:
        # Auditors see the tokens of others too, and may revoke their own alone.
        rows, left_out = self.for_action(request, queryset, permissions.CHANGE)
        for token in rows:
            tokens.revoke(token)
        if rows:
            messages.success(request, _("The chosen tokens are revoked."))
        if left_out:
            messages.error(
                request,
                ngettext(
                    "%(count)d token is of somebody else and was left as it is.",
                    "%(count)d tokens are of somebody else and were left as they are.",
                    left_out,
                )
                % {"count": left_out},
            )
