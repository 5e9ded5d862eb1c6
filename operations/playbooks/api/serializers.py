"""The shapes of sources, revisions and playbooks; secrets go in and never come out."""

from typing import Any

from django.contrib.auth.models import Group
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from beidou.base.api.strict import StrictSerializer
from operations.playbooks.models import PlaybookSource, SitePlaybook, SourceRevision
from operations.services import playbook_sources


class SourceSerializer(serializers.ModelSerializer[PlaybookSource]):
    """A folder or a git repository; an empty secret keeps what is stored."""

    url = serializers.HyperlinkedIdentityField(view_name="playbooksource-detail")
    secret = serializers.CharField(
        required=False, allow_blank=True, write_only=True, trim_whitespace=False
    )
    has_secret = serializers.SerializerMethodField()
    teams = serializers.PrimaryKeyRelatedField(
        queryset=Group.objects.all(), many=True, required=False
    )
    released_revision = serializers.CharField(
        source="released.revision", read_only=True, default=None, allow_null=True
    )

    class Meta:
        model = PlaybookSource
        fields = [
            "id", "url", "name", "kind", "location", "ref", "subfolder", "user", "secret",
            "has_secret", "host_keys", "teams", "enabled", "released", "released_revision",
            "asked_at", "read_at", "problem",
        ]  # fmt: skip
        read_only_fields = ["released", "asked_at", "read_at", "problem"]

    def get_has_secret(self, source: PlaybookSource) -> bool:
        return bool(source.secret)

    def create(self, validated_data: dict[str, Any]) -> PlaybookSource:
        return self.update(PlaybookSource(), validated_data)

    def update(self, instance: PlaybookSource, validated_data: dict[str, Any]) -> PlaybookSource:
        teams = validated_data.pop("teams", None)
        secret = validated_data.pop("secret", "")
        stored = PlaybookSource.objects.filter(pk=instance.pk).first()
        if stored is not None:
            validated_data.pop("name", None)  # playbooks are called by it
        for name, value in validated_data.items():
            setattr(instance, name, value)
        playbook_sources.apply_secrets(instance, {"secret": secret})
        playbook_sources.validate(instance, stored=stored)
        instance.save()
        if teams is not None:
            instance.teams.set(teams)
        return instance


class RevisionSerializer(serializers.ModelSerializer[SourceRevision]):
    """What was read from a source, as lists show it."""

    url = serializers.HyperlinkedIdentityField(view_name="sourcerevision-detail")
    source_name = serializers.CharField(source="source.name", read_only=True)
    is_released = serializers.SerializerMethodField()

    class Meta:
        model = SourceRevision
        fields = [
            "id", "url", "source", "source_name", "revision", "digest", "files", "size",
            "remarks", "read_at", "is_released", "released_at", "released_by",
        ]  # fmt: skip
        read_only_fields = fields

    def get_is_released(self, revision: SourceRevision) -> bool:
        return revision.source.released_id == revision.pk


class ChangeSerializer(serializers.Serializer[Any]):
    """One file that differs; ``lines`` is a unified diff; ``hidden`` says why not all of it is
    there."""

    path = serializers.CharField()
    what = serializers.ChoiceField(choices=["added", "removed", "changed"])
    lines = serializers.ListField(child=serializers.CharField())
    hidden = serializers.ChoiceField(choices=["", "lines", "large", "binary"])


class RevisionDetailSerializer(RevisionSerializer):
    """With what it declares and what differs from the released one."""

    declaration = serializers.DictField(read_only=True)
    changes = ChangeSerializer(many=True, read_only=True)

    class Meta(RevisionSerializer.Meta):
        fields = [*RevisionSerializer.Meta.fields, "declaration", "changes"]
        read_only_fields = fields


class ReleaseSerializer(StrictSerializer):
    digest = serializers.CharField(
        max_length=80, help_text="Of the content that was looked at; another is refused."
    )
    reason = serializers.CharField(max_length=500, required=False, default="", allow_blank=True)


class WithdrawSerializer(StrictSerializer):
    reason = serializers.CharField(max_length=500, required=False, default="", allow_blank=True)


class PlaybookSerializer(serializers.ModelSerializer[SitePlaybook]):
    """A playbook that may be run; ``reference`` is what the kind RunPlaybook calls it."""

    url = serializers.HyperlinkedIdentityField(view_name="siteplaybook-detail")
    reference = serializers.CharField(read_only=True)
    revision = serializers.CharField(
        source="source.released.revision", read_only=True, default=None, allow_null=True
    )
    content = serializers.CharField(
        source="source.released.digest", read_only=True, default=None, allow_null=True
    )
    permission = serializers.SerializerMethodField()
    parameters = serializers.SerializerMethodField()
    declaration = serializers.DictField(read_only=True)
    is_offered = serializers.SerializerMethodField()

    class Meta:
        model = SitePlaybook
        fields = [
            "id", "url", "reference", "title", "description", "revision", "content", "permission",
            "parameters", "declaration", "is_offered",
        ]  # fmt: skip
        read_only_fields = fields

    def get_permission(self, playbook: SitePlaybook) -> str:
        return playbook.declared.permission

    @extend_schema_field(OpenApiTypes.OBJECT)
    def get_parameters(self, playbook: SitePlaybook) -> dict[str, Any]:
        """JSON schema of ``variables``."""
        return playbook.declared.parameters.model_dump(mode="json", exclude_unset=True)

    def get_is_offered(self, playbook: SitePlaybook) -> bool:
        source = playbook.source
        return playbook.is_offered and source.enabled and source.released_id is not None
