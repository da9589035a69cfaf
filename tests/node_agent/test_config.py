"""Settings: where they come from, which wins, and what a wrong one says."""

from pathlib import Path

import msgspec
import pytest

from node_agent import config


def test_flag_beats_environment_beats_file(tmp_path: Path) -> None:
    """A flag wins over the environment, which wins over the file, which wins over the default."""
    (tmp_path / "config.toml").write_text('slots = 3\ngrace_s = 4\nname = "file"\n')
    environment = {"SKEP_NODE_SLOTS": "5", "SKEP_NODE_NAME": "environment"}
    settings = config.load(tmp_path, flags={"name": "flag", "slots": None}, environment=environment)
    assert (settings.name, settings.slots, settings.grace_s) == ("flag", 5, 4.0)
    assert settings.drain_s == 5.0


def test_data_dir_from_environment_and_as_absolute(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The data folder may come from the environment; a relative one is made absolute."""
    monkeypatch.chdir(tmp_path)
    settings = config.load(environment={"SKEP_NODE_DATA_DIR": "here"})
    assert settings.data_dir == tmp_path / "here"
    assert config.load("there", environment={}).data_dir == tmp_path / "there"


def test_lists_and_paths_from_the_environment(tmp_path: Path) -> None:
    """Lists are written with commas, and the crash tests' variable has its own name."""
    environment = {
        "SKEP_NODE_LABELS": "gpu,fast",
        "SKEP_NODE_GITHUB_HOSTS": "work,home",
        "SKEP_NODE_RUNTIME_DIR": "/run/skep",
        "SKEP_FAILPOINT": "node.x:kill9",
    }
    settings = config.load(tmp_path, environment=environment)
    assert settings.labels == ["gpu", "fast"]
    assert settings.github_hosts == ["work", "home"]
    assert settings.runtime_dir == Path("/run/skep")
    assert settings.failpoint == "node.x:kill9"


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("slotz = 3", "slotz"),
        ("slots = 0", "slots"),
        ('slots = "many"', "slots"),
        ("slots = ", "config.toml"),
        ('log_level = "loud"', "loud"),
        ('data_dir = "/elsewhere"', "data_dir"),
        ("spool_quota_bytes = 5", "spool_quota_bytes"),
        ("spool_quota_bytes = 9223372036854775807", "spool_quota_bytes"),
        ("logs_kept_days = 1e300", "logs_kept_days"),
        ("logs_kept_days = inf", "logs_kept_days"),
        ("drain_s = nan", "drain_s"),
    ],
)
def test_a_wrong_file_is_named(tmp_path: Path, text: str, word: str) -> None:
    """A setting that cannot be used is refused, naming the setting and the file."""
    (tmp_path / "config.toml").write_text(text)
    with pytest.raises(config.ConfigError) as caught:
        config.load(tmp_path, environment={})
    assert word in str(caught.value)
    assert caught.value.where == str(tmp_path / "config.toml")


def test_a_wrong_variable_is_named(tmp_path: Path) -> None:
    """A variable that cannot be used is named."""
    with pytest.raises(config.ConfigError) as caught:
        config.load(tmp_path, environment={"SKEP_NODE_GRACE_S": "soon"})
    assert caught.value.where == "SKEP_NODE_GRACE_S"


def test_what_takes_time_has_an_end() -> None:
    """Every number with a fraction has a greatest: a clock holds no sum with a greater one."""
    for field in msgspec.inspect.type_info(config.NodeConfig).fields:
        kind = field.type
        while isinstance(kind, msgspec.inspect.Metadata):
            kind = kind.type
        if isinstance(kind, msgspec.inspect.FloatType):
            assert kind.le is not None, field.name


def test_every_setting_is_described() -> None:
    """The reference page is made from the settings themselves, so each one says what it is."""
    schema = msgspec.json.schema(config.NodeConfig, schema_hook=lambda _: {"type": "string"})
    for name, setting in schema["$defs"]["NodeConfig"]["properties"].items():
        assert setting.get("description"), name


def test_process_environment_is_a_copy(monkeypatch: pytest.MonkeyPatch) -> None:
    """What executions get can be changed without changing our own environment."""
    monkeypatch.setenv("SKEP_TEST_VALUE", "1")
    copy = config.process_environment()
    copy["SKEP_TEST_VALUE"] = "2"
    assert config.process_environment()["SKEP_TEST_VALUE"] == "1"


@pytest.mark.parametrize(
    ("name", "url"),
    [
        ("github_url", "http://git.example.org"),
        ("github_url", "git.example.org"),
        ("github_url", "https://"),
        ("github_url", "https://me:secret@git.example.org"),
        ("github_url", "https://[git"),
        ("github_api_url", "http://10.0.0.1/api/v3"),
        ("github_api_url", "ftp://git.example.org"),
    ],
)
def test_a_token_goes_nowhere_unencrypted(tmp_path: Path, name: str, url: str) -> None:
    """An address of a forge is https; plain http is for this very machine, and not repeated."""
    with pytest.raises(config.ConfigError) as caught:
        config.load(tmp_path, environment={f"SKEP_NODE_{name.upper()}": url})
    assert (caught.value.where, "secret" in str(caught.value)) == (
        f"SKEP_NODE_{name.upper()}",
        False,
    )
    for good in ("https://git.example.org:8443", "http://127.0.0.1:80", "http://[::1]:80"):
        config.load(tmp_path, environment={f"SKEP_NODE_{name.upper()}": good})


def test_proxies_are_for_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy of the environment is for its scheme, for no host it leaves out, and never for us."""
    monkeypatch.setenv("https_proxy", "http://proxy.example:3128")
    monkeypatch.setenv("no_proxy", "git.example.org")
    assert config.proxy_of("https://api.github.com/x") == "http://proxy.example:3128"
    for url in ("https://git.example.org/x", "https://localhost/x", "https://127.0.0.1:8/x", "x"):
        assert config.proxy_of(url) is None


def test_rules_for_requests(tmp_path: Path) -> None:
    """Nothing is allowed by default; what is no rule is named with the setting."""
    assert config.load(tmp_path, environment={}).requests_allow == []
    environment = {"SKEP_NODE_REQUESTS_ALLOW": "read,execute:*:git diff*"}
    settings = config.load(tmp_path, environment=environment)
    assert settings.requests_allow == ["read", "execute:*:git diff*"]
    with pytest.raises(config.ConfigError) as caught:
        config.load(tmp_path, environment={"SKEP_NODE_REQUESTS_DENY": ":git"})
    assert "requests_deny" in caught.value.message
