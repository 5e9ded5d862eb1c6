"""What a pasted kubeconfig may contain, and the sentence for everything it may not."""

import base64
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.utils.translation import override
from hypothesis import given
from hypothesis import strategies as st

from beidou.base.errors import InvalidInput
from beidou.base.sentences import Sentence
from clusters.drivers import certificates, kubeconfig
from tests.fakes.kube_api import admin_certificate, authority, base64_text, make_kubeconfig

NOW = datetime(2026, 6, 1, 12, 0, tzinfo=UTC)


def jwt(**claims: Any) -> str:
    def part(content: dict[str, Any]) -> str:
        return base64.urlsafe_b64encode(json.dumps(content).encode()).decode().rstrip("=")

    return f"{part({'alg': 'RS256'})}.{part(claims)}.c2lnbmF0dXJl"


def token_user(token: str) -> dict[str, Any]:
    return {"client-certificate-data": None, "client-key-data": None, "token": token}


def certificate_user(**times: Any) -> dict[str, Any]:
    issued = authority().issue("old-admin", **times)
    return {
        "client-certificate-data": base64_text(issued.certificate_pem),
        "client-key-data": base64_text(issued.key_pem),
    }


def refusal(text: str, **options: Any) -> InvalidInput:
    with pytest.raises(InvalidInput) as caught:
        kubeconfig.parse(text, **options)
    return caught.value


# --- accepted -------------------------------------------------------------------------------------


def test_a_kubeconfig_with_client_certificate_is_read():
    connection = kubeconfig.parse(make_kubeconfig())
    assert connection.server == "https://127.0.0.1:6443"
    assert connection.ca_pem == authority().ca_pem
    assert connection.client_key_pem == admin_certificate().key_pem
    assert (connection.context_name, connection.cluster_name) == ("admin@fake", "fake")
    assert (connection.host, connection.port, connection.address) == (
        "127.0.0.1",
        6443,
        "127.0.0.1:6443",
    )


def test_a_kubeconfig_in_json_is_read():
    import_text = json.dumps(
        {
            "kind": "Config",
            "clusters": [
                {
                    "name": "c",
                    "cluster": {
                        "server": "https://[fd00::1]:6443/",
                        "certificate-authority-data": base64_text(authority().ca_pem),
                        "tls-server-name": "kubernetes",
                    },
                }
            ],
            "users": [{"name": "u", "user": {"token": "abc"}}],
            "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
        }
    )
    connection = kubeconfig.parse(import_text)
    assert connection.server == "https://[fd00::1]:6443"
    assert connection.address == "[fd00::1]:6443"
    assert connection.verified_name == "kubernetes"


def test_a_token_of_digits_stays_a_text():
    text = make_kubeconfig(user=token_user("PLACE")).replace("PLACE", "0123456789")
    assert kubeconfig.parse(text).token == "0123456789"


def test_the_only_context_needs_no_choice():
    text = make_kubeconfig(top={"current-context": None})
    assert kubeconfig.parse(text).context_name == "admin@fake"


def test_a_context_is_chosen_by_name():
    contexts = [
        {"name": name, "context": {"cluster": "fake", "user": "admin"}} for name in ("one", "two")
    ]
    text = make_kubeconfig(top={"contexts": contexts, "current-context": "one"})
    assert kubeconfig.parse(text, "two").context_name == "two"
    assert kubeconfig.context_names(text) == ["one", "two"]


@pytest.mark.parametrize("nothing", ["", None, "null"])
def test_keys_without_value_count_as_absent(nothing: str | None):
    text = make_kubeconfig(user={"token": "x"}).replace("token: x", f"exec: {nothing or ''}")
    assert kubeconfig.parse(text).token is None


@pytest.mark.parametrize("by_token", [True, False])
def test_what_is_written_is_read_back_the_same(by_token: bool):
    user = token_user(jwt(sub="system:serviceaccount:a:b")) if by_token else None
    cluster = {"tls-server-name": "kubernetes"}
    connection = kubeconfig.parse(make_kubeconfig(user=user, cluster=cluster))
    assert kubeconfig.parse(kubeconfig.to_kubeconfig(connection)) == connection


