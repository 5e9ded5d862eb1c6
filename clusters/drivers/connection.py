"""What is needed to talk to one Kubernetes API server, as a plain value."""

from dataclasses import dataclass, field
from urllib.parse import urlsplit


@dataclass(frozen=True, kw_only=True)
class Connection:
    """All that is needed to talk to one Kubernetes API server; its repr shows no secret.

    ``ca_pem`` is None only with ``insecure_skip_tls_verify``.  There is a client certificate with
    its key, or a token, or both.
    """

    server: str
    ca_pem: str | None
    client_certificate_pem: str | None = None
    client_key_pem: str | None = field(default=None, repr=False)
    token: str | None = field(default=None, repr=False)
    tls_server_name: str | None = None
    insecure_skip_tls_verify: bool = False
    context_name: str = ""
    cluster_name: str = ""

    @property
    def host(self) -> str:
        """Name or address of the API server, without brackets."""
        return urlsplit(self.server).hostname or ""

    @property
    def port(self) -> int:
        return urlsplit(self.server).port or 443

    @property
    def address(self) -> str:
        """host:port for messages."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"

    @property
    def verified_name(self) -> str:
        """The name that the server's certificate has to carry."""
        return self.tls_server_name or self.host
