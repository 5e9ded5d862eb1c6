"""Kubeconfig texts: from what a person pastes to a checked ``Connection``, and back.

A kubeconfig can make its reader run programs (``exec``), read files and send credentials through a
proxy.  Here it is only data: whatever would act on the portal's machine is refused, each refusal
with a stable code and a sentence for the person who pasted it.  Nothing of the text is ever quoted
except names (contexts, clusters, users) and the server's address.
"""

import base64
import binascii
import re
import ssl
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

import yaml
from cryptography.exceptions import UnsupportedAlgorithm
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from beidou.base.errors import InvalidInput
from clusters.drivers import certificates, tls
from clusters.drivers.connection import Connection

SIZE_LIMIT = 1024 * 1024
SERVER_LENGTH = 500  # characters of the server's address; as many as are stored
DEPTH_LIMIT = 20

# Every scalar stays text: a token of digits is no number, and no odd date can raise.
_LOADER: Any = getattr(yaml, "CBaseLoader", yaml.BaseLoader)
_EMPTY: tuple[object, ...] = (None, "", "null", "~", {}, [])
_TRUE = ("true", "yes", "on", "y")
_HEADER_SAFE = re.compile(r"[\x21-\x7e]+")
_HOST_NAME = re.compile(r"[A-Za-z0-9.:_*-]{1,253}")


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
    config = _load(text)
    contexts = _entries(config, "contexts", "context")
    name = _choose_context(config, contexts, context)
    chosen = contexts[name]
    cluster_name = _text(chosen, "cluster") or ""
    user_name = _text(chosen, "user") or ""
    cluster = _entries(config, "clusters", "cluster").get(cluster_name)
    if cluster is None:
        raise _refuse(
            "kubeconfig_missing_cluster",
            _(
                "Context “%(name)s” refers to cluster “%(cluster)s”, which the "
                "kubeconfig does not contain."
            )
            % {"name": name, "cluster": cluster_name},
        )
    user = _entries(config, "users", "user").get(user_name)
    if user is None:
        raise _refuse(
            "kubeconfig_missing_user",
            _(
                "Context “%(name)s” refers to user “%(user)s”, which the kubeconfig "
                "does not contain."
            )
            % {"name": name, "user": user_name},
        )
    _refuse_what_acts(cluster, user)
    insecure = _insecure(cluster, allow_insecure=allow_insecure)
    connection = Connection(
        server=_checked_server(_text(cluster, "server") or "", field_name="kubeconfig"),
        ca_pem=None if insecure else _ca(cluster),
        client_certificate_pem=_pem(user, "client-certificate-data"),
        client_key_pem=_pem(user, "client-key-data"),
        token=_text(user, "token"),
        tls_server_name=_server_name(cluster),
        insecure_skip_tls_verify=insecure,
        context_name=name,
        cluster_name=cluster_name,
    )
    _check_credential(connection, now=now or datetime.now(UTC), field_name="kubeconfig")
    return connection


def context_names(text: str) -> list[str]:
    """The contexts of a kubeconfig in their order, for a person to choose from."""
    return list(_entries(_load(text), "contexts", "context"))


def from_parts(server: str, ca_pem: str, token: str, *, now: datetime | None = None) -> Connection:
    """A connection from an address, a CA (PEM, or base64 of it) and a bearer token."""
    server = _checked_server(server.strip(), field_name="server")
    if not ca_pem.strip():
        raise _refuse("kubeconfig_no_ca", _("The CA certificate is missing."), "ca_pem")
    if not token.strip():
        raise _refuse("kubeconfig_no_credential", _("The token is missing."), "token")
    ca_text = ca_pem.strip() + "\n"
    if "-----BEGIN" not in ca_text:
        ca_text = _decode(ca_text, _("CA certificate"), "ca_pem")
    connection = Connection(
        server=server,
        ca_pem=_checked_ca(ca_text, field_name="ca_pem"),
        token=token.strip(),
    )
    _check_credential(connection, now=now or datetime.now(UTC), field_name="token")
    return connection


def to_kubeconfig(connection: Connection) -> str:
    """A kubeconfig of one context that contains the whole connection, secrets included."""
    name = connection.cluster_name or "cluster"
    cluster: dict[str, Any] = {"server": connection.server}
    if connection.ca_pem:
        cluster["certificate-authority-data"] = _encode(connection.ca_pem)
    if connection.insecure_skip_tls_verify:
        cluster["insecure-skip-tls-verify"] = True
    if connection.tls_server_name:
        cluster["tls-server-name"] = connection.tls_server_name
    user: dict[str, Any] = {}
    if connection.client_certificate_pem and connection.client_key_pem:
        user["client-certificate-data"] = _encode(connection.client_certificate_pem)
        user["client-key-data"] = _encode(connection.client_key_pem)
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