def test_an_insecure_connection_is_read_back_as_insecure():
    text = make_kubeconfig(
        cluster={"insecure-skip-tls-verify": True, "certificate-authority-data": None}
    )
    connection = kubeconfig.parse(text, allow_insecure=True)
    assert connection.insecure_skip_tls_verify
    again = kubeconfig.to_kubeconfig(connection)
    assert kubeconfig.parse(again, allow_insecure=True) == connection
    assert refusal(again).code == "kubeconfig_insecure"


def test_no_secret_is_shown_by_a_connection():
    connection = kubeconfig.parse(make_kubeconfig(user={"token": "very-secret"}))
    assert "very-secret" not in repr(connection)
    assert "PRIVATE KEY" not in repr(connection)


# --- refused: the text ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "code", "sentence"),
    [
        ("a: [1, 2]]", "kubeconfig_not_yaml", "The text is not valid YAML (line 1)."),
        ("a: 1\n\tb: 2", "kubeconfig_not_yaml", "The text is not valid YAML (line 2)."),
        ("\x00", "kubeconfig_not_yaml", "The text is not valid YAML."),
        ("a: 1\n---\nb: 2", "kubeconfig_not_yaml", "The text is not valid YAML (line 2)."),
        ("", "kubeconfig_not_mapping", "The text is not a kubeconfig: it has no keys"),
        ("hello", "kubeconfig_not_mapping", "The text is not a kubeconfig: it has no keys"),
        ("- a", "kubeconfig_not_mapping", "The text is not a kubeconfig: it has no keys"),
        ("kind: Secret", "kubeconfig_wrong_kind", "its kind is “Secret” instead of “Config”."),
        ("a: 1", "kubeconfig_wrong_kind", "its kind is missing instead of “Config”."),
        ("kind: Config", "kubeconfig_no_context", "The kubeconfig contains no context."),
        (
            "kind: Config\ncontexts: 5",
            "kubeconfig_malformed",
            "“contexts” in the kubeconfig is not a",
        ),
        ("kind: Config\ncontexts: [5]", "kubeconfig_malformed", "An entry of “contexts” in the"),
        (
            "kind: Config\ncontexts: &a [*a]",
            "kubeconfig_yaml_alias",
            "The kubeconfig uses YAML aliases (*name); write the values out.",
        ),
        (
            "[" * 10_000,
            "kubeconfig_too_deep",
            "The kubeconfig is nested more than 20 levels deep.",
        ),
        ("a" * (2**20 + 1), "kubeconfig_too_large", "The kubeconfig is larger than 1 MiB."),
    ],
)
def test_a_text_that_is_no_kubeconfig_is_refused(text: str, code: str, sentence: str):
    error = refusal(text)
    assert error.code == code
    assert sentence in error.message
    assert error.fields == {"kubeconfig": error.message}


def test_a_bomb_of_aliases_is_refused_at_once():
    lines = ["a0: &a0 [x, x]"] + [f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]" for n in range(1, 60)]
    assert refusal("\n".join(lines)).code == "kubeconfig_yaml_alias"


def test_the_message_about_broken_yaml_quotes_nothing_of_the_text():
    error = refusal("token: very-secret\n  - : x: {")
    assert "very-secret" not in error.message
    assert error.__cause__ is None


@given(st.text(max_size=300))
def test_any_text_is_refused_with_a_sentence(text: str):
    assert refusal(text).message.endswith(".")


# --- refused: contexts ----------------------------------------------------------------------------


def test_an_unknown_context_is_refused_with_the_known_ones():
    error = refusal(make_kubeconfig(), context="prod")
    assert error.code == "kubeconfig_unknown_context"
    assert error.message == "The kubeconfig has no context “prod”; it has: admin@fake."
    assert error.fields == {"context": error.message}


def test_several_contexts_without_a_current_one_need_a_choice():
    contexts = [{"name": name, "context": {"cluster": "fake"}} for name in ("one", "two")]
    error = refusal(make_kubeconfig(top={"contexts": contexts, "current-context": None}))
    assert error.code == "kubeconfig_no_context"
    assert error.message == "The kubeconfig has no current context; choose one of: one, two."


