"""Figures that the processes count themselves, for ``/metrics``."""

from prometheus_client import Histogram

REQUESTS = Histogram(
    "beidou_request_seconds",
    "Time to answer a request.",
    ["method", "view", "status"],
    buckets=(0.01, 0.025, 0.05, 0.1, 0.2, 0.5, 1, 2.5, 5, 10, 30),
)