def _load(text: str) -> Mapping[str, Any]:
    """The text as a mapping of texts, lists and mappings."""
    if len(text.encode("utf-8", "replace")) > SIZE_LIMIT:
        raise _refuse("kubeconfig_too_large", _("The kubeconfig is larger than 1 MiB."))
    try:
        _refuse_bombs(text)
        config = yaml.load(text, Loader=_LOADER)  # noqa: S506 - a base loader makes only texts
    except yaml.YAMLError as error:
        # The error's own text quotes the file and with it, perhaps, a key.
        mark = getattr(error, "problem_mark", None)
        where = " " + _("(line %(line)d)") % {"line": mark.line + 1} if mark else ""
        raise _refuse(
            "kubeconfig_not_yaml", _("The text is not valid YAML%(where)s.") % {"where": where}
        ) from None
    if not isinstance(config, dict):
        raise _refuse(
            "kubeconfig_not_mapping",
            _("The text is not a kubeconfig: it has no keys such as clusters, users and contexts."),
        )
    kind = config.get("kind")
    if kind != "Config":
        found = f"“{kind}”" if isinstance(kind, str) and kind else _("missing")
        raise _refuse(
            "kubeconfig_wrong_kind",
            _("The text is not a kubeconfig: its kind is %(found)s instead of “Config”.")
            % {"found": found},
        )
    return config


def _refuse_bombs(text: str) -> None:
    """Aliases make a small text huge, deep nesting exhausts the reader; neither is ever needed."""
    depth = 0
    for event in yaml.parse(text, Loader=_LOADER):
        if isinstance(event, yaml.AliasEvent):
            raise _refuse(
                "kubeconfig_yaml_alias",
                _("The kubeconfig uses YAML aliases (*name); write the values out."),
            )
        depth += isinstance(event, yaml.CollectionStartEvent)
        depth -= isinstance(event, yaml.CollectionEndEvent)
        if depth > DEPTH_LIMIT:
            raise _refuse(
                "kubeconfig_too_deep",
                _("The kubeconfig is nested more than %(limit)s levels deep.")
                % {"limit": DEPTH_LIMIT},
            )


def _entries(config: Mapping[str, Any], plural: str, singular: str) -> dict[str, Mapping[str, Any]]:
    """The named entries of one of the three lists."""
    items = _given(config, plural) or []
    if not isinstance(items, list):
        raise _refuse(
            "kubeconfig_malformed",
            _("“%(plural)s” in the kubeconfig is not a list.") % {"plural": plural},
        )
    entries: dict[str, Mapping[str, Any]] = {}
    for item in items:
        name = item.get("name") if isinstance(item, dict) else None
        body = (_given(item, singular) or {}) if isinstance(item, dict) else None
        if not isinstance(name, str) or not isinstance(body, dict):
            raise _refuse(
                "kubeconfig_malformed",
                _("An entry of “%(plural)s” in the kubeconfig lacks its name or its %(singular)s.")
                % {"plural": plural, "singular": singular},
            )
        entries.setdefault(name, body)  # kubectl, too, takes the first of a name
    return entries


def _choose_context(
    config: Mapping[str, Any], contexts: Mapping[str, object], wanted: str | None
) -> str:
    known = ", ".join(contexts)
    if not contexts:
        raise _refuse("kubeconfig_no_context", _("The kubeconfig contains no context."))
    name = wanted or _text(config, "current-context")
    if name is None:
        if len(contexts) == 1:
            return next(iter(contexts))
        raise _refuse(
            "kubeconfig_no_context",
            _("The kubeconfig has no current context; choose one of: %(known)s.")
            % {"known": known},
            "context",
        )
    if name not in contexts:
        raise _refuse(
            "kubeconfig_unknown_context",
            _("The kubeconfig has no context “%(name)s”; it has: %(known)s.")
            % {"name": name, "known": known},
            "context",
        )
    return name


