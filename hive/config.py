"""What may be set on a hive and its command line: file < environment < flag, each with a default.

Owns the only reads of the environment on this side, and the file a signed-in user keeps. Must not
open stores or speak to anyone.
"""

import ipaddress
import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final
from urllib.parse import urlsplit

import msgspec
from msgspec import Meta

from protocol.errors import ErrorCode, SkepError
from protocol.wrong_fields import wrong_field

#: Settings come from the environment as this and the setting's name in capitals.
ENVIRONMENT_PREFIX: Final = "SKEP_HIVE_"
#: The settings file, in the data folder.
CONFIG_FILE: Final = "config.toml"
PORT_DEFAULT: Final = 8700
LOOPBACK_NAMES: Final = frozenset({"localhost", "127.0.0.1", "::1"})
_FAILPOINT_VARIABLE: Final = "SKEP_FAILPOINT"
_CONFIG_FILE_BYTES_MAX: Final = 1024 * 1024
#: A hundred years, beyond which clocks can hold no sums; and one.
_DAYS_MAX: Final = 36_500
_S_MAX: Final = 366 * 86_400
_LOG_LEVELS: Final = frozenset({"debug", "info", "warning", "error"})


class ConfigError(SkepError):
    """A setting cannot be used; `where` names the file, variable or flag it came from."""

    def __init__(self, message: str, *, where: str, hint: str = "") -> None:
        super().__init__(ErrorCode.INVALID, message, hint=hint, where=where)
        self.where = where


class HiveConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Every setting of a hive. The description of each stands in its annotation."""

    data_dir: Annotated[Path, Meta(description="Where the hive keeps everything it owns.")]
    host: Annotated[str, Meta(description="The address to listen on.")] = "127.0.0.1"
    port: Annotated[
        int, Meta(ge=0, le=65535, description="The port to listen on; 0 takes a free one.")
    ] = PORT_DEFAULT
    public_urls: Annotated[
        list[str],
        Meta(description="Addresses that nodes and viewers reach this hive at, best first."),
    ] = []
    tls_cert: Annotated[
        Path | None, Meta(description="The certificate, with its chain, in PEM.")
    ] = None
    tls_key: Annotated[Path | None, Meta(description="The certificate's private key, in PEM.")] = (
        None
    )
    behind_proxy: Annotated[
        bool,
        Meta(description="A reverse proxy in front ends TLS and sets X-Forwarded-For."),
    ] = False
    plain_http: Annotated[
        bool, Meta(description="Serve other machines without TLS: for private networks only.")
    ] = False
    nodes_may_create_projects: Annotated[
        bool, Meta(description="A checkout of a repository no project has makes a project.")
    ] = True
    body_bytes_max: Annotated[
        int, Meta(ge=1024, description="The largest request body taken, in bytes.")
    ] = 1024 * 1024
    token_cached_s: Annotated[
        float,
        Meta(ge=0, le=5, description="Seconds a token found good is not looked up again."),
    ] = 5.0
    viewer_events_max: Annotated[
        int,
        Meta(
            ge=16, description="Live events kept for one viewer; beyond it the viewer reads anew."
        ),
    ] = 1000
    viewer_drain_s: Annotated[
        float,
        Meta(
            gt=0,
            le=3600,
            description="Seconds a viewer may take nothing before it is disconnected.",
        ),
    ] = 10.0
    viewers_max: Annotated[int, Meta(ge=1, description="Live streams served at a time.")] = 2000
    enrol_failures_per_minute_max: Annotated[
        int,
        Meta(
            ge=1,
            description="Failed enrolments one address may make in a minute. This machine's own"
            " address is exempt, unless a proxy is in front.",
        ),
    ] = 5
    node_connects_per_minute_max: Annotated[
        int,
        Meta(
            ge=1,
            description="Links one node may open in a minute; then it has to wait, so that a loop"
            " of errors cannot keep the hive busy.",
        ),
    ] = 30
    sweep_interval_s: Annotated[
        float,
        Meta(gt=0, le=86_400, description="Seconds between looks for attempts that are partial."),
    ] = 300.0
    session_idle_s: Annotated[
        float,
        Meta(
            gt=0,
            le=_S_MAX,
            description="Seconds without a sign of life that close an external session.",
        ),
    ] = 1800.0
    session_age_s: Annotated[
        float,
        Meta(
            gt=0,
            le=_S_MAX,
            description="Seconds after which an external agent is told to begin a fresh session.",
        ),
    ] = 3600.0
    history_kept_days: Annotated[
        Annotated[int, Meta(ge=30, le=_DAYS_MAX)] | None,
        Meta(
            description="Days events (those for auditors too) and operations whose outcome is"
            " known are kept, 30 at least; a key used again later is a new request. Default: for"
            " ever."
        ),
    ] = None
    call_s_max: Annotated[
        float, Meta(gt=0, le=86_400, description="The longest deadline a caller may ask of a node.")
    ] = 600.0
    drain_s: Annotated[
        float,
        Meta(ge=0, le=3600, description="Seconds a stopping hive gives to replies under way."),
    ] = 5.0
    reconnect_after_ms: Annotated[
        int, Meta(ge=0, description="When nodes should come back after the hive drained.")
    ] = 1000
    log_level: Annotated[
        str, Meta(description="Least level of the hive's own log: debug, info, warning, error.")
    ] = "info"
    log_json: Annotated[
        bool, Meta(description="Write the hive's own log as one JSON object per line.")
    ] = False
    failpoint: Annotated[
        str | None, Meta(description="For tests of crashes only (SKEP_FAILPOINT).")
    ] = None

    @property
    def database(self) -> Path:
        return self.data_dir / "hive.db"

    @property
    def signing_key(self) -> Path:
        """The hive's private key, beside the database so that a backup does not carry it."""
        return self.data_dir / "hive.key"

    @property
    def lock(self) -> Path:
        return self.data_dir / "hive.lock"

    @property
    def revocations(self) -> Path:
        return self.data_dir / "revocations.log"

    @property
    def backups(self) -> Path:
        """The list of backups made, outside the database so that a restore keeps it."""
        return self.data_dir / "backups.jsonl"

    @property
    def loopback(self) -> bool:
        """Whether only this machine can reach the hive."""
        return is_loopback(self.host)

    @property
    def tls(self) -> bool:
        return self.tls_cert is not None

    @property
    def url(self) -> str:
        """The address to tell others."""
        return self.public_urls[0] if self.public_urls else self.listening_url(self.port)

    def listening_url(self, port: int) -> str:
        """The address the hive itself listens on, once the port is known."""
        host = "127.0.0.1" if self.host in {"", "0.0.0.0"} else self.host  # noqa: S104  compared only
        host = "::1" if host == "::" else host
        shown = f"[{host}]" if ":" in host else host
        return f"{'https' if self.tls else 'http'}://{shown}:{port}"


