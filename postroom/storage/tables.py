"""The schema, written once for SQLite and PostgreSQL.

Every tenant table leads with `account_id` and every query on it names the account. Times are integers,
microseconds UTC. Booleans are integers 0 and 1. JSON is text. Nothing is indexed by state: what waits
to be sent stands in `ready`, which is narrow and only ever inserted into and deleted from.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Column,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
    and_,
)
from sqlalchemy.types import TypeEngine

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)

_INT: TypeEngine[int] = BigInteger().with_variant(Integer(), "sqlite")


def _id(name: str) -> Column[int]:
    """A key that counts up and is never used twice."""
    return Column(name, _INT, primary_key=True, autoincrement=True)


def _int(name: str, default: int | None = None, *, key: bool = False) -> Column[int]:
    server_default = None if default is None else str(default)
    return Column(
        name, _INT, nullable=False, server_default=server_default, primary_key=key, autoincrement=False
    )


def _maybe_int(name: str) -> Column[int]:
    return Column(name, _INT, nullable=True)


def _text(name: str, default: str | None = None, *, key: bool = False) -> Column[str]:
    return Column(name, Text, nullable=False, server_default=default, primary_key=key)


def _maybe_text(name: str) -> Column[str]:
    return Column(name, Text, nullable=True)


def _bytes(name: str) -> Column[bytes]:
    return Column(name, LargeBinary, nullable=False)


# Storage parameters on PostgreSQL (docs/decisions/0026-partitions-by-day.md). Rows that come and go all the
# time: the share of a table that may be dead says nothing where a million rows pass and ten stay.
_PASSING: dict[str, object] = {
    "autovacuum_vacuum_scale_factor": 0,
    "autovacuum_vacuum_threshold": 1000,
    "autovacuum_vacuum_insert_scale_factor": 0,
    "autovacuum_vacuum_insert_threshold": 100_000,
    "autovacuum_analyze_scale_factor": 0,
    "autovacuum_analyze_threshold": 10_000,
    "autovacuum_vacuum_cost_delay": 0,
}
# The same few rows changed over and over: half of a page stays free for their next versions.
_COUNTERS = {**_PASSING, "fillfactor": 50}
# Each row is changed twice or more soon after it was made, and no index knows the columns that change.
_SETTLED: dict[str, object] = {
    "fillfactor": 80,
    "autovacuum_vacuum_scale_factor": 0.02,
    "autovacuum_vacuum_threshold": 10_000,
    "autovacuum_vacuum_insert_scale_factor": 0.02,
    "autovacuum_analyze_scale_factor": 0.02,
    "autovacuum_analyze_threshold": 10_000,
    "autovacuum_vacuum_cost_delay": 0,
}


# --- the instance and its workers --------------------------------------------------------------------

instance = Table("instance", metadata, _text("name", key=True), _text("value"))

instance_keys = Table(
    "instance_keys",
    metadata,
    _text("kind", key=True),  # what it signs: unsubscribe, click, open, bounce, reference; or nothing: check
    _int("key_id", key=True),  # 1 to 255, in the token
    _bytes("uid"),
    _bytes("sealed"),
    _int("created_at"),
    _maybe_int("retired_at"),  # signs no more; verifies for ever
)

workers = Table(
    "workers",
    metadata,
    _id("worker_id"),
    _int("epoch"),  # raised before its claims are taken from it; on SQLite at every start
    _maybe_int("expires_at"),  # the lease; null on SQLite, where the lock file is the lease
    _int("renewals", 0),  # of the lease; while this counts on, it lives
    _maybe_int("ended_at"),  # it has ended, and nothing it claimed is open
    _text("host", ""),
    _int("pid", 0),
    _text("boot", ""),  # which boot of its host
    _text("roles", ""),  # names, separated by spaces
    _text("version", ""),
    _int("started_at", 0),
    sqlite_autoincrement=True,
    postgresql_with=_COUNTERS,
)

# What one process at a time does for all of them.
leases = Table(
    "leases",
    metadata,
    _text("name", key=True),
    _int("worker_id"),
    _int("expires_at"),
)

# Sessions of a connection, over all processes: whoever opens the n-th holds its row.
slots = Table(
    "slots",
    metadata,
    _int("connection_id", key=True),
    _int("n", key=True),
    _int("worker_id"),
    _int("epoch"),
    postgresql_with=_COUNTERS,
)

# The processes of `serve` on one PostgreSQL. A row says which; whether it lives the server's sessions say.
processes = Table(
    "processes",
    metadata,
    _text("process_id", key=True),
    _text("host"),
    _int("pid"),
    _text("roles"),  # names, separated by spaces
    _text("version"),
    _int("started_at"),
    _text("ring_keys"),  # ids of the key file's keys that it has, separated by spaces
)

# Raised in the unit that changes what some process may remember, so that each sees that it must look anew.
generations = Table("generations", metadata, _text("name", key=True), _int("n"), postgresql_with=_COUNTERS)

# The wall clock was set forward, so that an age can be told from a jump.
clock_steps = Table(
    "clock_steps",
    metadata,
    _int("before_us", key=True),  # what the clock would have said
    _int("by_us"),
)

# --- who -----------------------------------------------------------------------------------------------

accounts = Table(
    "accounts",
    metadata,
    _id("account_id"),
    _text("name"),
    _int("had_connection", 0),  # 1 for ever once a shared connection was made
    _maybe_int("max_servers"),  # its plan's; null: as many as it likes
    _int("may_delete_servers", 1),  # whether its keys may
    _int("created_at"),
    _maybe_int("deleted_at"),
    sqlite_autoincrement=True,
)

servers = Table(
    "servers",
    metadata,
    _int("account_id"),
    _id("server_id"),
    _text("name"),
    _maybe_text("default_sender"),  # a mailbox: `Name <address>` or `address`
    _int("sandbox", 0),
    _int("had_connection", 0),
    _int("smtp_enabled", 1),  # whether its keys may submit by SMTP
    _text("inbound_hash", ""),  # local part of the address its inbound mail comes to
    _text("inbound_domain", ""),  # any local part at it is the server's; "" for none, `*.` for all below
    _text("options", "{}"),  # a dialect's fields we keep and show
    _int("created_at"),
    _int("updated_at"),
    _maybe_int("deleted_at"),
    _maybe_int("purged_at"),  # nothing of it is left
    sqlite_autoincrement=True,
)
Index(None, servers.c.account_id, servers.c.server_id)
_HAS_DOMAIN = and_(servers.c.inbound_domain != "", servers.c.deleted_at.is_(None))
Index(
    "uq_servers_inbound_domain",
    servers.c.inbound_domain,
    unique=True,
    sqlite_where=_HAS_DOMAIN,
    postgresql_where=_HAS_DOMAIN,
)

# What of a server's fields is secret: the keys its owner is shown again, and passwords in its hooks' URLs.
server_secrets = Table(
    "server_secrets",
    metadata,
    _int("account_id"),
    _int("server_id", key=True),
    _text("field", key=True),  # token 12 (the number of the key), or the name of the hook
    _bytes("uid"),
    _bytes("sealed"),
)

streams = Table(
    "streams",
    metadata,
    _int("account_id", key=True),
    _int("server_id", key=True),
    _text("stream", key=True),
    _text("name"),
    _text("type"),  # transactional, broadcast, inbound
    _maybe_text("description"),
    _text("unsubscribe", "none"),  # who offers to unsubscribe: none, ours, custom
    _int("created_at"),
    _maybe_int("updated_at"),
    _maybe_int("archived_at"),
)

keys = Table(
    "keys",
    metadata,
    _int("account_id"),
    _id("key_id"),
    _maybe_int("server_id"),  # null: a key of the account
    _text("label"),
    _text("scopes"),  # names, separated by spaces; `all`
    _bytes("hash"),
    _text("hint"),
    _int("created_at"),
    _maybe_int("last_used_at"),
    _maybe_int("revoked_at"),
    UniqueConstraint("hash"),
    sqlite_autoincrement=True,
)
Index(None, keys.c.account_id, keys.c.key_id)

identities = Table(
    "identities",
    metadata,
    _int("account_id"),  # 0: the operator's word for every account
    _id("identity_id"),
    _maybe_int("server_id"),
    _text("kind"),  # address, domain
    _text("value"),  # lower case, domain as A-label
    _text("proof"),  # operator, mail, dns
    _int("created_at"),
    sqlite_autoincrement=True,
)
Index(None, identities.c.account_id, identities.c.value)

# What signs a domain's mail.
dkim_keys = Table(
    "dkim_keys",
    metadata,
    _int("account_id"),  # 0: for every account
    _id("key_id"),
    _maybe_int("server_id"),  # null: for all servers of the account
    _text("domain"),  # A-label
    _text("selector"),
    _text("algorithm"),  # rsa, ed25519
    _text("public_key"),  # base64, the p= of its record
    _bytes("uid"),
    _bytes("sealed"),  # PKCS #8
    _int("created_at"),
    _maybe_int("seen_at"),  # its record was found in DNS
    _maybe_int("activated_at"),
    _maybe_int("stopped_at"),  # signs no more
    UniqueConstraint("account_id", "domain", "selector"),
    sqlite_autoincrement=True,
)

suppressions = Table(
    "suppressions",
    metadata,
    _int("account_id"),
    _id("suppression_id"),
    _int("server_id"),
    _text("stream", ""),  # "": all streams
    _text("address"),  # lower case, domain as A-label
    _text("reason"),  # hard_bounce, complaint, manual, unsubscribe
    _text("origin"),  # recipient, customer, admin
    _int("created_at"),
    UniqueConstraint("account_id", "server_id", "stream", "address"),
    sqlite_autoincrement=True,
)

# What messages are made from; a deleted one can still be looked at for a while.
templates = Table(
    "templates",
    metadata,
    _int("account_id"),
    _id("template_id"),
    _int("server_id"),
    _text("kind"),  # standard, layout
    _text("name"),
    _maybe_text("alias"),
    _maybe_text("alias_key"),  # the alias for comparing: in lower case
    _maybe_int("layout_id"),  # the template it is put into
    _int("created_at"),
    _int("updated_at"),
    _maybe_int("deleted_at"),
    _maybe_text("subject"),  # large ones last: what is behind them is read through them
    _maybe_text("html"),
    _maybe_text("text"),
    sqlite_autoincrement=True,
)
Index(None, templates.c.account_id, templates.c.server_id, templates.c.template_id)
Index(
    "uq_templates_alias",
    templates.c.account_id,
    templates.c.server_id,
    templates.c.alias_key,
    unique=True,
    sqlite_where=templates.c.deleted_at.is_(None),
    postgresql_where=templates.c.deleted_at.is_(None),
)

# Whose mail a server takes none of.
inbound_rules = Table(
    "inbound_rules",
    metadata,
    _int("account_id"),
    _id("rule_id"),
    _int("server_id"),
    _text("rule"),  # an address or a domain, in lower case, domain as A-label
    _int("created_at"),
    UniqueConstraint("account_id", "server_id", "rule"),
    sqlite_autoincrement=True,
)

# One request to send a message to many. It is stored whole and made into messages slice by slice.
bulks = Table(
    "bulks",
    metadata,
    _int("account_id"),
    _id("bulk_id"),
    _int("server_id"),
    _text("public_id"),  # UUID
    _maybe_int("key_id"),
    _text("origin"),  # which way in, and so which can read what is stored
    _text("stream"),
    _maybe_text("subject"),
    _int("total"),
    _int("released", 0),  # messages that were accepted
    _int("failed", 0),  # and that could not be
    _int("created_at"),
    _maybe_int("completed_at"),
    _bytes("shared"),  # what all its messages have; empty once it is completed
    UniqueConstraint("public_id"),
    sqlite_autoincrement=True,
)
Index(None, bulks.c.account_id, bulks.c.server_id, bulks.c.bulk_id)
Index(
    "ix_bulks_open",
    bulks.c.bulk_id,
    sqlite_where=bulks.c.completed_at.is_(None),
    postgresql_where=bulks.c.completed_at.is_(None),
)

# Messages of it that are still to be made; whoever deletes a row makes them, in the same commit.
bulk_slices = Table(
    "bulk_slices",
    metadata,
    _int("account_id"),
    _int("bulk_id", key=True),
    _int("first", key=True),  # the number of its first message, from 0
    _int("server_id"),
    _int("count"),
    _bytes("body"),
)

# --- ways out ------------------------------------------------------------------------------------------

connections = Table(
    "connections",
    metadata,
    _int("account_id"),
    _id("connection_id"),
    _maybe_int("server_id"),  # its owner; null: shared by the account
    _maybe_int("campaign_id"),  # its owner, if it is a campaign's
    _bytes("uid"),  # 16 random bytes, part of what seals its secrets
    _text("label"),
    _text("vendor"),
    _text("delivery_method"),  # smtp, api
    _int("enabled"),  # the owner's switch
    _maybe_int("connection_failed_at"),
    _maybe_text("failed_reason"),
    _maybe_int("disabled_at"),  # for its bounce rate
    _maybe_int("held_until"),  # ten equal refusals
    _int("for_broadcast"),
    _int("for_sequence"),
    _int("for_transactional"),
    _maybe_int("hourly_cap"),
    _maybe_int("daily_cap"),
    _text("host", ""),
    _int("port", 0),
    _text("security", "auto"),  # auto, implicit, required, never
    _text("auth", ""),  # plain, login, cram_md5, or none
    _maybe_text("sender"),  # a From of its own, proven for it alone
    _text("options", "{}"),  # JSON: what is not secret and not needed to route
    _int("version", 1),  # raised by each change
    _int("created_at"),
    _int("updated_at"),
    _maybe_int("deleted_at"),
    sqlite_autoincrement=True,
)
Index(None, connections.c.account_id, connections.c.server_id, connections.c.connection_id)

connection_secrets = Table(
    "connection_secrets",
    metadata,
    _int("account_id"),
    _int("connection_id", key=True),
    _text("field", key=True),
    _bytes("sealed"),
)

refused_senders = Table(
    "refused_senders",
    metadata,
    _int("account_id"),
    _int("connection_id", key=True),
    _text("sender", key=True),
    _int("until"),
    _text("reply"),
)

# What a connection's peer was found unable to carry, and when that is forgotten.
lacks = Table(
    "lacks",
    metadata,
    _int("account_id"),
    _int("connection_id", key=True),
    _text("need", key=True),  # smtputf8, 8bitmime, size>N
    _int("until"),
    _text("text"),
)

# What a person stopped: nothing of it is claimed until it is resumed. A switch of its own, beside the five
# kinds of off a connection knows.
pauses = Table(
    "pauses",
    metadata,
    _int("account_id", key=True),  # 0 with scope `all`
    _text("scope", key=True),  # all, server, connection
    _int("target_id", key=True),  # the server or connection; 0 with scope `all`
    _int("created_at"),
    _text("actor"),
    _text("reason"),  # what the person said, or `restored`
)

cap = Table(
    "cap",
    metadata,
    _int("account_id", key=True),
    _int("connection_id", key=True),
    _int("held", 0),
    postgresql_with=_COUNTERS,
)

cap_release = Table(
    "cap_release",
    metadata,
    _int("account_id", key=True),
    _int("connection_id", key=True),
    _int("due", key=True),  # when this room comes back, a multiple of 10 seconds
    _int("n"),
    postgresql_with=_PASSING,
)

cap_day = Table(
    "cap_day",
    metadata,
    _int("account_id", key=True),
    _int("connection_id", key=True),
    _int("day", key=True),  # days since 1970, UTC
    _int("used", 0),
    _int("held", 0),
    postgresql_with=_COUNTERS,
)

# What a vendor itself allows the account behind a connection.
vendor_quotas = Table(
    "vendor_quotas",
    metadata,
    _int("account_id", key=True),
    _int("connection_id", key=True),
    _int("read_at"),
    _maybe_int("per_day"),  # in any 24 hours; null: no limit
    _int("used"),  # of it, by the vendor's count
    _int("granted", 0),  # by us since
    _maybe_int("per_1000_s"),  # the vendor's rate: sends in a thousand seconds
    postgresql_with=_COUNTERS,
)

cap_hour = Table(
    "cap_hour",
    metadata,
    _int("account_id", key=True),
    _int("connection_id", key=True),
    _int("hour", key=True),  # hours since 1970; what transactional mail used, for the room kept back for it
    _int("transactional", 0),
    postgresql_with=_COUNTERS,
)

# --- messages ------------------------------------------------------------------------------------------

contents = Table(
    "contents",
    metadata,
    _int("account_id"),
    _id("content_id"),
    _int("created_at"),
    _bytes("body"),
    sqlite_autoincrement=True,
    postgresql_partition_by="RANGE (content_id)",
)

messages = Table(
    "messages",
    metadata,
    _int("account_id"),
    _id("message_id"),
    _text("public_id"),  # UUID
    _int("server_id"),
    _maybe_int("key_id"),
    _text("stream"),
    _text("purpose"),  # transactional, broadcast, sequence
    _text("sender"),  # address of the From, lower case; "": that of the connection of the first claim
    _maybe_text("from_mailbox"),  # that From, as its connection has it; null: it stands in the content
    _text("subject"),
    _text("rfc_message_id"),  # with angle brackets
    _int("content_id"),
    _int("size_bytes"),
    _int("captured", 0),
    _text("origin"),  # which way in
    _text("options", "{}"),
    _int("created_at"),
    UniqueConstraint("public_id"),
    sqlite_autoincrement=True,
)
# By these messages are found, newest first; so each ends with the message.
Index(None, messages.c.account_id, messages.c.message_id)
Index(None, messages.c.account_id, messages.c.server_id, messages.c.message_id)
Index(None, messages.c.account_id, messages.c.server_id, messages.c.stream, messages.c.message_id)
Index(
    "ix_messages_sender",
    messages.c.account_id,
    messages.c.server_id,
    messages.c.sender,
    messages.c.stream,
    messages.c.message_id,
)

# Tags and metadata, by digest (`storage.labels`).
labels = Table(
    "labels",
    metadata,
    _int("account_id", key=True),
    _int("server_id", key=True),
    Column("label", LargeBinary, primary_key=True),
    _int("message_id", key=True),
    sqlite_with_rowid=False,
)

# What is searched for a part of a subject (`storage.subject_blocks`); made when somebody searches.
subject_blocks = Table(
    "subject_blocks",
    metadata,
    _int("account_id", key=True),
    _int("server_id", key=True),
    _text("stream", key=True),
    _int("first_id", key=True),  # it speaks for all messages of the stream from here to `last_id`
    _int("last_id"),
    _bytes("grams"),  # which three characters follow each other in them (`storage.trigrams`)
    _bytes("subjects"),  # packed; in an order that lets the others be read without it
)

# What the tracked links of a content lead to; stays when the content goes: links in mail are for ever.
link_targets = Table(
    "link_targets",
    metadata,
    _int("account_id"),
    _int("content_id", key=True),
    _bytes("targets"),  # packed, by number
)

# How often a delivery was opened, and each of its links followed; stays as long as the delivery does.
hits = Table(
    "hits",
    metadata,
    _int("account_id", key=True),
    _int("delivery_id", key=True),
    _int("link", key=True),  # 0: opened; else a target's number and one
    _int("server_id"),
    _int("first_at"),
    _int("last_at"),
    _int("people"),
    _int("machines"),
    _maybe_int("person_at"),  # the first person's, with the next two
    _text("user_agent", ""),
    _int("in_text", 0),  # whether the link stood in the text part
    postgresql_with=_COUNTERS,
)
Index(
    "ix_hits_people",
    hits.c.account_id,
    hits.c.server_id,
    hits.c.person_at,
    hits.c.delivery_id,
    hits.c.link,
    sqlite_where=hits.c.person_at.is_not(None),
    postgresql_where=hits.c.person_at.is_not(None),
)

lanes = Table(
    "lanes",
    metadata,
    _int("account_id"),
    _id("lane_id"),
    _int("server_id"),
    _text("purpose"),
    _text("stream"),
    _text("sender"),
    _int("preferred_connection_id", 0),  # tried first, for what was unknown there; 0: none
    _text("form", "parts"),  # parts, or bytes where only finished bytes say it truly
    _text("needs", ""),  # beyond plain SMTP, separated by spaces; known once a connection lacked it
    UniqueConstraint(
        "account_id",
        "server_id",
        "purpose",
        "stream",
        "sender",
        "preferred_connection_id",
        "form",
        "needs",
    ),
)

deliveries = Table(
    "deliveries",
    metadata,
    _int("account_id"),
    _id("delivery_id"),
    _int("server_id"),
    _int("message_id"),
    _int("lane_id"),
    _text("recipient"),  # as given: the local part's case is the receiver's business
    _text("address"),  # for comparing: lower case, domain as A-label
    _text("kind"),  # to, cc, bcc
    _text("state"),
    _int("due"),  # when it may next be tried, while ready
    _int("tries", 0),  # steps of its retry schedule
    _int("resends", 0),  # after an unknown outcome
    _int("crashes", 0),  # workers that died composing it
    _int("copies", 0),  # confirmed by a 2xx after the dot
    _maybe_int("attempt_id"),  # the newest
    _maybe_int("worker_id"),  # while claimed
    _maybe_int("epoch"),
    _maybe_int("settled_at"),
    _text("reason", ""),  # the last reply or why it waits
    sqlite_autoincrement=True,
    postgresql_with=_SETTLED,
)
# The account comes second in these: of a table that is nearly empty PostgreSQL takes an index that begins
# with it for as good as the one that finds the row, and reads all there is of the account.
Index(None, deliveries.c.message_id, deliveries.c.account_id)
Index(
    "ix_deliveries_address",
    deliveries.c.address,
    deliveries.c.account_id,
    deliveries.c.message_id,
    deliveries.c.server_id,
)

ready = Table(
    "ready",
    metadata,
    _int("account_id", key=True),
    _int("lane_id", key=True),
    _int("due", key=True),
    _int("delivery_id", key=True),
    sqlite_with_rowid=False,
    postgresql_with=_PASSING,
)

unknowns = Table(
    "unknowns",
    metadata,
    _int("due", key=True),  # when it ends by policy
    _int("delivery_id", key=True),
    _int("account_id", key=True),
    sqlite_with_rowid=False,
    postgresql_with=_PASSING,
)

attempts = Table(
    "attempts",
    metadata,
    _int("account_id"),
    _id("attempt_id"),
    _int("delivery_id"),
    _int("connection_id"),
    _int("worker_id"),
    _int("epoch"),
    _int("decision_id"),
    _int("day"),  # the day its daily room was taken from
    _int("granted_at"),
    _maybe_int("ended_at"),
    _maybe_text("result"),
    _text("fault", ""),
    _text("phase", ""),
    _int("code", 0),
    _text("enhanced", ""),
    _text("reply", ""),
    _text("remote_id", ""),
    _text("signed", ""),  # rsa s1._domainkey.example.com, ed25519 s2._domainkey.example.com
    sqlite_autoincrement=True,
    postgresql_partition_by="RANGE (attempt_id)",
)
Index(None, attempts.c.delivery_id, attempts.c.account_id)
# What a dead worker left: only rows without a result stand in it, so it stays as small as what is open.
Index(
    "ix_attempts_open",
    attempts.c.worker_id,
    attempts.c.attempt_id,
    sqlite_where=attempts.c.result.is_(None),
    postgresql_where=attempts.c.result.is_(None),
)

decisions = Table(
    "decisions",
    metadata,
    _int("account_id"),
    _id("decision_id"),
    _int("lane_id"),
    _text("facts"),  # JSON, all that routing looked at
    _text("decision"),  # JSON, the chosen and a reason for every other candidate
    _text("digest", ""),  # of what it says, so that processes that find the same store it once
    _int("created_at"),
    sqlite_autoincrement=True,
)
Index(None, decisions.c.account_id, decisions.c.lane_id, decisions.c.decision_id)

events = Table(
    "events",
    metadata,
    _int("account_id"),
    _id("event_id"),
    _int("server_id"),
    _maybe_int("message_id"),
    _maybe_int("delivery_id"),
    _maybe_int("connection_id"),
    _text("kind"),
    _int("at"),
    _text("data", "{}"),
    sqlite_autoincrement=True,
    postgresql_partition_by="RANGE (event_id)",
)
Index(None, events.c.account_id, events.c.message_id, events.c.event_id)

# What did not arrive, in the words that were said; goes when events of its age go.
bounces = Table(
    "bounces",
    metadata,
    _int("account_id"),
    _id("bounce_id"),
    _int("server_id"),
    _maybe_int("delivery_id"),  # null: its message was never stored
    _text("public_id"),  # of its message, or one of its own
    _text("stream"),
    _text("kind"),
    _text("recipient"),  # as given
    _text("address"),  # for comparing
    _text("sender"),
    _text("subject"),
    _text("tag"),
    _text("text"),  # what was replied
    _text("report"),  # the long form
    _int("at"),
    sqlite_autoincrement=True,
)
Index(None, bounces.c.account_id, bounces.c.server_id, bounces.c.bounce_id)
Index(None, bounces.c.account_id, bounces.c.server_id, bounces.c.public_id)
Index(None, bounces.c.account_id, bounces.c.server_id, bounces.c.kind)

idempotency = Table(
    "idempotency",
    metadata,
    _int("account_id", key=True),
    _int("key_id", key=True),
    _text("name", key=True),  # the Idempotency-Key
    _bytes("fingerprint"),
    _int("message_id"),
    _int("created_at"),
)
Index(None, idempotency.c.created_at)

# Troubles of which the operator was told: begun, and ended once they are over.
notices = Table(
    "notices",
    metadata,
    _int("account_id"),  # 0: of the whole installation
    _id("notice_id"),
    _text("kind"),
    _text("about"),  # connection 7, server 3 bulk, disk
    _text("text"),
    _text("data", "{}"),  # JSON, never a secret
    _int("began_at"),
    _maybe_int("ended_at"),
    sqlite_autoincrement=True,
)
Index(
    "uq_notices_open",
    notices.c.kind,
    notices.c.about,
    unique=True,
    sqlite_where=notices.c.ended_at.is_(None),
    postgresql_where=notices.c.ended_at.is_(None),
)

audit = Table(
    "audit",
    metadata,
    _int("account_id"),
    _id("audit_id"),
    _int("at"),
    _text("actor"),  # key 12, command line, engine
    _text("source", ""),  # from where: an address, the control socket's user; empty: from inside
    _text("action"),  # connection.update
    _text("target"),  # connection 7
    _text("detail", "{}"),  # JSON, never a secret
    sqlite_autoincrement=True,
)
Index(None, audit.c.account_id, audit.c.audit_id)
Index(None, audit.c.target, audit.c.audit_id)
