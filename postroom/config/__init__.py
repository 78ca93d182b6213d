"""Every setting, once: its name, kind, default, unit and meaning are one row of `Settings`.

`load` reads them at start: a flag wins over the environment (POSTROOM_<NAME>), that over the TOML file, that
over the default. A name nobody knows, a value that does not fit and values that contradict each other are
errors, all told at once. The result is a frozen value that is handed down; nothing looks a setting up later.
`python -m postroom.config` prints docs/configuration.md, which a test compares with this table.
"""

# ruff: noqa: RUF009 - `row` returns a dataclass field; its defaults are immutable values

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from types import MappingProxyType
from typing import Literal, TypeVar

from postroom.config import kinds
from postroom.config.kinds import Endpoint, Kind, Network, Unfit, choice, count, duration, maybe_count, size
from postroom.secret import Secret

__all__ = ["CONFIG_VARIABLE", "ConfigError", "Endpoint", "Explained", "Row", "Settings", "load", "rows"]

T = TypeVar("T")
PREFIX = "POSTROOM_"
CONFIG_VARIABLE = "POSTROOM_CONFIG"
# What Kubernetes puts into the environment for a service called postroom or postroom-<x>; and its
# POSTROOM_PORT=tcp://…, told from a mistyped setting by the value.
_SERVICE = re.compile(r"POSTROOM_(\w+_)?(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT_\d+_(TCP|UDP|SCTP)(_\w+)?)")
_SERVICE_PORT = re.compile(r"POSTROOM_(\w+_)?PORT=(tcp|udp|sctp)://.*")


class ConfigError(Exception):
    """The settings cannot be used; `problems` holds one sentence per thing to mend."""

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(problems))


@dataclass(frozen=True)
class Row:
    """One setting: attribute of `Settings`, public name, kind, default as written, one sentence."""

    attribute: str
    name: str
    kind: Kind[object]
    default: str
    meaning: str


@dataclass(frozen=True)
class Explained:
    """One line of `postroom config`: everything as text, secrets as bullets."""

    name: str
    value: str
    default: str
    unit: str
    meaning: str
    source: str


def row(kind: Kind[T], default: str, meaning: str) -> T:
    """A field of `Settings`; mypy holds its annotation against the kind."""
    return field(default=kind.read(default), metadata={"kind": kind, "default": default, "meaning": meaning})


_LEVEL: Kind[Literal["debug", "info", "warning", "error"]] = choice("debug", "info", "warning", "error")
_FORMAT: Kind[Literal["auto", "json", "console"]] = choice("auto", "json", "console")
_DIAL: Kind[Literal["smtp", "none", "all"]] = choice("smtp", "none", "all")


