"""``/api/v1/overview/``: the figures of the home page for programs."""

from typing import Any

from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.permissions import IsAuthenticated
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from beidou.overview import figures


class CountedSerializer(serializers.Serializer[Any]):
    key = serializers.CharField()
    count = serializers.IntegerField()
    url = serializers.CharField(help_text="Address of the list behind the number.")


class FillingSerializer(serializers.Serializer[Any]):
    key = serializers.CharField(help_text="cpu (millicores), memory (bytes) or pods")
    requested = serializers.IntegerField()
    allocatable = serializers.IntegerField()
    percent = serializers.IntegerField(allow_null=True)


class NeedSerializer(serializers.Serializer[Any]):
    kind = serializers.CharField()
    tone = serializers.CharField(help_text="bad or warning")
    text = serializers.CharField()
    detail = serializers.CharField()
    moment = serializers.DateTimeField(
        allow_null=True, help_text="Since when; for what expires, when it ends."
    )
    count = serializers.IntegerField()
    url = serializers.CharField()


class RunningSerializer(serializers.Serializer[Any]):
    id = serializers.IntegerField(source="operation.pk")
    name = serializers.CharField(source="operation.name")
    kind = serializers.CharField(source="operation.kind")
    cluster = serializers.CharField(source="operation.cluster.name")
    cluster_insecure_tls = serializers.BooleanField(source="operation.cluster.insecure_tls")
    status = serializers.CharField(source="operation.status")
    step = serializers.CharField(source="step.name", default="")
    settled = serializers.IntegerField(help_text="Cells (machine × step) that are done with.")
    all_parts = serializers.IntegerField(help_text="All cells.")
    remaining_seconds = serializers.FloatField(
        allow_null=True, help_text="From the medians of earlier runs; null when there are none."
    )


class OverviewSerializer(serializers.Serializer[Any]):
    at = serializers.DateTimeField()
    needs = NeedSerializer(many=True)
    clusters_total = CountedSerializer()
    clusters = CountedSerializer(many=True)
    nodes_total = CountedSerializer()
    nodes = CountedSerializer(many=True)
    stale_nodes = serializers.IntegerField()
    filling = FillingSerializer(many=True)
    running = RunningSerializer(many=True)
    machines_total = CountedSerializer()
    machines = CountedSerializer(many=True)
    today = CountedSerializer(many=True)
    active = CountedSerializer(many=True)


class OverviewView(APIView):
    """What is there, how well it is, what runs and what needs somebody; as far as one may see."""

    permission_classes = [IsAuthenticated]

    @extend_schema(operation_id="overview", responses=OverviewSerializer, tags=["overview"])
    def get(self, request: Request) -> Response:
        return Response(OverviewSerializer(figures.collect(request.user)).data)
