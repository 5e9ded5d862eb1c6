"""The shape of templates in the API; rules are in the services."""

from typing import Any

from django.utils.translation import gettext as _
from rest_framework import serializers
from rest_framework.reverse import reverse

from beidou.base.api.strict import StrictSerializer
from operations.flows.catalog import Template
from operations.flows.library import content as contents
from operations.flows.library import finding, saving
from operations.flows.library import steps as step_types


class TemplateSerializer(serializers.Serializer[Any]):
    """A template as lists show it; ``version`` is the newest."""

    name = serializers.CharField()
    version = serializers.IntegerField()
    title = serializers.CharField()
    description = serializers.CharField()
    operation_id = serializers.CharField()
    steps = serializers.ListField(child=serializers.CharField())
    ready_made = serializers.SerializerMethodField()
    page = serializers.SerializerMethodField()

    def get_ready_made(self, template: Template) -> bool:
        """Comes with the portal: it can be copied, not edited."""
        return template.content is None

    def get_page(self, template: Template) -> str:
        return reverse(
            "operations:template", args=[template.name], request=self.context.get("request")
        )


class TemplateDetailSerializer(TemplateSerializer):
    """``content`` is what a new version is written from."""

    content = serializers.SerializerMethodField()
    yaml = serializers.SerializerMethodField()

    def get_content(self, template: Template) -> dict[str, Any]:
        return finding.raw_of(template)

    def get_yaml(self, template: Template) -> str:
        return contents.as_yaml(finding.raw_of(template))


class VersionSerializer(serializers.Serializer[Any]):
    number = serializers.IntegerField()
    comment = serializers.CharField()
    saved_by_name = serializers.CharField()
    saved_at = serializers.DateTimeField()
    content = serializers.JSONField()


class DifferenceSerializer(serializers.Serializer[Any]):
    """``sign``: + in the later one alone, - in the earlier one alone, @ between places."""

    sign = serializers.CharField()
    text = serializers.CharField()


class ContentSerializer(StrictSerializer):
    """``content``, or the same as ``yaml``."""

    content = serializers.DictField(required=False)
    yaml = serializers.CharField(required=False, max_length=1 << 20, trim_whitespace=False)

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        if ("content" in attrs) == ("yaml" in attrs):
            raise serializers.ValidationError({"content": _("Give either content or yaml.")})
        return attrs


class WishSerializer(ContentSerializer):
    name = serializers.CharField(
        default="", allow_blank=True, max_length=40, help_text="Of the template that it would be."
    )


class NewTemplateSerializer(ContentSerializer):
    name = serializers.CharField(max_length=40)
    comment = serializers.CharField(
        default="", allow_blank=True, max_length=saving.COMMENT_MAX, help_text="What has changed."
    )


class NewVersionSerializer(ContentSerializer):
    base = serializers.IntegerField(
        min_value=1, help_text="The version that this one is based on; 409 if it is not the newest."
    )
    comment = serializers.CharField(
        default="", allow_blank=True, max_length=saving.COMMENT_MAX, help_text="What has changed."
    )


class StepTypeSerializer(serializers.Serializer[Any]):
    """What a step can be; ``params`` is the JSON schema of its parameters."""

    name = serializers.CharField()
    title = serializers.CharField()
    kind = serializers.CharField()
    params = serializers.SerializerMethodField()

    def get_params(self, named: Any) -> dict[str, Any]:
        return step_types.schema_of(named)