@dataclass(frozen=True)
class Settings:
    """What an operator can set. Durations are seconds and end in `_s`, a suffix the setting's name lacks."""

    data: Path = row(
        kinds.PATH, "./postroom-data", "Folder of the database, the key file and the outcome journals."
    )
    database: Secret = row(
        kinds.DATABASE, "", "PostgreSQL as postgresql://user:password@host/name; empty: SQLite in `data`."
    )
    database_direct_url: Secret = row(
        kinds.DATABASE,
        "",
        "The same database past a pooler, for listening and schema changes; empty: as `database`.",
    )
    database_pooler: bool = row(
        kinds.FLAG, "false", "Whether `database` is a pooler like pgbouncer in transaction mode."
    )
    database_connections: int = row(
        count("connections", 2, 1000), "10", "Most connections of one process to PostgreSQL."
    )
    database_may_forget: bool = row(
        kinds.FLAG, "false", "Whether a PostgreSQL with fsync or synchronous_commit off is taken."
    )
    key_ring: Secret = row(
        kinds.SECRET,
        "",
        "Content of the key file, for several machines on one PostgreSQL; empty: the file in `data`.",
    )
    processes: int = row(
        count("processes", 1, 256), "1", "Processes of `serve` on this machine; more than 1 needs PostgreSQL."
    )
    role: tuple[str, ...] = row(
        kinds.SOME_ROLES,
        "",
        "What `serve` does here: some of http, smtp, deliver, inbound, housekeeping; empty: everything.",
    )
    http: Endpoint = row(
        kinds.ENDPOINT, "127.0.0.1:8080", "Where the APIs, the dashboard and tracking listen."
    )
    smtp: Endpoint = row(
        kinds.ENDPOINT, "127.0.0.1:2525", "Where SMTP submission by your applications listens."
    )
    smtps: Endpoint | None = row(
        kinds.MAYBE_ENDPOINT,
        "",
        "Where submission with TLS from the first byte listens, such as 0.0.0.0:2465; empty: nowhere.",
    )
    inbox: Endpoint | None = row(
        kinds.MAYBE_ENDPOINT,
        "",
        "Where the test inbox listens, on loopback: it takes any mail and sends none; empty: no inbox.",
    )
    operations: Endpoint | None = row(
        kinds.MAYBE_ENDPOINT,
        "",
        "Where /healthz, /readyz and /metrics listen besides `http`, whatever the role; empty: nowhere.",
    )
    public_url: str = row(
        kinds.URL, "", "How the world reaches `http`, for links in mail; empty: the address of `http`."
    )
    inbound_domain: str = row(
        kinds.HOST_NAME,
        "",
        "Domain of the addresses that mail for your servers comes to; empty: the host of `public_url`.",
    )
    trusted_proxies: tuple[Network, ...] = row(
        kinds.NETWORKS, "", "Reverse proxies whose X-Forwarded-For and X-Forwarded-Proto are believed."
    )
    metrics_token: Secret = row(
        kinds.SECRET,
        "",
        "Token that may read /metrics from elsewhere; empty: loopback only.",
    )
    notice_queue_age_s: float = row(
        duration("10s", "30d"), "5m", "Wait of due transactional mail of which notice is given."
    )
    notice_queue_age_bulk_s: float = row(
        duration("10s", "30d"), "24h", "Wait of due broadcast and sequence mail of which notice is given."
    )
    notice_disk_free: int = row(
        size("0", "1024GB"), "1GB", "Free room for the data folder below which notice is given; 0: never."
    )
    otel_endpoint: str = row(
        kinds.URL, "", "OTLP endpoint that traces go to, such as http://127.0.0.1:4318; empty: no traces."
    )
    log_level: Literal["debug", "info", "warning", "error"] = row(
        _LEVEL, "info", "From which level events are logged."
    )
    log_format: Literal["auto", "json", "console"] = row(
        _FORMAT, "auto", "How lines look; auto: console on a terminal, JSON anywhere else."
    )
    drain_s: float = row(
        duration("0s", "1h"), "30s", "How long open deliveries may finish when Postroom stops."
    )

    dial_private: Literal["smtp", "none", "all"] = row(
        _DIAL,
        "smtp",
        "What may be dialled on loopback and private networks: SMTP connections, nothing, everything.",
    )
    allow_clear_auth: bool = row(
        kinds.FLAG, "false", "Whether a login may be sent without TLS to a peer that is not on loopback."
    )
    smtp_clear_auth: bool = row(
        kinds.FLAG, "false", "Whether programs may log in to our SMTP without TLS from another machine."
    )
    smtp_tls_cert: Path | None = row(
        kinds.MAYBE_FILE, "", "PEM certificate of `smtp` and `smtps`; empty: a self-signed one, made once."
    )
    smtp_tls_key: Path | None = row(
        kinds.MAYBE_FILE, "", "PEM key of smtp_tls_cert; empty: it stands in the same file."
    )
    submission_sessions: int = row(
        count("sessions", 1, 100_000), "1000", "Most sessions of programs on `smtp` and `smtps` together."
    )
    submission_sessions_per_address: int = row(
        count("sessions", 1, 100_000), "100", "Most of them from one address (IPv6: one /64)."
    )
    submission_bytes_in_flight: int = row(
        size("1MB", "64GB"), "256MB", "Bytes of messages not yet stored, of all sessions together."
    )
    submission_idle_s: float = row(
        duration("1s", "1h"), "300s", "Longest wait for a command of a program that has logged in."
    )
    submission_session_time_s: float = row(
        duration("10s", "30d"), "1h", "Age at which a session takes no further message."
    )
    submission_messages_per_session: int = row(
        count("messages", 1, 1_000_000), "10000", "Most messages of one session."
    )
    submission_tell_client: bool = row(
        kinds.FLAG, "false", "Whether mail handed in by SMTP tells the program's address, in Received."
    )
    helo_name: str = row(kinds.HOST_NAME, "", "The name given in EHLO; empty: the host's full name.")
    tls_ca_file: Path | None = row(
        kinds.MAYBE_FILE, "", "PEM file of certificate authorities to trust for SMTP; empty: the system's."
    )
    sessions_per_connection: int = row(
        count("sessions", 1, 1000), "10", "Most sessions open to one connection at once."
    )
    session_idle_s: float = row(duration("0s", "1h"), "30s", "How long a session without mail is kept open.")
    session_max_deliveries: int = row(
        count("deliveries", 1, 1_000_000),
        "1000",
        "Deliveries after which a session is closed and opened anew.",
    )
    smtp_connect_timeout_s: float = row(
        duration("0.1s", "10m"), "15s", "Longest wait to connect to an SMTP server."
    )
    smtp_command_timeout_s: float = row(
        duration("0.1s", "10m"), "30s", "Longest wait for the reply to an SMTP command."
    )
    smtp_data_timeout_s: float = row(duration("0.1s", "10m"), "60s", "Longest wait for the reply to DATA.")
    smtp_body_timeout_s: float = row(
        duration("0.1s", "10m"), "120s", "Longest wait for the peer to take a block of the body."
    )
    smtp_reply_timeout_s: float = row(
        duration("0.1s", "1h"),
        "300s",
        "Longest wait for the reply to the final dot; then the outcome is unknown.",
    )
    api_reply_timeout_s: float = row(
        duration("0.1s", "10m"),
        "60s",
        "Longest wait for the whole answer of a vendor's API; then the outcome is unknown.",
    )
    aws_ses_api_url: str = row(
        kinds.URL,
        "",
        "Where Amazon SES's API is, for every connection that names no URL; empty: its region's.",
    )
    postmark_api_url: str = row(
        kinds.URL, "", "Where Postmark's API is, for every connection that names no URL; empty: Postmark's."
    )
    test_connection_timeout_s: float = row(
        duration("0.1s", "5m"), "15s", "Longest a connection test may take as a whole."
    )

    retry_first_wait_s: float = row(
        duration("0.1s", "1d"),
        "300s",
        "Wait after the first temporary refusal of a delivery; it doubles each time.",
    )
    retry_longest_wait_s: float = row(
        duration("0.1s", "7d"), "4h", "Longest wait between two tries of a delivery."
    )
    give_up_transactional_s: float = row(
        duration("1s", "30d"), "24h", "How long after its accept a transactional delivery is tried."
    )
    give_up_bulk_s: float = row(
        duration("1s", "30d"), "5d", "How long after its accept a broadcast or sequence delivery is tried."
    )
    unknown_wait_s: float = row(
        duration("0s", "24h"),
        "30s",
        "How long a transactional delivery of unknown outcome waits for evidence.",
    )
    unknown_resends: int = row(
        count("resends", 0, 10), "2", "How often a transactional delivery of unknown outcome is sent again."
    )
    unknown_hold_s: float = row(
        duration("0s", "30d"),
        "24h",
        "How long broadcast and sequence mail of unknown outcome waits for evidence.",
    )
    backoff_first_s: float = row(
        duration("0.1s", "1h"), "1s", "Rest of a connection after its first trouble; it doubles each time."
    )
    backoff_longest_s: float = row(
        duration("0.1s", "24h"), "600s", "Longest rest of a connection in trouble."
    )
    failed_after_s: float = row(
        duration("0.1s", "24h"),
        "600s",
        "Trouble without one success after which a connection counts as failed.",
    )
    probe_every_s: float = row(duration("0.1s", "24h"), "600s", "How often a failed connection is tried.")
    lease_s: float = row(
        duration("1s", "1h"),
        "90s",
        "On PostgreSQL: how long a process that is not heard of counts as alive before others take its mail.",
    )
    lease_renew_s: float = row(
        duration("0.1s", "10m"), "15s", "On PostgreSQL: how often a process says that it lives."
    )
    lease_margin_s: float = row(
        duration("0.1s", "10m"),
        "10s",
        "On PostgreSQL: how long before others may take over its mail a process stops sending it.",
    )
    sibling_look_s: float = row(
        duration("0.1s", "10m"), "2s", "On PostgreSQL: how often a process looks for dead ones on its host."
    )

    api_rate_per_minute: int | None = row(
        maybe_count("requests a minute", 0, 10_000_000),
        "",
        "Requests a key may make in a minute; empty: as each API documents; 0: no limit.",
    )
    max_message_bytes: int = row(
        size("1KB", "1GB"), "25MB", "Largest message, composed, attachments included."
    )
    max_body_bytes: int = row(size("1KB", "1GB"), "35MB", "Largest body of an HTTP request.")
    max_headers: int = row(count("headers", 1, 10_000), "100", "Most header fields of an HTTP request.")
    max_header_bytes: int = row(size("1KB", "10MB"), "100KB", "Largest header section of an HTTP request.")
    max_mail_headers: int = row(
        count("headers", 1, 10_000),
        "200",
        "Most header fields a request may give a message; by SMTP, most fields of its header.",
    )
    max_mail_header_bytes: int = row(
        size("1KB", "10MB"), "100KB", "Largest these header fields may be together."
    )
    max_recipients: int = row(count("recipients", 1, 100_000), "500", "Most recipients of one message.")
    queue_units: int = row(
        count("units", 1, 10_000_000),
        "10000",
        "Writes that may wait for the database; then callers are told to wait.",
    )
    queue_bytes: int = row(
        size("1MB", "64GB"), "256MB", "Bytes of the writes that may wait for the database."
    )
    group_commit_max: int = row(count("units", 1, 100_000), "200", "Most writes that share one commit.")
    keep_content_s: float = row(duration("1h", "3650d"), "30d", "How long the content of messages is kept.")
    keep_events_s: float = row(
        duration("1h", "3650d"), "90d", "How long attempts, events and bounces are kept."
    )
    idempotency_keep_s: float = row(
        duration("1m", "30d"), "24h", "How long an idempotency key answers as it did the first time."
    )
    inbox_keep: int = row(
        count("messages", 1, 1_000_000), "1000", "Messages the test inbox keeps, the newest."
    )

    sources: Mapping[str, str] = field(
        default_factory=lambda: MappingProxyType({}), repr=False, compare=False
    )

    @property
    def roles(self) -> tuple[str, ...]:
        """What `serve` does here, spelled out."""
        return self.role or kinds.ROLES

    def explain(self) -> list[Explained]:
        """Every setting as it is in force, in the table's order, with where its value came from."""
        return [
            Explained(
                row.name,
                row.kind.show(getattr(self, row.attribute)),
                row.default,
                row.kind.unit,
                row.meaning,
                self.sources.get(row.name, "default"),
            )
            for row in rows()
        ]


