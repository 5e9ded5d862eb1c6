"""One typed question to Prometheus: an instant query, and its samples as numbers."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlencode

from beidou.base import webhooks
from beidou.base.errors import PermanentError, TemporaryError, shorten
from beidou.base.sentences import Sentence

ANSWER_LIMIT: Final = 1024 * 1024
SECONDS: Final = 15.0


@dataclass(frozen=True)
class Sample:
    labels: Mapping[str, str]
    value: float


def ask(*, url: str, token: str, query: str) -> list[Sample]:
    """The samples of ``query`` now; those that are no number are left out.

    ``PermanentError`` when another try makes no sense: the query is wrong, or the token.
    """
    headers = {"Accept": "application/json"}
    if token:
        headers["Authorization"] = f"Bearer {token}"
    try:
        answer = webhooks.ask(
            "GET",
            f"{url.rstrip('/')}/api/v1/query?{urlencode({'query': query})}",
            headers=headers,
            limits=webhooks.limits(),
            seconds=SECONDS,
            answer_limit=ANSWER_LIMIT,
        )
    except TemporaryError as error:
        why = Sentence("Prometheus: %(why)s", why=error.message)
        raise TemporaryError(why, code="prometheus", retry_after=error.retry_after) from error
    except PermanentError as error:
        why = Sentence("Prometheus: %(why)s", why=error.message)
        raise PermanentError(why, code="prometheus") from error
    return _samples(answer.body)


def _samples(body: bytes) -> list[Sample]:
    try:
        data = json.loads(body)["data"]
        kind, result = data["resultType"], data["result"]
        pairs = [({}, result)] if kind == "scalar" else _pairs(kind, result)
        found = [Sample(labels, float(value[1])) for labels, value in pairs]
    except (ValueError, KeyError, TypeError, IndexError, RecursionError) as error:
        raise PermanentError(
            Sentence(
                "Prometheus answered what is no vector and no number: %(start)s",
                start=shorten(body[:200].decode("utf-8", "replace"), 200),
            ),
            code="prometheus",
        ) from error
    return [sample for sample in found if not math.isnan(sample.value)]


def _pairs(kind: str, result: Any) -> list[tuple[dict[str, str], Any]]:
    if kind != "vector":
        raise ValueError(kind)
    return [({str(k): str(v) for k, v in each["metric"].items()}, each["value"]) for each in result]
