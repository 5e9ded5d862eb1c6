"""Private keys and host keys as people paste them."""

import subprocess
from pathlib import Path

import asyncssh
import pytest

from machines.drivers import ssh
from tests.fakes.ssh_server import new_key, private_text, public_line

PASSPHRASE = "open sesame"


def encrypted_text(key: asyncssh.SSHKey) -> str:
    return key.export_private_key("pkcs8-pem", passphrase=PASSPHRASE).decode()


def test_a_good_private_key_is_answered_with_its_fingerprint(user_key: asyncssh.SSHKey) -> None:
    assert ssh.validate_private_key(private_text(user_key)) == user_key.get_fingerprint()


def test_line_ends_of_a_browser_do_not_matter(user_key: asyncssh.SSHKey) -> None:
    pasted = "\r\n" + private_text(user_key).strip().replace("\n", "\r\n")

    assert ssh.validate_private_key(pasted) == user_key.get_fingerprint()


def test_the_passphrase_opens_an_encrypted_key(user_key: asyncssh.SSHKey) -> None:
    opened = ssh.validate_private_key(encrypted_text(user_key), PASSPHRASE)

    assert opened == user_key.get_fingerprint()


def test_a_key_made_by_ssh_keygen_with_a_passphrase_is_opened(tmp_path: Path) -> None:
    pytest.importorskip("bcrypt")
    file = tmp_path / "key"
    command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", PASSPHRASE, "-f", str(file)]
    subprocess.run(command, check=True)

    opened = ssh.validate_private_key(file.read_text(), PASSPHRASE)

    assert opened == ssh.fingerprint(file.with_suffix(".pub").read_text())


def test_an_encrypted_key_without_passphrase_is_refused_at_the_passphrase(
    user_key: asyncssh.SSHKey,
) -> None:
    with pytest.raises(ssh.BadKey) as refused:
        ssh.validate_private_key(encrypted_text(user_key))

    sentence = "The private key is encrypted and needs its passphrase."
    assert refused.value.fields == {"passphrase": sentence}


def test_a_wrong_passphrase_is_refused_without_repeating_it(user_key: asyncssh.SSHKey) -> None:
    with pytest.raises(ssh.BadKey) as refused:
        ssh.validate_private_key(encrypted_text(user_key), "sesame street")

    assert refused.value.fields == {"passphrase": "The passphrase does not open the private key."}
    assert "street" not in str(refused.value)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "The private key cannot be read: Invalid private key."),
        ("my dog", "The private key cannot be read: Invalid private key."),
        ("PuTTY-User-Key-File-3: ssh-ed25519", "PuTTY keys cannot be read; export the key in"),
        ("x" * 70_000, "The private key is longer than 64 KiB."),
    ],
)
def test_what_is_no_private_key_is_refused_at_the_key(text: str, sentence: str) -> None:
    with pytest.raises(ssh.BadKey) as refused:
        ssh.validate_private_key(text)

    assert refused.value.fields["private_key"].startswith(sentence)


def test_a_public_key_in_the_place_of_the_private_one_is_recognized(
    user_key: asyncssh.SSHKey,
) -> None:
    with pytest.raises(ssh.BadKey, match="This is a public key; the private key is needed here"):
        ssh.validate_private_key(public_line(user_key))


def test_a_truncated_key_is_refused_without_repeating_it(user_key: asyncssh.SSHKey) -> None:
    text = private_text(user_key)

    with pytest.raises(ssh.BadKey) as refused:
        ssh.validate_private_key(text[: len(text) // 2])

    assert text.splitlines()[1][:20] not in str(refused.value)


def test_a_decrypted_key_opens_without_passphrase(user_key: asyncssh.SSHKey) -> None:
    plain = ssh.decrypt_private_key(encrypted_text(user_key), PASSPHRASE)

    assert ssh.validate_private_key(plain) == user_key.get_fingerprint()


def test_a_fingerprint_is_that_of_ssh_keygen(tmp_path: Path) -> None:
    file = tmp_path / "key.pub"
    file.write_text(public_line(new_key("ecdsa-sha2-nistp256")) + "\n")
    command = ["ssh-keygen", "-l", "-f", str(file)]
    printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout

    assert ssh.fingerprint(file.read_text()) == printed.split()[1]


def test_a_fingerprint_of_no_key_is_refused() -> None:
    with pytest.raises(ssh.BadKey, match="not a public key line"):
        ssh.fingerprint("ssh-ed25519 !!!")


def test_a_target_does_not_show_its_secrets() -> None:
    target = ssh.Target(
        address="127.0.0.1",
        private_key="s3cret",
        passphrase="s3cret",
        password="s3cret",
        become_password="s3cret",
    )

    assert "s3cret" not in repr(target)