@pytest.mark.parametrize(
    ("lists", "code", "sentence"),
    [
        (
            {"clusters": []},
            "kubeconfig_missing_cluster",
            "Context “admin@fake” refers to cluster “fake”, which the kubeconfig does not contain.",
        ),
        (
            {"users": None},
            "kubeconfig_missing_user",
            "Context “admin@fake” refers to user “admin”, which the kubeconfig does not contain.",
        ),
    ],
)
def test_a_context_that_leads_nowhere_is_refused(lists: Any, code: str, sentence: str):
    error = refusal(make_kubeconfig(top=lists))
    assert (error.code, error.message) == (code, sentence)


# --- refused: what would act on our machine -------------------------------------------------------


@pytest.mark.parametrize(
    ("user", "code", "words"),
    [
        ({"exec": {"command": "aws"}}, "kubeconfig_exec", "by running a program (exec plugin)"),
        ({"exec": "aws"}, "kubeconfig_exec", "by running a program (exec plugin)"),
        (
            {"auth-provider": {"name": "oidc"}},
            "kubeconfig_auth_provider",
            "through an auth-provider plugin",
        ),
        ({"client-certificate": "/a"}, "kubeconfig_file_reference", "a file (client-certificate)"),
        ({"client-key": "/etc/shadow"}, "kubeconfig_file_reference", "a file (client-key)"),
        ({"tokenFile": "/a"}, "kubeconfig_file_reference", "a file (tokenFile)"),
        ({"username": "a", "password": "b"}, "kubeconfig_basic_auth", "user name and password"),
        ({"password": "b"}, "kubeconfig_basic_auth", "user name and password"),
        ({"as": "root"}, "kubeconfig_impersonation", "acts as somebody else (as)"),
        ({"as-groups": ["g"]}, "kubeconfig_impersonation", "acts as somebody else (as-groups)"),
        ({"as-uid": "1"}, "kubeconfig_impersonation", "acts as somebody else (as-uid)"),
        (
            {"as-user-extra": {"a": ["b"]}},
            "kubeconfig_impersonation",
            "acts as somebody else (as-user-extra)",
        ),
    ],
)
def test_a_user_that_would_run_or_read_something_is_refused(user: Any, code: str, words: str):
    error = refusal(make_kubeconfig(user=user))
    assert error.code == code
    assert words in error.message


@pytest.mark.parametrize(
    ("cluster", "code", "words"),
    [
        ({"certificate-authority": "/a"}, "kubeconfig_file_reference", "(certificate-authority)"),
        ({"proxy-url": "http://p:1"}, "kubeconfig_proxy", "through a proxy (proxy-url)"),
        (
            {"insecure-skip-tls-verify": True},
            "kubeconfig_insecure",
            "switches off the check of the server's certificate",
        ),
        ({"certificate-authority-data": None}, "kubeconfig_no_ca", "contains no CA certificate"),
        ({"certificate-authority-data": "%%"}, "kubeconfig_bad_base64", "is not valid base64"),
        (
            {"certificate-authority-data": base64_text("hello")},
            "kubeconfig_bad_ca",
            "is not a PEM certificate",
        ),
        ({"certificate-authority-data": ["x"]}, "kubeconfig_malformed", "is not a text"),
        ({"tls-server-name": "a b"}, "kubeconfig_bad_server_name", "is not a host name"),
        ({"server": None}, "kubeconfig_no_server", "The address of the server is missing."),
        ({"server": "http://a:6443"}, "kubeconfig_not_https", "does not begin with https://"),
        ({"server": "10.0.0.1:6443"}, "kubeconfig_not_https", "does not begin with https://"),
        ({"tls-server-name": "a..b"}, "kubeconfig_bad_server_name", "is not a host name"),
        ({"server": "https://a..b:6443"}, "kubeconfig_bad_server", "the form https://host:port"),
        ({"server": f"https://{'a' * 64}.de"}, "kubeconfig_bad_server", "the form https://host"),
        ({"server": "https://"}, "kubeconfig_bad_server", "the form https://host:port"),
        ({"server": "https://a b"}, "kubeconfig_bad_server", "the form https://host:port"),
        ({"server": "https://u:p@a"}, "kubeconfig_bad_server", "the form https://host:port"),
        ({"server": "https://a?b"}, "kubeconfig_bad_server", "the form https://host:port"),
        ({"server": "https://a:0"}, "kubeconfig_bad_server", "the form https://host:port"),
        ({"server": "https://a:99999"}, "kubeconfig_bad_server", "is not a valid URL"),
        ({"server": "https://[::1"}, "kubeconfig_bad_server", "is not a valid URL"),
        ({"server": f"https://a/{'x' * 500}"}, "kubeconfig_bad_server", "longer than 500"),
    ],
)
def test_a_cluster_that_cannot_be_trusted_is_refused(cluster: Any, code: str, words: str):
    error = refusal(make_kubeconfig(cluster=cluster))
    assert error.code == code
    assert words in error.message


