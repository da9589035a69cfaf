"""What an operator may set on a node: file < environment < flag, every setting with its default.

Owns the only reads of the environment on this side. Must not open stores or speak to anyone.
"""

import os
import socket
import tomllib
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final
from urllib.parse import urlsplit

import msgspec
from msgspec import Meta

from node_agent.profiles import check_launchable
from protocol.errors import ErrorCode, OperationError, SkepError
from protocol.profiles import StrictProfile
from protocol.request_rules import parse_rule
from protocol.wrong_fields import wrong_field

#: Settings come from the environment as this and the setting's name in capitals.
ENVIRONMENT_PREFIX: Final = "SKEP_NODE_"
#: The settings file, in the data folder.
CONFIG_FILE: Final = "config.toml"
SLOTS_DEFAULT: Final = 2
#: Tests of crashes name a point in the program here; see `node_agent.failpoints`.
_FAILPOINT_VARIABLE: Final = "SKEP_FAILPOINT"
_THIS_MACHINE: Final = frozenset({"127.0.0.1", "::1", "localhost"})
#: Settings that are lists.
_LISTS: Final = frozenset(
    {
        "labels",
        "refuse",
        "github_hosts",
        "direct_urls",
        "direct_origins",
        "requests_allow",
        "requests_deny",
    }
)
_CONFIG_FILE_BYTES_MAX: Final = 1024 * 1024
#: A hundred years, and an exabyte: beyond them clocks and stores can hold no sums.
_DAYS_MAX: Final = 36_500
_BYTES_MAX: Final = 1024**6


class ConfigError(SkepError):
    """A setting cannot be used; `where` names the file, variable or flag it came from."""

    def __init__(self, message: str, *, where: str, hint: str = "") -> None:
        super().__init__(ErrorCode.INVALID, message, hint=hint, where=where)
        self.where = where


class NodeConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Every setting of a node agent. The description of each stands in its annotation."""

    data_dir: Annotated[Path, Meta(description="Where the node keeps everything it owns.")]
    name: Annotated[
        str, Meta(description="The node's name at the hive. Empty: as joined, else the host's.")
    ] = ""
    slots: Annotated[
        int | None,
        Meta(description="Attempts that may run at a time. Unset: as joined, else 2."),
    ] = None
    labels: Annotated[
        list[str], Meta(description="Words the queue may ask a node for, such as gpu.")
    ] = []
    git_identity: Annotated[
        str | None,
        Meta(description="`Name <mail>` for commits where the repository and user have none."),
    ] = None
    refuse: Annotated[
        list[str],
        Meta(
            description="Operations this node refuses from the hive, by name, such as start, which"
            " takes follow-ups, reviews and scripts along; executor:command refuses only what can"
            " run a command line: a project's scripts, its rules that allow tools, and its"
            " profiles with arguments or environment included."
        ),
    ] = []
    grace_s: Annotated[
        float,
        Meta(ge=0, le=3600, description="Seconds between asking a process to stop and killing it."),
    ] = 10.0
    agent_silence_minutes: Annotated[
        float,
        Meta(
            ge=0,
            le=_DAYS_MAX * 24 * 60,
            description="An agent that says nothing for so long in a turn is told of; 0: never."
            " It is stopped only where its project says so.",
        ),
    ] = 10.0
    spool_quota_bytes: Annotated[
        int,
        Meta(
            ge=1024 * 1024,
            le=_BYTES_MAX,
            description="Output of one execution kept while unread; beyond it the middle goes.",
        ),
    ] = 1024 * 1024 * 1024
    logs_kept_days: Annotated[
        float,
        Meta(
            gt=0, le=_DAYS_MAX, description="Logs that may be deleted are deleted after this age."
        ),
    ] = 14.0
    logs_kept_bytes: Annotated[
        int,
        Meta(
            ge=0,
            le=_BYTES_MAX,
            description="Logs that may be deleted are deleted beyond this size.",
        ),
    ] = 2 * 1024 * 1024 * 1024
    operation_keys_kept_days: Annotated[
        float,
        Meta(
            ge=15, le=_DAYS_MAX, description="How long a repeated idempotency key finds its result."
        ),
    ] = 30.0
    drain_s: Annotated[
        float,
        Meta(
            ge=0,
            le=3600,
            description="Seconds a stopping agent gives to replies that are under way.",
        ),
    ] = 5.0
    profiles: Annotated[
        dict[str, StrictProfile],
        Meta(description="Agents as this node runs them, each a section `[profiles.NAME]`."),
    ] = {}
    direct_listen: Annotated[
        str,
        Meta(
            description="`HOST:PORT` at which clients with a token of the hive may read this node's"
            " attempts straight. Empty: nowhere."
        ),
    ] = ""
    direct_urls: Annotated[
        list[str],
        Meta(
            description="Addresses the hive tells clients for that, as `https://HOST[:PORT]`."
            " Unset: as `direct_listen` has it."
        ),
    ] = []
    direct_tls_cert: Annotated[
        Path | None, Meta(description="Certificate, with its chain, for `direct_listen`.")
    ] = None
    direct_tls_key: Annotated[
        Path | None, Meta(description="Key of that certificate, without a passphrase.")
    ] = None
    direct_trusted_network: Annotated[
        bool,
        Meta(
            description="Serve `direct_listen` without TLS beyond this machine: whoever is on that"
            " network reads tokens, diffs and files."
        ),
    ] = False
    direct_origins: Annotated[
        list[str],
        Meta(
            description="Pages that may call `direct_listen`, as `https://HOST[:PORT]`; the joined"
            " hive's own always may."
        ),
    ] = []
    request_deadline_h: Annotated[
        float,
        Meta(gt=0, le=8760, description="Hours people have to answer what an agent asks."),
    ] = 24.0
    requests_allow: Annotated[
        list[str],
        Meta(
            description="What agents here may do without asking, as rules KIND[:TOOL[:TARGET]] of"
            " patterns, such as `read` or `execute:*:git diff*`. Empty: they ask every time."
        ),
    ] = []
    requests_deny: Annotated[
        list[str],
        Meta(
            description="What agents here are denied without asking anyone; goes before allowing."
        ),
    ] = []
    runtime_dir: Annotated[
        Path | None,
        Meta(description="Where the local socket goes when the data folder's path is too long."),
    ] = None
    log_level: Annotated[
        str, Meta(description="Least level of the agent's own log: debug, info, warning, error.")
    ] = "info"
    log_json: Annotated[
        bool, Meta(description="Write the agent's own log as one JSON object per line.")
    ] = False
    github_url: Annotated[
        str,
        Meta(description="The GitHub that pull requests go to, as its remotes name it."),
    ] = "https://github.com"
    github_api_url: Annotated[
        str,
        Meta(
            description="Its REST API. Empty: `https://api.github.com`, or of another host"
            " `https://HOST/api/v3`."
        ),
    ] = ""
    github_hosts: Annotated[
        list[str],
        Meta(description="Other hosts by which remotes mean that GitHub, such as an ssh alias."),
    ] = []
    github_token_secret: Annotated[
        str,
        Meta(description="The secret (`node-agent secrets set`) that holds the token for GitHub."),
    ] = "github_token"  # noqa: S105  a name, by which the value is looked up
    failpoint: Annotated[
        str | None, Meta(description="For tests of crashes only (SKEP_FAILPOINT).")
    ] = None

    @property
    def state_database(self) -> Path:
        return self.data_dir / "state.db"

    @property
    def log_database(self) -> Path:
        return self.data_dir / "logs.db"

    @property
    def runs_dir(self) -> Path:
        """The supervisors' run folders, one for each execution."""
        return self.data_dir / "runs"

    @property
    def worktrees_dir(self) -> Path:
        return self.data_dir / "worktrees"

    @property
    def secrets_file(self) -> Path:
        return self.data_dir / "secrets.json"


def default_data_dir() -> Path:
    """Return the user's own folder for a node's data."""
    import platformdirs

    return Path(platformdirs.user_data_path("skep-node", appauthor=False))