class ClientConfig(msgspec.Struct, frozen=True, kw_only=True):
    """Which hive a command speaks to, as whom, and whose certificate it trusts."""

    hive_url: str
    token: str
    ca: str | None = None


class Login(msgspec.Struct, frozen=True, kw_only=True):
    """What `hive login` keeps in the user's own folder, readable by that user alone."""

    hive_url: str
    token: str
    ca: str | None = None


def is_loopback(host: str) -> bool:
    """Whether `host` names this very machine and nothing else can reach it."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def default_data_dir() -> Path:
    """Return the user's own folder for a hive's data."""
    import platformdirs

    return Path(platformdirs.user_data_path("skep-hive", appauthor=False))


def login_file() -> Path:
    """Return where `hive login` keeps address and token."""
    import platformdirs

    return Path(platformdirs.user_config_path("skep", appauthor=False)) / "login.json"


def wants_colours() -> bool:
    """Whether the user has not said that no command is to colour what it prints."""
    return not os.environ.get("NO_COLOR")


def load_client(
    *,
    hive_url: str | None = None,
    ca: str | None = None,
    environment: Mapping[str, str] | None = None,
) -> ClientConfig:
    """Return which hive to call: flag, else environment, else what `hive login` kept."""
    environment = os.environ if environment is None else environment
    url = hive_url or environment.get("SKEP_HIVE_URL")
    token = environment.get("SKEP_TOKEN")
    ca = ca or environment.get("SKEP_CA")
    login = read_login() if not (url and token) else None
    # A kept token is for the hive it was kept for, and travels to no other.
    if login is not None and (url is None or url.rstrip("/") == login.hive_url):
        url, token, ca = login.hive_url, token or login.token, ca or login.ca
    if not url:
        raise ConfigError(
            "no hive is named",
            where="SKEP_HIVE_URL",
            hint="Run `hive login URL`, or set SKEP_HIVE_URL and SKEP_TOKEN.",
        )
    if not token:
        raise ConfigError(
            f"there is no token for {url}",
            where="SKEP_TOKEN",
            hint="Run `hive login URL`, or set SKEP_TOKEN.",
        )
    return ClientConfig(hive_url=url.rstrip("/"), token=token, ca=ca)


def read_login() -> Login | None:
    """Return what `hive login` kept, if anything."""
    path = login_file()
    try:
        return msgspec.json.decode(path.read_bytes(), type=Login)
    except FileNotFoundError:
        return None
    except (OSError, msgspec.DecodeError) as error:
        raise ConfigError(
            f"cannot read {path}: {error}", where=str(path), hint="Run `hive login URL` again."
        ) from error


def write_login(login: Login) -> Path:
    """Keep an address and a token for later commands."""
    path = login_file()
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    fresh = path.with_suffix(".new")
    fresh.unlink(missing_ok=True)
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(msgspec.json.encode(login))
    fresh.replace(path)
    return path


def load(
    data_dir: str | Path | None = None,
    *,
    flags: Mapping[str, Any] | None = None,
    environment: Mapping[str, str] | None = None,
) -> HiveConfig:
    """Read the settings: defaults, then the data folder's file, then environment, then flags.

    A flag that is None was not given. Raises ConfigError, naming where the fault is.
    """
    environment = os.environ if environment is None else environment
    given = environment.get(f"{ENVIRONMENT_PREFIX}DATA_DIR")
    chosen = Path(data_dir or given or default_data_dir()).expanduser().absolute()
    settings: dict[str, Any] = {}
    settings.update(_from_file(chosen / CONFIG_FILE))
    settings.update(_from_environment(environment))
    settings.update(
        _checked(
            {name: value for name, value in (flags or {}).items() if value is not None}, "flag"
        )
    )
    settings["data_dir"] = chosen
    return HiveConfig(**settings)


def check_exposure(config: HiveConfig) -> str:
    """Return what the hive is exposed to, in words; raise ConfigError where that is not safe."""
    if (config.tls_cert is None) != (config.tls_key is None):
        raise ConfigError(
            "TLS needs a certificate and its key",
            where="flag",
            hint="Give both --tls-cert and --tls-key.",
        )
    if config.loopback:
        return "reachable from this machine only"
    if config.tls:
        return "reachable from other machines, with TLS"
    if config.behind_proxy:
        return "reachable from other machines without TLS of its own: the proxy must add it"
    if config.plain_http:
        return "reachable from other machines WITHOUT TLS: whoever is on that network reads it all"
    raise ConfigError(
        f"{config.host} can be reached from other machines, and there is no TLS",
        where="flag",
        hint="Give --tls-cert and --tls-key; or --behind-proxy where a proxy ends TLS;"
        " or --plain-http where the network itself is private.",
    )


def _from_file(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            text = file.read(_CONFIG_FILE_BYTES_MAX)
        values = tomllib.loads(text.decode())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"cannot read {path}: {error}",
            where=str(path),
            hint="Run this as the user who owns the folder."
            if isinstance(error, PermissionError)
            else "Mend or remove the file.",
        ) from error
    return _checked(values, str(path))


def _from_environment(environment: Mapping[str, str]) -> dict[str, Any]:
    settings: dict[str, Any] = {}
    for field in msgspec.structs.fields(HiveConfig):
        name = field.encode_name
        variable = f"{ENVIRONMENT_PREFIX}{name.upper()}"
        if name == "failpoint":
            variable = _FAILPOINT_VARIABLE
        text = environment.get(variable, "")
        if not text or name == "data_dir":
            continue
        value: Any = text.split(",") if name == "public_urls" else text
        settings.update(_checked({name: value}, variable))
    return settings


def _checked(values: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Convert and check settings that came from `where`."""
    known = {field.encode_name for field in msgspec.structs.fields(HiveConfig)} - {"data_dir"}
    for name in values:
        if name not in known:
            names = ", ".join(sorted(known - {"failpoint"}))
            raise ConfigError(
                f"there is no setting {name!r} ({where})", where=where, hint=f"Settings: {names}."
            )
    try:
        config = msgspec.convert(
            {"data_dir": "/", **values}, HiveConfig, strict=False, dec_hook=_decode_path
        )
    except msgspec.ValidationError as error:
        message = wrong_field(error).message
        raise ConfigError(
            f"a setting cannot be used ({where}): {message}", where=where, hint="Mend its value."
        ) from error
    if config.log_level.lower() not in _LOG_LEVELS:
        raise ConfigError(
            f"log_level {config.log_level!r} is unknown ({where})",
            where=where,
            hint="Use debug, info, warning or error.",
        )
    settings = {name: getattr(config, name) for name in values}
    if "public_urls" in settings:
        settings["public_urls"] = [_checked_url(url, where) for url in config.public_urls]
    return settings


def _checked_url(url: str, where: str) -> str:
    hint = "Give it as https://HOST[:PORT]."
    try:
        parts = urlsplit(url.strip())
        parts.port  # noqa: B018  raises where it is no number
    except ValueError as error:
        raise ConfigError(f"{url!r} is not an address", where=where, hint=hint) from error
    if parts.scheme not in {"http", "https"} or not parts.hostname or parts.path.strip("/"):
        raise ConfigError(f"{url!r} is not an address of a hive", where=where, hint=hint)
    return f"{parts.scheme}://{parts.netloc}"


def _decode_path(kind: type, value: Any) -> Any:
    if kind is Path and isinstance(value, str):
        return Path(value).expanduser()
    raise NotImplementedError