# --- refused: the credential ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("user", "code", "words"),
    [
        (
            {"client-certificate-data": None, "client-key-data": None},
            "kubeconfig_no_credential",
            "neither a client certificate nor a token",
        ),
        (
            {"client-key-data": None},
            "kubeconfig_incomplete_credential",
            "a client certificate without its key",
        ),
        (
            {"client-certificate-data": None},
            "kubeconfig_incomplete_credential",
            "a client key without its certificate",
        ),
        (
            {"client-certificate-data": base64_text("x")},
            "kubeconfig_bad_certificate",
            "client certificate is not a PEM certificate",
        ),
        (
            {"client-key-data": base64_text("x")},
            "kubeconfig_bad_key",
            "client key is not a PEM private key",
        ),
        (
            {"client-key-data": base64_text(authority().issue("x", passphrase="p").key_pem)},
            "kubeconfig_encrypted_key",
            "protected by a passphrase",
        ),
        (
            {"client-key-data": base64_text(authority().issue("x").key_pem)},
            "kubeconfig_key_mismatch",
            "does not belong to the client certificate",
        ),
        ({"token": "a b"}, "kubeconfig_bad_token", "The token contains blanks"),
        ({"token": "a\nHost: evil"}, "kubeconfig_bad_token", "The token contains blanks"),
    ],
)
def test_a_credential_that_cannot_work_is_refused(user: Any, code: str, words: str):
    error = refusal(make_kubeconfig(user=user))
    assert error.code == code
    assert words in error.message


def test_a_key_that_tls_does_not_accept_is_refused():
    weak = authority().issue("weak", rsa_bits=1024)
    user = {
        "client-certificate-data": base64_text(weak.certificate_pem),
        "client-key-data": base64_text(weak.key_pem),
    }
    error = refusal(make_kubeconfig(user=user))
    assert error.code == "kubeconfig_unusable"
    assert error.message == (
        "The certificates or the key cannot be used for TLS (EE_KEY_TOO_SMALL)."
    )


def test_an_expired_client_certificate_is_refused_with_its_end():
    ended = NOW - timedelta(days=3)
    user = certificate_user(begins=NOW - timedelta(days=30), ends=ended)
    error = refusal(make_kubeconfig(user=user), now=NOW)
    assert error.code == "kubeconfig_certificate_expired"
    assert error.message == ("The client certificate expired on 2026-05-29 at 12:00 UTC.")


def test_a_client_certificate_of_the_future_is_refused_with_its_beginning():
    user = certificate_user(begins=NOW + timedelta(days=1), ends=NOW + timedelta(days=30))
    error = refusal(make_kubeconfig(user=user), now=NOW)
    assert error.code == "kubeconfig_certificate_not_yet_valid"
    assert error.message == "The client certificate is valid only from 2026-06-02 12:00 UTC."


def test_an_expired_token_is_refused_with_its_end():
    user = token_user(jwt(exp=(NOW - timedelta(hours=30)).timestamp()))
    error = refusal(make_kubeconfig(user=user), now=NOW)
    assert error.code == "kubeconfig_token_expired"
    assert error.message == "The token expired on 2026-05-31 at 06:00 UTC."


