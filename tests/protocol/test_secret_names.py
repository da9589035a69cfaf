"""Names say what is a secret, the same wherever it is asked; ordinary names are none."""

import pytest

from protocol.secret_names import SECRET_CHARACTERS_MIN, holds_secret, names_secret


@pytest.mark.parametrize(
    "name",
    [
        "GITHUB_TOKEN",
        "GITHUB_TOKEN_RO",
        "authToken",
        "DB_PASSWORD_PROD",
        "PGPASSWORD",
        "password",
        "PASSPHRASE",
        "OPENAI_API_KEY",
        "OPENAI_APIKEY_2",
        "aws.access-key",
        "AWS_SECRET_ACCESS_KEY",
        "PRIVATE_KEY_PEM",
        "CREDENTIALS",
        "FILE_TOKEN",
        "TOKENIZER_TOKEN",
        "DB_PASS",
        "db-pass",
        "PASS",
        "SMTP_PASS_2",
        "REDIS_PASSWD",
        "MYSQL_PWD",
        "FTP_PWD1",
    ],
)
def test_names_of_secrets(name: str) -> None:
    """Wherever in the name the word stands, and however it is written."""
    assert names_secret(name)


@pytest.mark.parametrize(
    "name",
    [
        "KEYBOARD",
        "PATH",
        "PUBLIC_KEY",
        "TOKENIZERS_PARALLELISM",
        "TOKENISER",
        "SECRETARY",
        "BYPASS",
        "COMPASS",
        "PASS_THROUGH",
        "PASSENGERS",
        "2PASS",
        "PASSIVE",
        "PWD",
        "OLDPWD",
        "PWD_DEPTH",
        "AWS_WEB_IDENTITY_TOKEN_FILE",
        "SSH_PRIVATE_KEY_PATH",
        "secrets_dir",
    ],
)
def test_names_of_other_things(name: str) -> None:
    """What only sounds like one, and what says where a secret is kept."""
    assert not names_secret(name)


def test_short_values_are_none() -> None:
    """A placeholder or a switch is no secret, and hidden it would blank out ordinary words."""
    assert not holds_secret("TOKEN", "x" * (SECRET_CHARACTERS_MIN - 1))
    assert holds_secret("TOKEN", "x" * SECRET_CHARACTERS_MIN)
    assert not holds_secret("COLOUR", "x" * SECRET_CHARACTERS_MIN)


def test_a_folder_is_no_secret() -> None:
    """What scripts keep the folder they came from in is called as some passwords are."""
    assert not holds_secret("OLD_PWD", "/srv/app/build")
    assert holds_secret("MYSQL_PWD", "correct horse")
    assert holds_secret("DB_PASS", "/correct horse")
