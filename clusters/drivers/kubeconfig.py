"""Kubeconfig texts: from what a person pastes to a checked ``Connection``, and back.

A kubeconfig can make its reader run programs (``exec``), read files and send credentials through a
proxy.  Here it is only data: whatever would act on the portal's machine is refused, each refusal
with a stable code and a sentence for the person who pasted it.  Nothing of the text is ever quoted
except names (contexts, clusters, users) and the server's address.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import yaml

from beidou.base.sentences import Sentence
from clusters.drivers import certificates
from clusters.drivers.connection import Connection
from clusters.drivers.kubeconfig_checks import (
    check_credential,
    checked_ca,
    checked_server,
    is_host,
)
from clusters.drivers.kubeconfig_text import (
    choose_context,
    decode,
    encode,
    given,
    load,
    named_entries,
    pem_of,
    refuse,
    text_of,
)

_TRUE = ("true", "yes", "on", "y")


def parse(
    text: str,
    context: str | None = None,
    *,
    allow_insecure: bool = False,
    now: datetime | None = None,
) -> Connection:
    """Read one context of a kubeconfig; InvalidInput says what cannot be used and why.

    Without ``context`` the file's current context is taken, or its only one.
    """
    config = load(text)
    contexts = named_entries(config, "contexts", "context")
    name = choose_context(config, contexts, context)
    chosen = contexts[name]
    cluster_name = text_of(chosen, "cluster") or ""
    user_name = text_of(chosen, "user") or ""
    cluster = named_entries(config, "clusters", "cluster").get(cluster_name)
    if cluster is None:
        raise refuse(
            "kubeconfig_missing_cluster",
            Sentence(
                "Context “%(name)s” refers to cluster “%(cluster)s”, which the "
                "kubeconfig does not contain.",
                name=name,
                cluster=cluster_name,
            ),
        )
    user = named_entries(config, "users", "user").get(user_name)
    if user is None:
        raise refuse(
            "kubeconfig_missing_user",
            Sentence(
                "Context “%(name)s” refers to user “%(user)s”, which the kubeconfig "
                "does not contain.",
                name=name,
                user=user_name,
            ),
        )
    _refuse_what_acts(cluster, user)
    insecure = _insecure(cluster, allow_insecure=allow_insecure)
    connection = Connection(
        server=checked_server(text_of(cluster, "server") or "", field_name="kubeconfig"),
        ca_pem=None if insecure else _ca(cluster),
        client_certificate_pem=pem_of(user, "client-certificate-data"),
        client_key_pem=pem_of(user, "client-key-data"),
        token=text_of(user, "token"),
        tls_server_name=_server_name(cluster),
        insecure_skip_tls_verify=insecure,
        context_name=name,
        cluster_name=cluster_name,
    )
    check_credential(connection, now=now or datetime.now(UTC), field_name="kubeconfig")
    return connection


def context_names(text: str) -> list[str]:
    """The contexts of a kubeconfig in their order, for a person to choose from."""
    return list(named_entries(load(text), "contexts", "context"))


def from_parts(server: str, ca_pem: str, token: str, *, now: datetime | None = None) -> Connection:
    """A connection from an address, a CA (PEM, or base64 of it) and a bearer token."""
    server = checked_server(server.strip(), field_name="server")
    if not ca_pem.strip():
        raise refuse("kubeconfig_no_ca", Sentence("The CA certificate is missing."), "ca_pem")
    if not token.strip():
        raise refuse("kubeconfig_no_credential", Sentence("The token is missing."), "token")
    ca_text = ca_pem.strip() + "\n"
    if "-----BEGIN" not in ca_text:
        ca_text = decode(ca_text, Sentence("CA certificate"), "ca_pem")
    connection = Connection(
        server=server,
        ca_pem=checked_ca(ca_text, field_name="ca_pem"),
        token=token.strip(),
    )
    check_credential(connection, now=now or datetime.now(UTC), field_name="token")
    return connection


def to_kubeconfig(connection: Connection) -> str:
    """A kubeconfig of one context that contains the whole connection, secrets included."""
    name = connection.cluster_name or "cluster"
    cluster: dict[str, Any] = {"server": connection.server}
    if connection.ca_pem:
        cluster["certificate-authority-data"] = encode(connection.ca_pem)
    if connection.insecure_skip_tls_verify:
        cluster["insecure-skip-tls-verify"] = True
    if connection.tls_server_name:
        cluster["tls-server-name"] = connection.tls_server_name
    user: dict[str, Any] = {}
    if connection.client_certificate_pem and connection.client_key_pem:
        user["client-certificate-data"] = encode(connection.client_certificate_pem)
        user["client-key-data"] = encode(connection.client_key_pem)
    if connection.token:
        user["token"] = connection.token
    context = connection.context_name or name
    return yaml.safe_dump(
        {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": name, "cluster": cluster}],
            "users": [{"name": "user", "user": user}],
            "contexts": [{"name": context, "context": {"cluster": name, "user": "user"}}],
            "current-context": context,
        },
        sort_keys=False,
        allow_unicode=True,
    )


def credential_expiry(connection: Connection) -> datetime | None:
    """When the credential stops working: the earlier end of certificate and token, if known."""
    ends = []
    if connection.client_certificate_pem:
        certificate = certificates.load_certificates(connection.client_certificate_pem)[0]
        ends.append(certificate.not_valid_after_utc)
    if connection.token:
        end = certificates.token_expiry(connection.token)
        if end is not None:
            ends.append(end)
    return min(ends, default=None)


def subject(connection: Connection) -> str:
    """The user whom the credential itself names; empty for an opaque token."""
    if connection.client_certificate_pem:
        certificate = certificates.load_certificates(connection.client_certificate_pem)[0]
        return certificates.common_name(certificate)
    return certificates.token_subject(connection.token or "")


def _refuse_what_acts(cluster: Mapping[str, Any], user: Mapping[str, Any]) -> None:
    """Plugins, files, proxies, passwords and impersonation."""
    if given(user, "exec") is not None:
        raise refuse(
            "kubeconfig_exec",
            Sentence(
                "The kubeconfig gets its credential by running a program (exec plugin), which is "
                "not done here; use a client certificate or the token of a service account."
            ),
        )
    if given(user, "auth-provider") is not None:
        raise refuse(
            "kubeconfig_auth_provider",
            Sentence(
                "The kubeconfig gets its credential through an auth-provider plugin, which is not "
                "done here; use a client certificate or the token of a service account."
            ),
        )
    for entry, key in (
        (cluster, "certificate-authority"),
        (user, "client-certificate"),
        (user, "client-key"),
        (user, "tokenFile"),
    ):
        if given(entry, key) is not None:
            raise refuse(
                "kubeconfig_file_reference",
                Sentence(
                    "The kubeconfig refers to a file (%(key)s) that exists only where it "
                    "was written; embed the content, for example with “kubectl config view "
                    "--flatten --raw”.",
                    key=key,
                ),
            )
    if given(cluster, "proxy-url") is not None:
        raise refuse(
            "kubeconfig_proxy",
            Sentence(
                "The kubeconfig sends the connection through a proxy (proxy-url), "
                "which is not supported."
            ),
        )
    if given(user, "username") is not None or given(user, "password") is not None:
        raise refuse(
            "kubeconfig_basic_auth",
            Sentence(
                "The kubeconfig signs in with user name and password, which Kubernetes does not "
                "accept since 1.19; use a client certificate or a token."
            ),
        )
    for key in ("as", "as-uid", "as-groups", "as-user-extra"):
        if given(user, key) is not None:
            raise refuse(
                "kubeconfig_impersonation",
                Sentence(
                    "The kubeconfig acts as somebody else (%(key)s); use a credential that "
                    "has the rights itself.",
                    key=key,
                ),
            )


def _insecure(cluster: Mapping[str, Any], *, allow_insecure: bool) -> bool:
    value = given(cluster, "insecure-skip-tls-verify")
    insecure = str(value).lower() in _TRUE
    if insecure and not allow_insecure:
        raise refuse(
            "kubeconfig_insecure",
            Sentence(
                "The kubeconfig switches off the check of the server's certificate "
                "(insecure-skip-tls-verify); embed the cluster's CA certificate instead."
            ),
        )
    return insecure


def _server_name(cluster: Mapping[str, Any]) -> str | None:
    name = text_of(cluster, "tls-server-name")
    if name is not None and not is_host(name):
        raise refuse(
            "kubeconfig_bad_server_name", Sentence("The tls-server-name is not a host name.")
        )
    return name


def _ca(cluster: Mapping[str, Any]) -> str:
    pem = pem_of(cluster, "certificate-authority-data")
    if pem is None:
        raise refuse(
            "kubeconfig_no_ca",
            Sentence(
                "The kubeconfig contains no CA certificate (certificate-authority-data), "
                "so the server could not be told from an impostor."
            ),
        )
    return checked_ca(pem, field_name="kubeconfig")
