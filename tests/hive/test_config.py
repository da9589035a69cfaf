"""Settings: where they come from, what is refused, and what a hive is exposed to."""

import stat
from pathlib import Path

import msgspec
import pytest

from hive.config import (
    ConfigError,
    HiveConfig,
    Login,
    check_exposure,
    is_loopback,
    load,
    load_client,
    login_file,
    write_login,
)


@pytest.fixture(autouse=True)
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep each test's login to itself."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))


def test_a_flag_beats_the_environment_beats_the_file(tmp_path: Path):
    """Each source overrides the ones before it, setting by setting."""
    (tmp_path / "config.toml").write_text('port = 1\nlog_level = "debug"\nviewers_max = 7\n')
    environment = {"SKEP_HIVE_PORT": "2", "SKEP_HIVE_LOG_LEVEL": "warning"}
    config = load(tmp_path, flags={"port": 3, "host": None}, environment=environment)
    assert (config.port, config.log_level, config.viewers_max) == (3, "warning", 7)
    assert config.host == "127.0.0.1"


@pytest.mark.parametrize(
    ("environment", "said"),
    [
        ({"SKEP_HIVE_PORT": "many"}, "SKEP_HIVE_PORT"),
        ({"SKEP_HIVE_PORT": "70000"}, "SKEP_HIVE_PORT"),
        ({"SKEP_HIVE_LOG_LEVEL": "loud"}, "log_level"),
        ({"SKEP_HIVE_HISTORY_KEPT_DAYS": "9223372036854775807"}, "HISTORY_KEPT_DAYS"),
        ({"SKEP_HIVE_PUBLIC_URLS": "https://a,ftp://b"}, "ftp://b"),
    ],
)
def test_a_setting_that_cannot_be_used_is_named(tmp_path: Path, environment, said: str):
    """The error says which setting is at fault, and where it came from."""
    with pytest.raises(ConfigError, match=said):
        load(tmp_path, environment=environment)


def test_an_unknown_setting_in_the_file_is_refused(tmp_path: Path):
    """A misspelt setting does not pass for the default; the hint lists what there is."""
    (tmp_path / "config.toml").write_text("prot = 1\n")
    with pytest.raises(ConfigError, match="prot") as caught:
        load(tmp_path, environment={})
    assert "port" in caught.value.hint


def test_every_setting_is_described():
    """The reference is made of the annotations: none may be missing."""
    for field in msgspec.structs.fields(HiveConfig):
        schema = msgspec.json.schema(HiveConfig, schema_hook=lambda _: {"type": "string"})
        described = schema["$defs"]["HiveConfig"]["properties"][field.encode_name]
        assert described.get("description"), field.encode_name


def test_what_takes_time_has_an_end():
    """Every number with a fraction has a greatest: a clock holds no sum with a greater one."""
    for field in msgspec.inspect.type_info(HiveConfig).fields:
        kind = field.type
        while isinstance(kind, msgspec.inspect.Metadata):
            kind = kind.type
        if isinstance(kind, msgspec.inspect.FloatType):
            assert kind.le is not None, field.name


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.4", "hive.example"])
def test_other_machines_need_tls_or_a_word_of_consent(tmp_path: Path, host: str):
    """A hive others can reach starts without TLS only where its admin said so."""
    with pytest.raises(ConfigError, match="no TLS") as caught:
        check_exposure(load(tmp_path, flags={"host": host}, environment={}))
    assert "--tls-cert" in caught.value.hint
    plain = load(tmp_path, flags={"host": host, "plain_http": True}, environment={})
    assert "WITHOUT TLS" in check_exposure(plain)
    proxied = load(tmp_path, flags={"host": host, "behind_proxy": True}, environment={})
    assert "proxy" in check_exposure(proxied)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.3.2.1", "::1", "localhost"])
def test_this_machine_alone_needs_nothing(tmp_path: Path, host: str):
    """Loopback addresses start as they are."""
    assert is_loopback(host)
    said = check_exposure(load(tmp_path, flags={"host": host}, environment={}))
    assert "this machine only" in said


def test_a_certificate_needs_its_key(tmp_path: Path):
    """Half of TLS is a mistake, also on loopback."""
    config = load(tmp_path, flags={"tls_cert": "/nowhere/cert.pem"}, environment={})
    with pytest.raises(ConfigError, match="its key"):
        check_exposure(config)


def test_a_login_is_for_its_user_alone():
    """The kept token can be read by nobody else."""
    path = write_login(Login(hive_url="http://127.0.0.1:1", token="secret"))
    assert path == login_file()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert load_client(environment={}).token == "secret"


def test_a_kept_token_goes_to_its_own_hive_only():
    """Another hive named by the environment does not get the token of the one signed in at."""
    write_login(Login(hive_url="http://127.0.0.1:1", token="secret"))
    with pytest.raises(ConfigError, match="no token"):
        load_client(environment={"SKEP_HIVE_URL": "http://127.0.0.1:2"})


def test_the_environment_beats_the_login():
    """What the environment names is used as it is."""
    write_login(Login(hive_url="http://127.0.0.1:1", token="secret"))
    environment = {"SKEP_HIVE_URL": "http://127.0.0.1:2/", "SKEP_TOKEN": "other"}
    config = load_client(environment=environment)
    assert (config.hive_url, config.token) == ("http://127.0.0.1:2", "other")


def test_with_nothing_set_the_hint_says_how():
    """A user who never signed in is told how to."""
    with pytest.raises(ConfigError, match="no hive") as caught:
        load_client(environment={})
    assert "hive login" in caught.value.hint