def _refuse_what_acts(cluster: Mapping[str, Any], user: Mapping[str, Any]) -> None:
    """Plugins, files, proxies, passwords and impersonation."""
    if _given(user, "exec") is not None:
        raise _refuse(
            "kubeconfig_exec",
            _(
                "The kubeconfig gets its credential by running a program (exec plugin), which is "
                "not done here; use a client certificate or the token of a service account."
            ),
        )
    if _given(user, "auth-provider") is not None:
        raise _refuse(
            "kubeconfig_auth_provider",
            _(
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
        if _given(entry, key) is not None:
            raise _refuse(
                "kubeconfig_file_reference",
                _(
                    "The kubeconfig refers to a file (%(key)s) that exists only where it "
                    "was written; embed the content, for example with “kubectl config view "
                    "--flatten --raw”."
                )
                % {"key": key},
            )
    if _given(cluster, "proxy-url") is not None:
        raise _refuse(
            "kubeconfig_proxy",
            _(
                "The kubeconfig sends the connection through a proxy (proxy-url), "
                "which is not supported."
            ),
        )
    if _given(user, "username") is not None or _given(user, "password") is not None:
        raise _refuse(
            "kubeconfig_basic_auth",
            _(
                "The kubeconfig signs in with user name and password, which Kubernetes does not "
                "accept since 1.19; use a client certificate or a token."
            ),
        )
    for key in ("as", "as-uid", "as-groups", "as-user-extra"):
        if _given(user, key) is not None:
            raise _refuse(
                "kubeconfig_impersonation",
                _(
                    "The kubeconfig acts as somebody else (%(key)s); use a credential that "
                    "has the rights itself."
                )
                % {"key": key},
            )


def _insecure(cluster: Mapping[str, Any], *, allow_insecure: bool) -> bool:
    value = _given(cluster, "insecure-skip-tls-verify")
    insecure = str(value).lower() in _TRUE
    if insecure and not allow_insecure:
        raise _refuse(
            "kubeconfig_insecure",
            _(
                "The kubeconfig switches off the check of the server's certificate "
                "(insecure-skip-tls-verify); embed the cluster's CA certificate instead."
            ),
        )
    return insecure


def _checked_server(server: str, *, field_name: str) -> str:
    """The address without trailing slash, when it is an https address and nothing more."""
    if not server:
        raise _refuse(
            "kubeconfig_no_server", _("The address of the server is missing."), field_name
        )
    if len(server) > SERVER_LENGTH:
        raise _refuse(
            "kubeconfig_bad_server",
            _("The address of the server is longer than %(limit)s characters.")
            % {"limit": SERVER_LENGTH},
            field_name,
        )
    try:
        parts = urlsplit(server)
        port = parts.port
    except ValueError:
        raise _refuse(
            "kubeconfig_bad_server", _("The address of the server is not a valid URL."), field_name
        ) from None
    if parts.scheme != "https":
        raise _refuse(
            "kubeconfig_not_https",
            _(
                "The address of the server does not begin with https://; "
                "Beidou sends credentials over TLS only."
            ),
            field_name,
        )
    extra = parts.username or parts.password or parts.query or parts.fragment
    if extra or port == 0 or not _HOST_NAME.fullmatch(parts.hostname or ""):
        raise _refuse(
            "kubeconfig_bad_server",
            _(
                "The address of the server must have the form https://host:port, "
                "optionally with a path."
            ),
            field_name,
        )
    return server.rstrip("/")


def _server_name(cluster: Mapping[str, Any]) -> str | None:
    name = _text(cluster, "tls-server-name")
    if name is not None and not _HOST_NAME.fullmatch(name):
        raise _refuse("kubeconfig_bad_server_name", _("The tls-server-name is not a host name."))
    return name


def _ca(cluster: Mapping[str, Any]) -> str:
    pem = _pem(cluster, "certificate-authority-data")
    if pem is None:
        raise _refuse(
            "kubeconfig_no_ca",
            _(
                "The kubeconfig contains no CA certificate (certificate-authority-data), "
                "so the server could not be told from an impostor."
            ),
        )
    return _checked_ca(pem, field_name="kubeconfig")


def _checked_ca(pem: str, *, field_name: str) -> str:
    try:
        certificates.load_certificates(pem)
    except ValueError:
        raise _refuse(
            "kubeconfig_bad_ca", _("The CA certificate is not a PEM certificate."), field_name
        ) from None
    return pem


def _check_credential(connection: Connection, *, now: datetime, field_name: str) -> None:
    """There is one, it is complete and readable, and it is in its time."""
    certificate, key = connection.client_certificate_pem, connection.client_key_pem
    if connection.token is None and certificate is None and key is None:
        raise _refuse(
            "kubeconfig_no_credential",
            _("The kubeconfig contains neither a client certificate nor a token."),
            field_name,
        )
    if (certificate is None) != (key is None):
        sentence = (
            _("The kubeconfig contains a client key without its certificate.")
            if certificate is None
            else _("The kubeconfig contains a client certificate without its key.")
        )
        raise _refuse("kubeconfig_incomplete_credential", sentence, field_name)
    if certificate is not None and key is not None:
        _check_client_certificate(certificate, key, now=now)
    if connection.token is not None:
        _check_token(connection.token, now=now, field_name=field_name)
    try:
        tls.make_context(connection)
    except ssl.SSLError as error:
        raise _refuse(
            "kubeconfig_unusable",
            _("The certificates or the key cannot be used for TLS (%(reason)s).")
            % {"reason": error.reason},
            field_name,
        ) from None


def _check_client_certificate(pem: str, key_pem: str, *, now: datetime) -> None:
    try:
        certificate = certificates.load_certificates(pem)[0]
    except ValueError:
        raise _refuse(
            "kubeconfig_bad_certificate", _("The client certificate is not a PEM certificate.")
        ) from None
    if certificates.key_is_encrypted(key_pem):
        raise _refuse(
            "kubeconfig_encrypted_key",
            _(
                "The client key is protected by a passphrase, which kubeconfigs do not provide "
                "for; store it without one."
            ),
        )
    try:
        fits = certificates.key_fits_certificate(key_pem, certificate)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise _refuse("kubeconfig_bad_key", _("The client key is not a PEM private key.")) from None
    if not fits:
        raise _refuse(
            "kubeconfig_key_mismatch",
            _("The client key does not belong to the client certificate."),
        )
    if certificate.not_valid_after_utc <= now:
        raise _refuse(
            "kubeconfig_certificate_expired",
            _("The client certificate expired %(since)s.")
            % {"since": _since(certificate.not_valid_after_utc, now)},
        )
    if certificate.not_valid_before_utc > now:
        begin = certificate.not_valid_before_utc
        raise _refuse(
            "kubeconfig_certificate_not_yet_valid",
            _("The client certificate is valid only from %(begin)s UTC.")
            % {"begin": f"{begin:%Y-%m-%d %H:%M}"},
        )


def _check_token(token: str, *, now: datetime, field_name: str) -> None:
    if not _HEADER_SAFE.fullmatch(token):
        raise _refuse(
            "kubeconfig_bad_token",
            _("The token contains blanks, line breaks or characters that no token has."),
            field_name,
        )
    end = certificates.token_expiry(token)
    if end is not None and end <= now:
        raise _refuse(
            "kubeconfig_token_expired",
            _("The token expired %(since)s.") % {"since": _since(end, now)},
            field_name,
        )


def _since(moment: datetime, now: datetime) -> str:
    days = (now - moment).days
    ago = (
        ngettext("%(days)d day ago", "%(days)d days ago", days) % {"days": days}
        if days
        else _("less than a day ago")
    )
    return _("on %(day)s at %(time)s UTC (%(ago)s)") % {
        "day": f"{moment:%Y-%m-%d}",
        "time": f"{moment:%H:%M}",
        "ago": ago,
    }


def _given(mapping: Mapping[str, Any], key: str) -> Any:
    """The value of a key; None for the ways of YAML to say that there is none."""
    value = mapping.get(key)
    return None if value in _EMPTY else value


def _text(mapping: Mapping[str, Any], key: str) -> str | None:
    value = _given(mapping, key)
    if value is not None and not isinstance(value, str):
        raise _refuse(
            "kubeconfig_malformed", _("“%(key)s” in the kubeconfig is not a text.") % {"key": key}
        )
    return value


def _pem(mapping: Mapping[str, Any], key: str) -> str | None:
    """The decoded text of one of the ``…-data`` keys."""
    value = _text(mapping, key)
    return None if value is None else _decode(value, key, "kubeconfig")


def _decode(value: str, name: str, field_name: str) -> str:
    try:
        return base64.b64decode("".join(value.split()), validate=True).decode("ascii")
    except (binascii.Error, ValueError):
        raise _refuse(
            "kubeconfig_bad_base64",
            _("The %(name)s is not valid base64 of a PEM text.") % {"name": name},
            field_name,
        ) from None


def _encode(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def _refuse(code: str, sentence: str, field_name: str = "kubeconfig") -> InvalidInput:
    return InvalidInput(sentence, code=code, fields={field_name: sentence})