def rows() -> list[Row]:
    """The table: one row per setting, in the order of the documentation."""
    found = []
    for attribute in fields(Settings):
        if attribute.metadata:
            kind: Kind[object] = attribute.metadata["kind"]
            name = attribute.name.removesuffix("_s") if kind.unit == "s" else attribute.name
            found.append(
                Row(attribute.name, name, kind, attribute.metadata["default"], attribute.metadata["meaning"])
            )
    return found


def load(flags: Mapping[str, str | None], environ: Mapping[str, str], file: Path | None = None) -> Settings:
    """The settings in force; raises ConfigError with every problem found.

    flags: by setting name (`log_level`), None where not given. environ: the whole environment; variables that
    start with POSTROOM_ and name no setting are errors. file: TOML; without it, what POSTROOM_CONFIG names.
    """
    known = {row.name: row for row in rows()}
    values: dict[str, object] = {}
    sources: dict[str, str] = {}
    problems: list[str] = []
    if file is None and environ.get(CONFIG_VARIABLE):
        file = Path(environ[CONFIG_VARIABLE])
    for name, written, source, raw in (
        *_from_file(file, problems),
        *_from_environment(environ),
        *_from_flags(flags),
    ):
        if name not in known:
            near = difflib.get_close_matches(name, known, 1)
            problems.append(
                f"{source}: there is no setting {written}" + (f"; did you mean {near[0]}?" if near else "")
            )
            continue
        try:
            values[known[name].attribute] = known[name].kind.read(raw)
            sources[name] = source
        except Unfit as error:
            problems.append(f"{source}: {written} {error}")
    if problems:
        raise ConfigError(problems)
    settings = Settings(**values, sources=MappingProxyType(sources))  # type: ignore[arg-type]  # each read by its kind
    if problems := list(_contradictions(settings)):
        raise ConfigError(problems)
    return settings


