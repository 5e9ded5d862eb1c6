"""Looking at a cluster before anything is stored: step by step, each with its own sentence.

The steps are the same for adopting and for replacing a credential.  They only read; the questions
about rights are reviews that leave nothing behind in the cluster.  A page that shows the steps
live asks for one at a time (``only``); nothing is kept between the requests.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from django.conf import settings
from django.utils.functional import Promise
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from beidou.base.errors import BeidouError, InvalidInput, PermanentError
from beidou.base.sentences import Sentence, joined
from clusters.drivers import errors, kubeconfig
from clusters.drivers.answers import Identity, Version
from clusters.drivers.connection import Connection
from clusters.drivers.kubernetes import KubernetesClient
from clusters.services import capabilities

OLDEST_MINOR = 28  # 1.28: the oldest whose answers are checked; older ones are years out of support
TIMEOUT_SECONDS = 10.0


@dataclass(frozen=True)
class Source:
    """What a person gave: a kubeconfig (and a context of it), or server, CA and token."""

    kubeconfig: str = field(default="", repr=False)
    context: str = ""
    server: str = ""
    ca_pem: str = ""
    token: str = field(default="", repr=False)

    def connection(self) -> Connection:
        """InvalidInput says what cannot be used, and why."""
        parts = self.server.strip() or self.token.strip() or self.ca_pem.strip()
        if self.kubeconfig.strip() and parts:
            text = _("Give a kubeconfig or server, CA and token, not both: it must be clear which.")
            raise InvalidInput(text, code="both_given", fields={"kubeconfig": text})
        if self.kubeconfig.strip():
            return kubeconfig.parse(
                self.kubeconfig,
                self.context or None,
                allow_insecure=settings.ALLOW_INSECURE_TLS,
            )
        if parts:
            return kubeconfig.from_parts(self.server, self.ca_pem, self.token)
        text = _("Give a kubeconfig, or the server's address with its CA certificate and a token.")
        raise InvalidInput(text, code="nothing_given", fields={"kubeconfig": text})


@dataclass(frozen=True)
class CheckStep:
    """One line of the check: ``status`` is ok, warning, failed or skipped; ``code`` is stable."""

    key: str
    label: str
    status: str
    detail: str
    code: str = ""


@dataclass
class Findings:
    """What the steps have learned so far; complete when ``error`` is None after all of them.

    ``networks`` are the ranges of pods and of Services, empty where nobody tells them.
    """

    steps: list[CheckStep] = field(default_factory=list)
    connection: Connection | None = None
    identity: Identity | None = None
    version: Version | None = None
    uid: str = ""
    networks: tuple[str, str] = ("", "")
    capabilities: list[dict[str, Any]] = field(default_factory=list)
    credential_expires_at: datetime | None = None
    server_certificate_expires_at: datetime | None = None
    error: BeidouError | None = None

    def complete(self) -> tuple[Connection, Identity, Version]:
        """What adopting needs; raises the error of the failed step."""
        if self.error is not None:
            raise self.error
        if self.connection is None or self.identity is None or self.version is None:
            raise RuntimeError("The steps of the check were not all run.")
        return self.connection, self.identity, self.version


class Check:
    """Runs the steps; ``accept_uid`` raises Conflict for a cluster that cannot be taken."""

    def __init__(self, source: Source, *, accept_uid: Callable[[str], None]) -> None:
        self.source = source
        self.findings = Findings()
        self._accept_uid = accept_uid
        self._client: KubernetesClient | None = None

    def run(self, *, only: str = "") -> Iterator[CheckStep]:
        """All steps in order, or one of them (the kubeconfig is read first in any case).

        After a failed step the others are skipped.
        """
        try:
            for key, label, action in STEPS:
                shown = not only or key == only
                if shown or key == "parse":
                    step = self._step(key, str(label), action)
                    if shown or step.status == "failed":
                        self.findings.steps.append(step)
                        yield step
        finally:
            if self._client is not None:
                self._client.close()

    def _step(
        self, key: str, label: str, action: Callable[["Check"], tuple[str, str]]
    ) -> CheckStep:
        if self.findings.error is not None:
            return CheckStep(key, label, "skipped", _("Not tried, because a step before failed."))
        try:
            status, detail = action(self)
        except BeidouError as error:
            self.findings.error = error
            return CheckStep(key, label, "failed", error.message, error.code)
        return CheckStep(key, label, status, detail)

    @property
    def client(self) -> KubernetesClient:
        if self._client is None:
            connection = self.connection
            self._client = KubernetesClient(
                connection,
                cluster_name=connection.cluster_name or connection.host,
                timeout=TIMEOUT_SECONDS,
            )
        return self._client

    @property
    def connection(self) -> Connection:
        if self.findings.connection is None:
            self.findings.connection = self.source.connection()
        return self.findings.connection

    # --- the steps: each gives (status, detail) or raises ------------------------------------

    def parse(self) -> tuple[str, str]:
        connection = self.connection
        expires = kubeconfig.credential_expiry(connection)
        self.findings.credential_expires_at = expires
        what = _("client certificate") if connection.client_certificate_pem else _("token")
        if expires is None and connection.token and not kubeconfig.subject(connection):
            until = _("whose end cannot be told from it")
        elif expires is None:
            until = _("without an end")
        else:
            until = _("until %(day)s") % {"day": f"{expires:%Y-%m-%d %H:%M} UTC"}
        return "ok", _("Server %(server)s, %(what)s %(until)s.") % {
            "server": connection.server,
            "what": what,
            "until": until,
        }

    def reach(self) -> tuple[str, str]:
        reached = self.client.reach()
        return "ok", _("%(address)s answered after %(ms)d ms.") % {
            "address": reached.address,
            "ms": round(reached.seconds * 1000),
        }

    def tls(self) -> tuple[str, str]:
        certificate = self.client.check_tls()
        self.findings.server_certificate_expires_at = certificate.not_after
        day = f"{certificate.not_after:%Y-%m-%d}"
        if not certificate.is_verified:
            return "warning", _(
                "The server's certificate is NOT verified (insecure-skip-tls-verify): whoever "
                "stands between can read and change everything. It ends on %(day)s."
            ) % {"day": day}
        return "ok", _("The server's certificate is signed by the given CA, until %(day)s.") % {
            "day": day
        }

    def identity(self) -> tuple[str, str]:
        try:
            identity = self.client.whoami()
        except errors.Unauthorized as error:
            raise errors.Unauthorized(self._unauthorized(error), code=error.code) from error
        self.findings.identity = identity
        if not identity.is_confirmed:
            return "ok", _("Signed in; the server is too old to say as whom.")
        return "ok", _("Signed in as %(name)s.") % {"name": identity.username}

    def _unauthorized(self, error: errors.Unauthorized) -> str:
        expires = kubeconfig.credential_expiry(self.connection)
        hint = (
            Sentence("It may have been revoked, or signed by another CA.")
            if expires is None
            else Sentence(
                "By itself it is valid until %(day)s, so it was revoked or belongs elsewhere.",
                day=f"{expires:%Y-%m-%d %H:%M} UTC",
            )
        )
        return joined([error.message, hint])

    def supported(self) -> tuple[str, str]:
        version = self.client.version()
        self.findings.version = version
        if (version.major, version.minor) < (1, OLDEST_MINOR):
            raise InvalidInput(
                _("The cluster runs Kubernetes %(found)s; supported are 1.%(oldest)d and newer.")
                % {"found": version.git_version, "oldest": OLDEST_MINOR},
                code="unsupported_version",
            )
        return "ok", _("Kubernetes %(version)s.") % {"version": version.git_version}

    def unique(self) -> tuple[str, str]:
        uid = self.client.kube_system_uid()
        self._accept_uid(uid)
        self.findings.uid = uid
        return "ok", _("Identity %(uid)s (UID of kube-system).") % {"uid": uid}

    def rights(self) -> tuple[str, str]:
        identity = self.findings.identity or self.client.whoami()
        rows = capabilities.report(self.client, identity)
        self.findings.capabilities = rows
        self.findings.networks = self._networks()
        status = "ok" if all(row["ok"] for row in capabilities.present(rows)) else "warning"
        return status, capabilities.summary(rows)

    def _networks(self) -> tuple[str, str]:
        """The ranges of pods and Services as kubeadm was told; empty where nobody tells them."""
        try:
            config = self.client.kubeadm_config()
        except PermanentError:
            return "", ""
        return config.pod_subnet, config.service_subnet


STEPS: tuple[tuple[str, Promise, Callable[[Check], tuple[str, str]]], ...] = (
    ("parse", gettext_lazy("Read what was given"), Check.parse),
    ("reach", gettext_lazy("Reach the API server"), Check.reach),
    ("tls", gettext_lazy("Verify its certificate"), Check.tls),
    ("identity", gettext_lazy("Sign in"), Check.identity),
    ("version", gettext_lazy("Kubernetes version"), Check.supported),
    ("unique", gettext_lazy("Which cluster it is"), Check.unique),
    ("rights", gettext_lazy("What we may do"), Check.rights),
)
STEP_KEYS = tuple(key for key, _label, _action in STEPS)