def wants_colours() -> bool:
    """Whether the user has not said that no command is to colour what it prints."""
    return not os.environ.get("NO_COLOR")


def process_environment() -> dict[str, str]:
    """Return a copy of this process's environment, for the executions it starts."""
    return dict(os.environ)


def proxy_of(url: str) -> str | None:
    """Return the proxy that this process's environment names for an address, as git's is."""
    parts = urlsplit(url)
    host = parts.hostname
    if host is None or host in _THIS_MACHINE or urllib.request.proxy_bypass(host):
        return None
    return urllib.request.getproxies().get(parts.scheme)


def host_name() -> str:
    """Return what this machine calls itself, without its domain."""
    return socket.gethostname().split(".")[0] or "node"


def load(
    data_dir: str | Path | None = None,
    *,
    flags: Mapping[str, Any] | None = None,
    environment: Mapping[str, str] | None = None,
) -> NodeConfig:
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
    return NodeConfig(**settings)


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
    for field in msgspec.structs.fields(NodeConfig):
        variable = f"{ENVIRONMENT_PREFIX}{field.encode_name.upper()}"
        if field.encode_name == "failpoint":
            variable = _FAILPOINT_VARIABLE
        text = environment.get(variable, "")
        if not text or field.encode_name == "data_dir":
            continue
        # A list is written with commas, as in PATH-like variables of other tools.
        value: Any = text.split(",") if field.encode_name in _LISTS else text
        settings.update(_checked({field.encode_name: value}, variable))
    return settings


def _checked(values: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Convert and check settings that came from `where`."""
    known = {field.encode_name for field in msgspec.structs.fields(NodeConfig)}
    for name in values:
        if name not in known or name == "data_dir":
            names = ", ".join(sorted(known - {"data_dir", "failpoint"}))
            raise ConfigError(
                f"there is no setting {name!r} ({where})", where=where, hint=f"Settings: {names}."
            )
    try:
        config = msgspec.convert(
            {"data_dir": "/", **values}, NodeConfig, strict=False, dec_hook=_decode_path
        )
    except msgspec.ValidationError as error:
        message = wrong_field(error).message
        raise ConfigError(
            f"a setting cannot be used ({where}): {message}", where=where, hint="Mend its value."
        ) from error
    if config.slots is not None and not 1 <= config.slots <= 1024:
        raise ConfigError(f"slots must be 1 to 1024 ({where})", where=where)
    if config.log_level.lower() not in {"debug", "info", "warning", "error"}:
        raise ConfigError(
            f"log_level {config.log_level!r} is unknown ({where})",
            where=where,
            hint="Use debug, info, warning or error.",
        )
    for name in ("requests_allow", "requests_deny"):
        _check_rules(name, getattr(config, name), where)
    for name, profile in config.profiles.items():
        try:
            check_launchable(name, profile)
        except OperationError as error:
            raise ConfigError(f"{error.message} ({where})", where=where, hint=error.hint) from error
    for name in ("github_url", "github_api_url"):
        _check_url(name, getattr(config, name), where)
    return {name: getattr(config, name) for name in values}


def _check_url(name: str, url: str, where: str) -> None:
    """Refuse an address to which a token would go unencrypted."""
    try:
        parts = urlsplit(url)
        local = parts.hostname in _THIS_MACHINE
    except ValueError:
        parts, local = urlsplit(""), False
    known = parts.scheme == "https" or (parts.scheme == "http" and local)
    if url and not (known and parts.hostname and "@" not in parts.netloc):
        raise ConfigError(
            f"{name} cannot be used ({where})",
            where=where,
            hint="Write https://HOST, with no user name; plain http is for this machine only.",
        )


def _check_rules(name: str, texts: list[str], where: str) -> None:
    for text in texts:
        try:
            parse_rule(text, name)
        except OperationError as error:
            raise ConfigError(
                f"{name}: {error.message} ({where})", where=where, hint=error.hint
            ) from error


def _decode_path(kind: type, value: Any) -> Any:
    if kind is Path and isinstance(value, str):
        return Path(value).expanduser()
    raise NotImplementedError