_Given = tuple[str, str, str, object]  # setting, as written there, source, raw value


def _from_file(file: Path | None, problems: list[str]) -> list[_Given]:
    if file is None:
        return []
    try:
        table = tomllib.loads(file.read_text("utf-8"))
    except OSError as error:
        problems.append(f"file {file}: cannot be read: {error.strerror}")
    except UnicodeDecodeError:
        problems.append(f"file {file}: is not UTF-8 text")
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        problems.append(f"file {file}: is not TOML: {error}")
    else:
        return [(name, name, f"file {file}", raw) for name, raw in table.items()]
    return []


def _from_environment(environ: Mapping[str, str]) -> list[_Given]:
    return [
        (variable.removeprefix(PREFIX).lower(), variable, "environment", raw)
        for variable, raw in sorted(environ.items())
        if variable.startswith(PREFIX)
        and variable != CONFIG_VARIABLE
        and not _SERVICE.fullmatch(variable)
        and not _SERVICE_PORT.fullmatch(f"{variable}={raw}")
    ]


def _from_flags(flags: Mapping[str, str | None]) -> list[_Given]:
    return [
        (name.replace("-", "_"), "--" + name.replace("_", "-"), "flag", raw)
        for name, raw in flags.items()
        if raw is not None
    ]


def _contradictions(settings: Settings) -> Iterator[str]:
    """Values that fit alone but not together."""
    attributes = {row.name: row.attribute for row in rows()}
    for small, large, reason in (
        ("retry_first_wait", "retry_longest_wait", "waits only grow"),
        ("backoff_first", "backoff_longest", "rests only grow"),
        ("max_message_bytes", "max_body_bytes", "such a message could not be handed in over HTTP"),
        ("max_body_bytes", "queue_bytes", "such a request could not be written"),
        ("max_message_bytes", "submission_bytes_in_flight", "such a message could not be handed in by SMTP"),
    ):
        if getattr(settings, attributes[small]) > getattr(settings, attributes[large]):
            yield f"{small} is more than {large}: {reason}"
    if 3 * settings.lease_renew_s > settings.lease_s:
        yield "lease_renew is more than a third of lease: a worker needs more than one try to keep its lease"
    elif 2 * settings.lease_renew_s + settings.lease_margin_s > settings.lease_s:
        yield "lease_margin is too long for lease: a worker would stop before its second try to renew"
    if not settings.database:
        for name, wanted in (("processes", settings.processes > 1), ("role", bool(settings.role))):
            if wanted:
                yield f"{name} needs PostgreSQL (`database`): on SQLite one process does everything"
        if settings.key_ring:
            yield "key_ring is for PostgreSQL (`database`): on SQLite the key file lies in the data folder"
    listeners = (settings.http, settings.smtp, settings.smtps, settings.inbox, settings.operations)
    listening = [at for at in listeners if at is not None and at.port]
    if len(set(listening)) < len(listening):
        given = ", ".join(map(str, listening))
        yield f"http, smtp, smtps, inbox and operations each need an address of their own: {given}"
