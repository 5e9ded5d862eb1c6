"""The API of tokens, users, teams and the audit trail."""

from typing import Any

from django.contrib.auth.models import Group
from django.db import models
from django.utils.translation import gettext as _
from django_filters import rest_framework as filters
from drf_spectacular.utils import extend_schema, inline_serializer
from rest_framework import mixins, serializers, status
from rest_framework.request import Request
from rest_framework.response import Response

from beidou.base import permissions, tokens
from beidou.base.api.filters import MomentFilter
from beidou.base.api.pages import NewestFirst
from beidou.base.api.viewsets import BaseViewSet, ReadOnlyViewSet
from beidou.base.models import ApiToken, AuditEntry, User


class TokenSerializer(serializers.ModelSerializer[ApiToken]):
    valid = serializers.BooleanField(source="is_valid", read_only=True)
    days = serializers.IntegerField(
        write_only=True, required=False, allow_null=True, min_value=1, max_value=tokens.DAYS_MAX
    )

    class Meta:
        model = ApiToken
        fields = (
            "id", "name", "hint", "valid", "created_at", "expires_at", "used_at", "revoked_at",
            "days",
        )  # fmt: skip
        read_only_fields = ("hint", "created_at", "expires_at", "used_at", "revoked_at")

    def to_internal_value(self, data: Any) -> Any:
        if isinstance(data, dict) and "expires_at" in data:
            # Ignored, it would make a token that never ends of one that was to end.
            raise serializers.ValidationError(
                {"expires_at": _("Say with “days” how long it is valid.")}
            )
        return super().to_internal_value(data)


class TokenViewSet(mixins.DestroyModelMixin, ReadOnlyViewSet):
    """API tokens of the user who asks; the key is in the answer to the creation alone.

    Deleting revokes: the row stays for the audit trail.
    """

    queryset = ApiToken.objects.order_by("-id")
    serializer_class = TokenSerializer

    def get_queryset(self) -> models.QuerySet[Any]:
        # Administrators see those of others on the page; here everybody works with their own.
        return super().get_queryset().filter(user=self.request.user.pk)

    @extend_schema(
        request=TokenSerializer,
        responses={
            201: inline_serializer(
                "NewToken", {"key": serializers.CharField(), "token": TokenSerializer()}
            )
        },
    )
    def create(self, request: Request) -> Response:
        given = self.get_serializer(data=request.data)
        given.is_valid(raise_exception=True)
        token, key = tokens.issue(user=request.user, **given.validated_data)
        return Response(
            {"key": key, "token": self.get_serializer(token).data}, status=status.HTTP_201_CREATED
        )

    def perform_destroy(self, instance: ApiToken) -> None:
        tokens.revoke(instance)


class TeamSerializer(serializers.ModelSerializer[Group]):
    class Meta:
        model = Group
        fields = ("id", "name")


class TeamViewSet(BaseViewSet):
    """Teams.  Members see their own, whose keys they name as owners; administrators alone change
    them."""

    queryset = Group.objects.order_by("name")
    serializer_class = TeamSerializer
    create_permission = "auth.add_group"
    search_fields = ("name",)
    filterset_fields = ("name",)

    def get_queryset(self) -> models.QuerySet[Any]:
        # No ``access`` of the model: that would open the pages of teams too, with their members.
        user = self.request.user
        if permissions.may_anywhere(user, Group):
            return super().get_queryset()
        return self.queryset.filter(pk__in=permissions.teams_of(user).values("pk"))


class UserSerializer(serializers.ModelSerializer[User]):
    teams = serializers.PrimaryKeyRelatedField(
        source="groups", many=True, queryset=Group.objects.all(), required=False
    )

    class Meta:
        model = User
        fields = (
            "id", "username", "first_name", "last_name", "email", "language", "is_active",
            "is_staff", "is_superuser", "teams", "last_login",
        )  # fmt: skip
        read_only_fields = ("is_superuser", "last_login")


class UserViewSet(BaseViewSet):
    """Users; administrators alone see and change them.  Passwords are set on the pages."""

    queryset = User.objects.prefetch_related("groups").order_by("username")
    serializer_class = UserSerializer
    create_permission = "base.add_user"
    search_fields = ("username", "first_name", "last_name", "email")
    filterset_fields = ("username", "is_active", "is_superuser", "groups")

    def perform_create(self, serializer: Any) -> None:
        super().perform_create(serializer)
        serializer.instance.set_unusable_password()
        serializer.instance.save(update_fields=["password"])


class AuditFilter(filters.FilterSet):
    since = MomentFilter(field_name="at", lookup_expr="gte")
    until = MomentFilter(field_name="at", lookup_expr="lt")

    class Meta:
        model = AuditEntry
        fields = (
            "actor", "verb", "object_type", "object_id", "cluster_id", "outcome", "request_id",
        )  # fmt: skip


class AuditSerializer(serializers.ModelSerializer[AuditEntry]):
    class Meta:
        model = AuditEntry
        fields = (
            "id", "at", "actor_id", "actor", "address", "request_id", "verb", "object_type",
            "object_id", "object_name", "cluster_id", "before", "after", "reason", "outcome",
            "previous", "digest",
        )  # fmt: skip


class AuditViewSet(ReadOnlyViewSet):
    """The audit trail, newest first, in cursor pages."""

    queryset = AuditEntry.objects.all()
    serializer_class = AuditSerializer
    pagination_class = NewestFirst
    filterset_class = AuditFilter
    search_fields = ("actor", "object_name", "verb", "words__text")
