"""A small client of the portal's public API, for the demo, the benches and tests on the lab."""

import json
import time
import urllib.error
import urllib.request
from typing import Any

from lab.errors import LabError

ENDED = frozenset({"succeeded", "partial", "failed", "canceled"})


class PortalError(LabError):
    """The portal refused: ``status`` and its ``{"code", "message", "fields"}``."""

    def __init__(self, status: int, body: dict[str, Any]) -> None:
        super().__init__(
            f"{status}: {body.get('message', body)} {body.get('fields') or ''}".strip()
        )
        self.status = status
        self.body = body


class PortalClient:
    """``client.post("operations", {...})``; paths are below ``/api/v1/``."""

    def __init__(self, address: str, token: str) -> None:
        self.address = address.rstrip("/")
        self.token = token

    def request(self, method: str, path: str, body: Any = None, *, timeout: float = 60) -> Any:
        """The decoded answer; ``PortalError`` for any refusal."""
        request = urllib.request.Request(
            f"{self.address}/api/v1/{path}",
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={
                "Authorization": f"Token {self.token}",
                "Content-Type": "application/json",
                "Accept": "application/json",
            },
        )
        try:
            with urllib.request.urlopen(request, timeout=timeout) as answer:
                text = answer.read()
        except urllib.error.HTTPError as error:
            raise PortalError(error.code, _decoded(error.read())) from error
        return json.loads(text) if text else None

    def get(self, path: str) -> Any:
        return self.request("GET", path)

    def post(self, path: str, body: Any = None) -> Any:
        return self.request("POST", path, {} if body is None else body)

    def patch(self, path: str, body: Any) -> Any:
        return self.request("PATCH", path, body)

    def answers(self) -> bool:
        """Whether a portal is there at all."""
        try:
            with urllib.request.urlopen(f"{self.address}/healthz", timeout=2):
                return True
        except OSError:
            return False

    def wait_for(self, operation: int, *, seconds: float, wanted: frozenset[str] = ENDED) -> Any:
        """The operation once its status is one of ``wanted``; ``LabError`` after ``seconds``."""
        deadline = time.monotonic() + seconds
        while True:
            row = self.get(f"operations/{operation}/")
            if row["status"] in wanted:
                return row
            if time.monotonic() > deadline:
                raise LabError(
                    f"Operation {row['name']} is {row['status']} after {seconds:.0f} s: "
                    f"{[(step['name'], step['status']) for step in row['steps']]}"
                )
            time.sleep(0.3)


def _decoded(body: bytes) -> dict[str, Any]:
    try:
        answer = json.loads(body)
    except ValueError:
        return {"message": body.decode("utf-8", "replace")[:300]}
    return answer if isinstance(answer, dict) else {"message": str(answer)}