# --- expiry ---------------------------------------------------------------------------------------


def test_the_earlier_end_of_certificate_and_token_is_the_expiry():
    certificate = certificate_user(begins=NOW, ends=NOW + timedelta(days=9))
    user = {**certificate, "token": jwt(exp=(NOW + timedelta(days=2)).timestamp())}
    connection = kubeconfig.parse(make_kubeconfig(user=user), now=NOW)
    assert kubeconfig.credential_expiry(connection) == NOW + timedelta(days=2)


@pytest.mark.parametrize(
    "token",
    ["opaque", "a.b.c", "a.%%%.c", jwt(sub="x"), jwt(exp=None), jwt(exp=1e300), "..", jwt(exp=[])],
)
def test_a_token_without_readable_end_has_none(token: str):
    connection = kubeconfig.parse(make_kubeconfig(user=token_user(token)))
    assert kubeconfig.credential_expiry(connection) is None


def test_the_credential_names_its_subject():
    account = "system:serviceaccount:beidou:portal"
    by_token = kubeconfig.parse(make_kubeconfig(user=token_user(jwt(sub=account))))
    assert kubeconfig.subject(by_token) == account
    assert kubeconfig.subject(kubeconfig.parse(make_kubeconfig())) == "admin"


# --- from parts -----------------------------------------------------------------------------------


@pytest.mark.parametrize("ca", [authority().ca_pem, f"  {base64_text(authority().ca_pem)}\n"])
def test_a_connection_is_made_of_address_ca_and_token(ca: str):
    connection = kubeconfig.from_parts(" https://k8s.example:6443/ ", ca, " abc\n")
    assert (connection.server, connection.token) == ("https://k8s.example:6443", "abc")
    assert connection.ca_pem is not None
    assert connection.ca_pem.strip() == authority().ca_pem.strip()


@pytest.mark.parametrize(
    ("parts", "field", "code"),
    [
        (("", "ca", "t"), "server", "kubeconfig_no_server"),
        (("http://a", "ca", "t"), "server", "kubeconfig_not_https"),
        (("https://a", "", "t"), "ca_pem", "kubeconfig_no_ca"),
        (("https://a", "%", "t"), "ca_pem", "kubeconfig_bad_base64"),
        (("https://a", "-----BEGIN X-----", "t"), "ca_pem", "kubeconfig_bad_ca"),
        (("https://a", authority().ca_pem, " "), "token", "kubeconfig_no_credential"),
        (("https://a", authority().ca_pem, "ä"), "token", "kubeconfig_bad_token"),
    ],
)
def test_a_wrong_part_is_refused_at_its_field(parts: tuple[str, str, str], field: str, code: str):
    with pytest.raises(InvalidInput) as caught:
        kubeconfig.from_parts(*parts)
    assert caught.value.code == code
    assert caught.value.fields == {field: caught.value.message}


def test_an_expired_token_is_refused_at_its_field():
    token = jwt(exp=(NOW - timedelta(hours=1)).timestamp())
    with pytest.raises(InvalidInput, match="expired on 2026-06-01 at 11:00 UTC"):
        kubeconfig.from_parts("https://a", authority().ca_pem, token, now=NOW)


@pytest.mark.parametrize(
    "text",
    [
        "{ not: yaml",
        "kind: Pod",
        make_kubeconfig(user={"exec": {"command": "id"}}),
        make_kubeconfig(cluster={"server": "http://a:6443"}),
        make_kubeconfig(user={"client-key-data": None}),
    ],
)
def test_a_refusal_is_said_in_the_language_of_whoever_reads_it_later(text: str):
    said = refusal(text).message
    assert isinstance(said, Sentence)
    with override("zh-hans"):
        assert str(said.now()) != said.english


def test_a_pair_of_key_and_certificate_is_proved_once(monkeypatch: pytest.MonkeyPatch) -> None:
    text = make_kubeconfig()
    kubeconfig.parse(text)

    def read_again(*_: object, **__: object) -> None:
        raise AssertionError("the key was read again")

    monkeypatch.setattr(certificates, "load_pem_private_key", read_again)
    kubeconfig.parse(text)
