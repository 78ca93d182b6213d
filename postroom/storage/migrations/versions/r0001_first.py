"""The schema of the first release.

Until that release this file is written anew whenever `storage/tables.py` changes (CONTRIBUTING.md,
"Migrations"); from then on it never changes again.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from postroom.storage.migrations import first_postgres

revision = "0001"
down_revision = None
beside = "0001"

_INT = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Make every table."""
    op.create_table(
        "accounts",
        sa.Column("account_id", _INT, autoincrement=True, nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("had_connection", _INT, server_default="0", autoincrement=False, nullable=False),
        sa.Column("max_servers", _INT, nullable=True),
        sa.Column("may_delete_servers", _INT, server_default="1", autoincrement=False, nullable=False),
        sa.Column("created_at", _INT, autoincrement=False, nullable=False),
        sa.Column("deleted_at", _INT, nullable=True),
        sa.PrimaryKeyConstraint("account_id", name=op.f("pk_accounts")),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "attempts",
        sa.Column("account_id", _INT, autoincrement=False, nullable=False),
        sa.Column("attempt_id", _INT, autoincrement=True, nullable=False),
        sa.Column("delivery_id", _INT, autoincrement=False, nullable=False),
        sa.Column("connection_id", _INT, autoincrement=False, nullable=False),
        sa.Column("worker_id", _INT, autoincrement=False, nullable=False),
        sa.Column("epoch", _INT, autoincrement=False, nullable=False),
        sa.Column("decision_id", _INT, autoincrement=False, nullable=False),
        sa.Column("day", _INT, autoincrement=False, nullable=False),
        sa.Column("granted_at", _INT, autoincrement=False, nullable=False),
        sa.Column("ended_at", _INT, nullable=True),
        sa.Column("result", sa.Text(), nullable=True),
        sa.Column("fault", sa.Text(), server_default="", nullable=False),
        sa.Column("phase", sa.Text(), server_default="", nullable=False),
        sa.Column("code", _INT, server_default="0", autoincrement=False, nullable=False),
        sa.Column("enhanced", sa.Text(), server_default="", nullable=False),
        sa.Column("reply", sa.Text(), server_default="", nullable=False),
        sa.Column("remote_id", sa.Text(), server_default="", nullable=False),
        sa.Column("signed", sa.Text(), server_default="", nullable=False),
        sa.PrimaryKeyConstraint("attempt_id", name=op.f("pk_attempts")),
        postgresql_partition_by="RANGE (attempt_id)",
        sqlite_autoincrement=True,
    )
    op.create_index(
        op.f("ix_attempts_delivery_id_account_id"), "attempts", ["delivery_id", "account_id"], unique=False
    )
    op.create_index(
        "ix_attempts_open",
        "attempts",
        ["worker_id", "attempt_id"],
        unique=False,
        sqlite_where=sa.text("result IS NULL"),
        postgresql_where=sa.text("result IS NULL"),
    )
    op.create_table(
        "audit",
        sa.Column("account_id", _INT, autoincrement=False, nullable=False),
        sa.Column("audit_id", _INT, autoincrement=True, nullable=False),
        sa.Column("at", _INT, autoincrement=False, nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("source", sa.Text(), server_default="", nullable=False),
        sa.Column("action", sa.Text(), nullable=False),
        sa.Column("target", sa.Text(), nullable=False),
        sa.Column("detail", sa.Text(), server_default="{}", nullable=False),
        sa.PrimaryKeyConstraint("audit_id", name=op.f("pk_audit")),
        sqlite_autoincrement=True,
    )
    op.create_index(op.f("ix_audit_account_id_audit_id"), "audit", ["account_id", "audit_id"], unique=False)
    op.create_index(op.f("ix_audit_target_audit_id"), "audit", ["target", "audit_id"], unique=False)
    op.create_table(
        "bounces",
        sa.Column("account_id", _INT, autoincrement=False, nullable=False),
        sa.Column("bounce_id", _INT, autoincrement=True, nullable=False),
        sa.Column("server_id", _INT, autoincrement=False, nullable=False),
        sa.Column("delivery_id", _INT, nullable=True),
        sa.Column("public_id", sa.Text(), nullable=False),
        sa.Column("stream", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("recipient", sa.Text(), nullable=False),
        sa.Column("address", sa.Text(), nullable=False),
        sa.Column("sender", sa.Text(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("tag", sa.Text(), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("report", sa.Text(), nullable=False),
        sa.Column("at", _INT, autoincrement=False, nullable=False),
        sa.PrimaryKeyConstraint("bounce_id", name=op.f("pk_bounces")),
        sqlite_autoincrement=True,
    )
    op.create_index(
        op.f("ix_bounces_account_id_server_id_bounce_id"),
        "bounces",
        ["account_id", "server_id", "bounce_id"],
        unique=False,
    )
    op.create_index(
        op.f("ix_bounces_account_id_server_id_kind"),
        "bounces",
        ["account_id", "server_id", "kind"],
        unique=False,
    )
    op.create_index(
        op.f("ix_bounces_account_id_server_id_public_id"),
        "bounces",
        ["account_id", "server_id", "public_id"],
        unique=False,
    )
    op.create_table(
        "bulk_slices",
        sa.Column("account_id", _INT, autoincrement=False, nullable=False),
        sa.Column("bulk_id", _INT, autoincrement=False, nullable=False),
        sa.Column("first", _INT, autoincrement=False, nullable=False),
        sa.Column("server_id", _INT, autoincrement=False, nullable=False),
        sa.Column("count", _INT, autoincrement=False, nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("bulk_id", "first", name=op.f("pk_bulk_slices")),
    )
    op.create_table(
        "bulks",
        sa.Column("account_id", _INT, autoincrement=False, nullable=False),
        sa.Column("bulk_id", _INT, autoincrement=True, nullable=False),
        sa.Column("server_id", _INT, autoincrement=False, nullable=False),
        sa.Column("public_id", sa.Text(), nullable=False),
        sa.Column("key_id", _INT, nullable=True),
        sa.Column("origin", sa.Text(), nullable=False),
        sa.Column("stream", sa.Text(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=True),
        sa.Column("total", _INT, autoincrement=False, nullable=False),
        sa.Column("released", _INT, server_default="0", autoincrement=False, nullable=False),
        sa.Column("failed", _INT, server_default="0", autoincrement=False, nullable=False),
        sa.Column("created_at", _INT, autoincrement=False, nullable=False),
        sa.Column("completed_at", _INT, nullable=True),
        sa.Column("shared", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("bulk_id", name=op.f("pk_bulks")),
        sa.UniqueConstraint("public_id", name=op.f("uq_bulks_public_id")),
        sqlite_autoincrement=True,
    )
    op.create_index(
        op.f("ix_bulks_account_id_server_id_bulk_id"),
        "bulks",
        ["account_id", "server_id", "bulk_id"],
        unique=False,
    )
    op.create_index(
        "ix_bulks_open",
        "bulks",
        ["bulk_id"],
        unique=False,
        sqlite_where=sa.text("completed_at IS NULL"),
        postgresql_where=sa.text("completed_at IS NULL"),
    )
    op.create_table(
        "cap",
        sa.Column("account_id", _INT, autoincrement=False, nullable=False),
        sa.Column("connection_id", _INT, autoincrement=False, nullable=False),
        sa.Column("held", _INT, server_default="0", autoincrement=False, nullable=False),
        sa.PrimaryKeyConstraint("account_id", "connection_id", name=op.f("pk_cap")),
        postgresql_with={
            "autovacuum_vacuum_scale_factor": 0,
            "autovacuum_vacuum_threshold": 1000,
            "autovacuum_vacuum_insert_scale_factor": 0,
            "autovacuum_vacuum_insert_threshold": 100000,
            "autovacuum_analyze_scale_factor": 0,
            "autovacuum_analyze_threshold": 10000,
            "autovacuum_vacuum_cost_delay": 0,
            "fillfactor": 50,
        },
    )
    op.create_table(
        "cap_day",
        sa.Column("account_id", _INT, autoincrement=False, nullable=False),
        sa.Column("connection_id", _INT, autoincrement=False, nullable=False),
        sa.Column("day", _INT, autoincrement=False, nullable=False),
        sa.Column("used", _INT, server_default="0", autoincrement=False, nullable=False),
        sa.Column("held", _INT, server_default="0", autoincrement=False, nullable=False),
        sa.PrimaryKeyConstraint("account_id", "connection_id", "day", name=op.f("pk_cap_day")),
        postgresql_with={
            "autovacuum_vacuum_scale_factor": 0,
            "autovacuum_vacuum_threshold": 1000,
            "autovacuum_vacuum_insert_scale_factor": 0,
            "autovacuum_vacuum_insert_threshold": 100000,
            "autovacuum_analyze_scale_factor": 0,
            "autovacuum_analyze_threshold": 10000,
            "autovacuum_vacuum_cost_delay": 0,
            "fillfactor": 50,
        },
    )
    op.create_table(
        "cap_hour",
        sa.Column("account_id", _INT, autoincrement=False, nullable=False),
        sa.Column("connection_id", _INT, autoincrement=False, nullable=False),
        sa.Column("hour", _INT, autoincrement=False, nullable=False),
        sa.Column("transactional", _INT, server_default="0", autoincrement=False, nullable=False),
        sa.PrimaryKeyConstraint("account_id", "connection_id", "hour", name=op.f("pk_cap_hour")),
        postgresql_with={
            "autovacuum_vacuum_scale_factor": 0,
            "autovacuum_vacuum_threshold": 1000,
            "autovacuum_vacuum_insert_scale_factor": 0,
            "autovacuum_vacuum_insert_threshold": 100000,
            "autovacuum_analyze_scale_factor": 0,
            "autovacuum_analyze_threshold": 10000,
            "autovacuum_vacuum_cost_delay": 0,
            "fillfactor": 50,
        },
    )
    op.create_table(
        "cap_release",
        sa.Column("account_id", _INT, autoincrement=False, nullable=False),
        sa.Column("connection_id", _INT, autoincrement=False, nullable=False),
        sa.Column("due", _INT, autoincrement=False, nullable=False),
        sa.Column("n", _INT, autoincrement=False, nullable=False),
        sa.PrimaryKeyConstraint("account_id", "connection_id", "due", name=op.f("pk_cap_release")),
        postgresql_with={
            "autovacuum_vacuum_scale_factor": 0,
            "autovacuum_vacuum_threshold": 1000,
            "autovacuum_vacuum_insert_scale_factor": 0,
            "autovacuum_vacuum_insert_threshold": 100000,
            "autovacuum_analyze_scale_factor": 0,
            "autovacuum_analyze_threshold": 10000,
            "autovacuum_vacuum_cost_delay": 0,
        },
    )
    op.create_table(
        "clock_steps",
        sa.Column("before_us", _INT, autoincrement=False, nullable=False),
        sa.Column("by_us", _INT, autoincrement=False, nullable=False),
        sa.PrimaryKeyConstraint("before_us", name=op.f("pk_clock_steps")),
    )
    op.create_table(
        "connection_secrets",
        sa.Column("account_id", _INT, autoincrement=False, nullable=False),
        sa.Column("connection_id", _INT, autoincrement=False, nullable=False),
        sa.Column("field", sa.Text(), nullable=False),
        sa.Column("sealed", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("connection_id", "field", name=op.f("pk_connection_secrets")),
    )
    op.create_table(
        "connections",
        sa.Column("account_id", _INT, autoincrement=False, nullable=False),
        sa.Column("connection_id", _INT, autoincrement=True, nullable=False),
        sa.Column("server_id", _INT, nullable=True),
        sa.Column("campaign_id", _INT, nullable=True),
        sa.Column("uid", sa.LargeBinary(), nullable=False),
        sa.Column("label", sa.Text(), nullable=False),
        sa.Column("vendor", sa.Text(), nullable=False),
        sa.Column("delivery_method", sa.Text(), nullable=False),
        sa.Column("enabled", _INT, autoincrement=False, nullable=False),
        sa.Column("connection_failed_at", _INT, nullable=True),
        sa.Column("failed_reason", sa.Text(), nullable=True),
        sa.Column("disabled_at", _INT, nullable=True),
        sa.Column("held_until", _INT, nullable=True),
        sa.Column("for_broadcast", _INT, autoincrement=False, nullable=False),
        sa.Column("for_sequence", _INT, autoincrement=False, nullable=False),
        sa.Column("for_transactional", _INT, autoincrement=False, nullable=False),
        sa.Column("hourly_cap", _INT, nullable=True),
        sa.Column("daily_cap", _INT, nullable=True),
        sa.Column("host", sa.Text(), server_default="", nullable=False),
        sa.Column("port", _INT, server_default="0", autoincrement=False, nullable=False),
        sa.Column("security", sa.Text(), server_default="auto", nullable=False),
        sa.Column("auth", sa.Text(), server_default="", nullable=False),
        sa.Column("sender", sa.Text(), nullable=True),
        sa.Column("options", sa.Text(), server_default="{}", nullable=False),
        sa.Column("version", _INT, server_default="1", autoincrement=False, nullable=False),
        sa.Column("created_at", _INT, autoincrement=False, nullable=False),
        sa.Column("updated_at", _INT, autoincrement=False, nullable=False),
        sa.Column("deleted_at", _INT, nullable=True),
        sa.PrimaryKeyConstraint("connection_id", name=op.f("pk_connections")),
        sqlite_autoincrement=True,
    )
    op.create_index(
        op.f("ix_connections_account_id_server_id_connection_id"),
        "connections",
        ["account_id", "server_id", "connection_id"],
        unique=False,
    )
    op.create_table(
        "contents",
        sa.Column("account_id", _INT, autoincrement=False, nullable=False),
        sa.Column("content_id", _INT, autoincrement=True, nullable=False),
        sa.Column("created_at", _INT, autoincrement=False, nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("content_id", name=op.f("pk_contents")),
        postgresql_partition_by="RANGE (content_id)",
        sqlite_autoincrement=True,
    )
    op.create_table(
        "decisions",
        sa.Column("account_id", _INT, autoincrement=False, nullable=False),
        sa.Column("decision_id", _INT, autoincrement=True, nullable=False),
        sa.Column("lane_id", _INT, autoincrement=False, nullable=False),
        sa.Column("facts", sa.Text(), nullable=False),
        sa.Column("decision", sa.Text(), nullable=False),
        sa.Column("digest", sa.Text(), server_default="", nullable=False),
        sa.Column("created_at", _INT, autoincrement=False, nullable=False),
        sa.PrimaryKeyConstraint("decision_id", name=op.f("pk_decisions")),
        sqlite_autoincrement=True,
    )
    op.create_index(
        op.f("ix_decisions_account_id_lane_id_decision_id"),
        "decisions",
        ["account_id", "lane_id", "decision_id"],
        unique=False,
    )
    op.create_table(
        "deliveries",
        sa.Column("account_id", _INT, autoincrement=False, nullable=False),
        sa.Column("delivery_id", _INT, autoincrement=True, nullable=False),
        sa.Column("server_id", _INT, autoincrement=False, nullable=False),
        sa.Column("message_id", _INT, autoincrement=False, nullable=False),
        sa.Column("lane_id", _INT, autoincrement=False, nullable=False),
        sa.Column("recipient", sa.Text(), nullable=False),
        sa.Column("address", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("due", _INT, autoincrement=False, nullable=False),
        sa.Column("tries", _INT, server_default="0", autoincrement=False, nullable=False),
        sa.Column("resends", _INT, server_default="0", autoincrement=False, nullable=False),
        sa.Column("crashes", _INT, server_default="0", autoincrement=False, nullable=False),
        sa.Column("copies", _INT, server_default="0", autoincrement=False, nullable=False),
        sa.Column("attempt_id", _INT, nullable=True),
        sa.Column("worker_id", _INT, nullable=True),
        sa.Column("epoch", _INT, nullable=True),
        sa.Column("settled_at", _INT, nullable=True),
        sa.Column("reason", sa.Text(), server_default="", nullable=False),
        sa.PrimaryKeyConstraint("delivery_id", name=op.f("pk_deliveries")),
        postgresql_with={
            "fillfactor": 80,
            "autovacuum_vacuum_scale_factor": 0.02,
            "autovacuum_vacuum_threshold": 10000,
            "autovacuum_vacuum_insert_scale_factor": 0.02,
            "autovacuum_analyze_scale_factor": 0.02,
            "autovacuum_analyze_threshold": 10000,
            "autovacuum_vacuum_cost_delay": 0,
        },
        sqlite_autoincrement=True,
    )
    op.create_index(
        "ix_deliveries_address",
        "deliveries",
        ["address", "account_id", "message_id", "server_id"],
        unique=False,
    )
    op.create_index(
        op.f("ix_deliveries_message_id_account_id"), "deliveries", ["message_id", "account_id"], unique=False
    )
    op.create_table(
        "dkim_keys",
        sa.Column("account_id", _INT, autoincrement=False, nullable=False),
        sa.Column("key_id", _INT, autoincrement=True, nullable=False),
        sa.Column("server_id", _INT, nullable=True),
        sa.Column("domain", sa.Text(), nullable=False),
        sa.Column("selector", sa.Text(), nullable=False),
        sa.Column("algorithm", sa.Text(), nullable=False),
        sa.Column("public_key", sa.Text(), nullable=False),
        sa.Column("uid", sa.LargeBinary(), nullable=False),
        sa.Column("sealed", sa.LargeBinary(), nullable=False),
        sa.Column("created_at", _INT, autoincrement=False, nullable=False),
        sa.Column("seen_at", _INT, nullable=True),
        sa.Column("activated_at", _INT, nullable=True),
        sa.Column("stopped_at", _INT, nullable=True),
        sa.PrimaryKeyConstraint("key_id", name=op.f("pk_dkim_keys")),
        sa.UniqueConstraint(
            "account_id", "domain", "selector", name=op.f("uq_dkim_keys_account_id_domain_selector")
        ),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "events",
        sa.Column("account_id", _INT, autoincrement=False, nullable=False),
        sa.Column("event_id", _INT, autoincrement=True, nullable=False),
        sa.Column("server_id", _INT, autoincrement=False, nullable=False),
        sa.Column("message_id", _INT, nullable=True),
        sa.Column("delivery_id", _INT, nullable=True),
        sa.Column("connection_id", _INT, nullable=True),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("at", _INT, autoincrement=False, nullable=False),
        sa.Column("data", sa.Text(), server_default="{}", nullable=False),
        sa.PrimaryKeyConstraint("event_id", name=op.f("pk_events")),
        postgresql_partition_by="RANGE (event_id)",
        sqlite_autoincrement=True,
    )
    op.create_index(
        op.f("ix_events_account_id_message_id_event_id"),
        "events",
        ["account_id", "message_id", "event_id"],
        unique=False,
    )
    op.create_table(
        "generations",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("n", _INT, autoincrement=False, nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_generations")),
        postgresql_with={
            "autovacuum_vacuum_scale_factor": 0,
            "autovacuum_vacuum_threshold": 1000,
            "autovacuum_vacuum_insert_scale_factor": 0,
            "autovacuum_vacuum_insert_threshold": 100000,
            "autovacuum_analyze_scale_factor": 0,
            "autovacuum_analyze_threshold": 10000,
            "autovacuum_vacuum_cost_delay": 0,
            "fillfactor": 50,
        },
    )
    op.create_table(
        "hits",
        sa.Column("account_id", _INT, autoincrement=False, nullable=False),
        sa.Column("delivery_id", _INT, autoincrement=False, nullable=False),
        sa.Column("link", _INT, autoincrement=False, nullable=False),
        sa.Column("server_id", _INT, autoincrement=False, nullable=False),
        sa.Column("first_at", _INT, autoincrement=False, nullable=False),
        sa.Column("last_at", _INT, autoincrement=False, nullable=False),
        sa.Column("people", _INT, autoincrement=False, nullable=False),
        sa.Column("machines", _INT, autoincrement=False, nullable=False),
        sa.Column("person_at", _INT, nullable=True),
        sa.Column("user_agent", sa.Text(), server_default="", nullable=False),
        sa.Column("in_text", _INT, server_default="0", autoincrement=False, nullable=False),
        sa.PrimaryKeyConstraint("account_id", "delivery_id", "link", name=op.f("pk_hits")),
        postgresql_with={
            "autovacuum_vacuum_scale_factor": 0,
            "autovacuum_vacuum_threshold": 1000,
            "autovacuum_vacuum_insert_scale_factor": 0,
            "autovacuum_vacuum_insert_threshold": 100000,
            "autovacuum_analyze_scale_factor": 0,
            "autovacuum_analyze_threshold": 10000,
            "autovacuum_vacuum_cost_delay": 0,
            "fillfactor": 50,
        },
    )
    op.create_index(
        "ix_hits_people",
        "hits",
        ["account_id", "server_id", "person_at", "delivery_id", "link"],
        unique=False,
        sqlite_where=sa.text("person_at IS NOT NULL"),
        postgresql_where=sa.text("person_at IS NOT NULL"),
    )
    op.create_table(
        "idempotency",
        sa.Column("account_id", _INT, autoincrement=False, nullable=False),
        sa.Column("key_id", _INT, autoincrement=False, nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("fingerprint", sa.LargeBinary(), nullable=False),
        sa.Column("message_id", _INT, autoincrement=False, nullable=False),
        sa.Column("created_at", _INT, autoincrement=False, nullable=False),
        sa.PrimaryKeyConstraint("account_id", "key_id", "name", name=op.f("pk_idempotency")),
    )
    op.create_index(op.f("ix_idempotency_created_at"), "idempotency", ["created_at"], unique=False)
    op.create_table(
        "identities",
        sa.Column("account_id", _INT, autoincrement=False, nullable=False),
        sa.Column("identity_id", _INT, autoincrement=True, nullable=False),
        sa.Column("server_id", _INT, nullable=True),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.Column("proof", sa.Text(), nullable=False),
        sa.Column("created_at", _INT, autoincrement=False, nullable=False),
        sa.PrimaryKeyConstraint("identity_id", name=op.f("pk_identities")),
        sqlite_autoincrement=True,
    )
    op.create_index(
        op.f("ix_identities_account_id_value"), "identities", ["account_id", "value"], unique=False
    )
    op.create_table(
        "inbound_rules",
        sa.Column("account_id", _INT, autoincrement=False, nullable=False),
        sa.Column("rule_id", _INT, autoincrement=True, nullable=False),
        sa.Column("server_id", _INT, autoincrement=False, nullable=False),
        sa.Column("rule", sa.Text(), nullable=False),
        sa.Column("created_at", _INT, autoincrement=False, nullable=False),
        sa.PrimaryKeyConstraint("rule_id", name=op.f("pk_inbound_rules")),
        sa.UniqueConstraint(
            "account_id", "server_id", "rule", name=op.f("uq_inbound_rules_account_id_server_id_rule")
        ),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "instance",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_instance")),
    )
    op.create_table(
        "instance_keys",
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("key_id", _INT, autoincrement=False, nullable=False),
        sa.Column("uid", sa.LargeBinary(), nullable=False),
        sa.Column("sealed", sa.LargeBinary(), nullable=False),
        sa.Column("created_at", _INT, autoincrement=False, nullable=False),
        sa.Column("retired_at", _INT, nullable=True),
        sa.PrimaryKeyConstraint("kind", "key_id", name=op.f("pk_instance_keys")),
    )
    op.create_table(
        "keys",
        sa.Column("account_id", _INT, autoincrement=False, nullable=False),
        sa.Column("key_id", _INT, autoincrement=True, nullable=False),
        sa.Column("server_id", _INT, nullable=True),
        sa.Column("label", sa.Text(), nullable=False),
        sa.Column("scopes", sa.Text(), nullable=False),
        sa.Column("hash", sa.LargeBinary(), nullable=False),
        sa.Column("hint", sa.Text(), nullable=False),
        sa.Column("created_at", _INT, autoincrement=False, nullable=False),
        sa.Column("last_used_at", _INT, nullable=True),
        sa.Column("revoked_at", _INT, nullable=True),
        sa.PrimaryKeyConstraint("key_id", name=op.f("pk_keys")),
        sa.UniqueConstraint("hash", name=op.f("uq_keys_hash")),
        sqlite_autoincrement=True,
    )
    op.create_index(op.f("ix_keys_account_id_key_id"), "keys", ["account_id", "key_id"], unique=False)
    op.create_table(
        "labels",
        sa.Column("account_id", _INT, autoincrement=False, nullable=False),
        sa.Column("server_id", _INT, autoincrement=False, nullable=False),
        sa.Column("label", sa.LargeBinary(), nullable=False),
        sa.Column("message_id", _INT, autoincrement=False, nullable=False),
        sa.PrimaryKeyConstraint("account_id", "server_id", "label", "message_id", name=op.f("pk_labels")),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "lacks",
        sa.Column("account_id", _INT, autoincrement=False, nullable=False),
        sa.Column("connection_id", _INT, autoincrement=False, nullable=False),
        sa.Column("need", sa.Text(), nullable=False),
        sa.Column("until", _INT, autoincrement=False, nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("connection_id", "need", name=op.f("pk_lacks")),
    )
    op.create_table(
        "lanes",
        sa.Column("account_id", _INT, autoincrement=False, nullable=False),
        sa.Column("lane_id", _INT, autoincrement=True, nullable=False),
        sa.Column("server_id", _INT, autoincrement=False, nullable=False),
        sa.Column("purpose", sa.Text(), nullable=False),
        sa.Column("stream", sa.Text(), nullable=False),
        sa.Column("sender", sa.Text(), nullable=False),
        sa.Column("preferred_connection_id", _INT, server_default="0", autoincrement=False, nullable=False),
        sa.Column("form", sa.Text(), server_default="parts", nullable=False),
        sa.Column("needs", sa.Text(), server_default="", nullable=False),
        sa.PrimaryKeyConstraint("lane_id", name=op.f("pk_lanes")),
        sa.UniqueConstraint(
            "account_id",
            "server_id",
            "purpose",
            "stream",
            "sender",
            "preferred_connection_id",
            "form",
            "needs",
            name=op.f(
                "uq_lanes_account_id_server_id_purpose_stream_sender_preferred_connection_id_form_needs"
            ),
        ),
    )
    op.create_table(
        "leases",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("worker_id", _INT, autoincrement=False, nullable=False),
        sa.Column("expires_at", _INT, autoincrement=False, nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_leases")),
    )
    op.create_table(
        "link_targets",
        sa.Column("account_id", _INT, autoincrement=False, nullable=False),
        sa.Column("content_id", _INT, autoincrement=False, nullable=False),
        sa.Column("targets", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("content_id", name=op.f("pk_link_targets")),
    )
    op.create_table(
        "messages",
        sa.Column("account_id", _INT, autoincrement=False, nullable=False),
        sa.Column("message_id", _INT, autoincrement=True, nullable=False),
        sa.Column("public_id", sa.Text(), nullable=False),
        sa.Column("server_id", _INT, autoincrement=False, nullable=False),
        sa.Column("key_id", _INT, nullable=True),
        sa.Column("stream", sa.Text(), nullable=False),
        sa.Column("purpose", sa.Text(), nullable=False),
        sa.Column("sender", sa.Text(), nullable=False),
        sa.Column("from_mailbox", sa.Text(), nullable=True),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("rfc_message_id", sa.Text(), nullable=False),
        sa.Column("content_id", _INT, autoincrement=False, nullable=False),
        sa.Column("size_bytes", _INT, autoincrement=False, nullable=False),
        sa.Column("captured", _INT, server_default="0", autoincrement=False, nullable=False),
        sa.Column("origin", sa.Text(), nullable=False),
        sa.Column("options", sa.Text(), server_default="{}", nullable=False),
        sa.Column("created_at", _INT, autoincrement=False, nullable=False),
        sa.PrimaryKeyConstraint("message_id", name=op.f("pk_messages")),
        sa.UniqueConstraint("public_id", name=op.f("uq_messages_public_id")),
        sqlite_autoincrement=True,
    )
    op.create_index(
        op.f("ix_messages_account_id_message_id"), "messages", ["account_id", "message_id"], unique=False
    )
    op.create_index(
        op.f("ix_messages_account_id_server_id_message_id"),
        "messages",
        ["account_id", "server_id", "message_id"],
        unique=False,
    )
    op.create_index(
        op.f("ix_messages_account_id_server_id_stream_message_id"),
        "messages",
        ["account_id", "server_id", "stream", "message_id"],
        unique=False,
    )
    op.create_index(
        "ix_messages_sender",
        "messages",
        ["account_id", "server_id", "sender", "stream", "message_id"],
        unique=False,
    )
    op.create_table(
        "notices",
        sa.Column("account_id", _INT, autoincrement=False, nullable=False),
        sa.Column("notice_id", _INT, autoincrement=True, nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("about", sa.Text(), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("data", sa.Text(), server_default="{}", nullable=False),
        sa.Column("began_at", _INT, autoincrement=False, nullable=False),
        sa.Column("ended_at", _INT, nullable=True),
        sa.PrimaryKeyConstraint("notice_id", name=op.f("pk_notices")),
        sqlite_autoincrement=True,
    )
    op.create_index(
        "uq_notices_open",
        "notices",
        ["kind", "about"],
        unique=True,
        sqlite_where=sa.text("ended_at IS NULL"),
        postgresql_where=sa.text("ended_at IS NULL"),
    )
    op.create_table(
        "pauses",
        sa.Column("account_id", _INT, autoincrement=False, nullable=False),
        sa.Column("scope", sa.Text(), nullable=False),
        sa.Column("target_id", _INT, autoincrement=False, nullable=False),
        sa.Column("created_at", _INT, autoincrement=False, nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("account_id", "scope", "target_id", name=op.f("pk_pauses")),
    )
    op.create_table(
        "processes",
        sa.Column("process_id", sa.Text(), nullable=False),
        sa.Column("host", sa.Text(), nullable=False),
        sa.Column("pid", _INT, autoincrement=False, nullable=False),
        sa.Column("roles", sa.Text(), nullable=False),
        sa.Column("version", sa.Text(), nullable=False),
        sa.Column("started_at", _INT, autoincrement=False, nullable=False),
        sa.Column("ring_keys", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("process_id", name=op.f("pk_processes")),
    )
    op.create_table(
        "ready",
        sa.Column("account_id", _INT, autoincrement=False, nullable=False),
        sa.Column("lane_id", _INT, autoincrement=False, nullable=False),
        sa.Column("due", _INT, autoincrement=False, nullable=False),
        sa.Column("delivery_id", _INT, autoincrement=False, nullable=False),
        sa.PrimaryKeyConstraint("account_id", "lane_id", "due", "delivery_id", name=op.f("pk_ready")),
        postgresql_with={
            "autovacuum_vacuum_scale_factor": 0,
            "autovacuum_vacuum_threshold": 1000,
            "autovacuum_vacuum_insert_scale_factor": 0,
            "autovacuum_vacuum_insert_threshold": 100000,
            "autovacuum_analyze_scale_factor": 0,
            "autovacuum_analyze_threshold": 10000,
            "autovacuum_vacuum_cost_delay": 0,
        },
        sqlite_with_rowid=False,
    )
    op.create_table(
        "refused_senders",
        sa.Column("account_id", _INT, autoincrement=False, nullable=False),
        sa.Column("connection_id", _INT, autoincrement=False, nullable=False),
        sa.Column("sender", sa.Text(), nullable=False),
        sa.Column("until", _INT, autoincrement=False, nullable=False),
        sa.Column("reply", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("connection_id", "sender", name=op.f("pk_refused_senders")),
    )
    op.create_table(
        "server_secrets",
        sa.Column("account_id", _INT, autoincrement=False, nullable=False),
        sa.Column("server_id", _INT, autoincrement=False, nullable=False),
        sa.Column("field", sa.Text(), nullable=False),
        sa.Column("uid", sa.LargeBinary(), nullable=False),
        sa.Column("sealed", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("server_id", "field", name=op.f("pk_server_secrets")),
    )
    op.create_table(
        "servers",
        sa.Column("account_id", _INT, autoincrement=False, nullable=False),
        sa.Column("server_id", _INT, autoincrement=True, nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("default_sender", sa.Text(), nullable=True),
        sa.Column("sandbox", _INT, server_default="0", autoincrement=False, nullable=False),
        sa.Column("had_connection", _INT, server_default="0", autoincrement=False, nullable=False),
        sa.Column("smtp_enabled", _INT, server_default="1", autoincrement=False, nullable=False),
        sa.Column("inbound_hash", sa.Text(), server_default="", nullable=False),
        sa.Column("inbound_domain", sa.Text(), server_default="", nullable=False),
        sa.Column("options", sa.Text(), server_default="{}", nullable=False),
        sa.Column("created_at", _INT, autoincrement=False, nullable=False),
        sa.Column("updated_at", _INT, autoincrement=False, nullable=False),
        sa.Column("deleted_at", _INT, nullable=True),
        sa.Column("purged_at", _INT, nullable=True),
        sa.PrimaryKeyConstraint("server_id", name=op.f("pk_servers")),
        sqlite_autoincrement=True,
    )
    op.create_index(
        op.f("ix_servers_account_id_server_id"), "servers", ["account_id", "server_id"], unique=False
    )
    op.create_index(
        "uq_servers_inbound_domain",
        "servers",
        ["inbound_domain"],
        unique=True,
        sqlite_where=sa.text("inbound_domain != '' AND deleted_at IS NULL"),
        postgresql_where=sa.text("inbound_domain != '' AND deleted_at IS NULL"),
    )
    op.create_table(
        "slots",
        sa.Column("connection_id", _INT, autoincrement=False, nullable=False),
        sa.Column("n", _INT, autoincrement=False, nullable=False),
        sa.Column("worker_id", _INT, autoincrement=False, nullable=False),
        sa.Column("epoch", _INT, autoincrement=False, nullable=False),
        sa.PrimaryKeyConstraint("connection_id", "n", name=op.f("pk_slots")),
        postgresql_with={
            "autovacuum_vacuum_scale_factor": 0,
            "autovacuum_vacuum_threshold": 1000,
            "autovacuum_vacuum_insert_scale_factor": 0,
            "autovacuum_vacuum_insert_threshold": 100000,
            "autovacuum_analyze_scale_factor": 0,
            "autovacuum_analyze_threshold": 10000,
            "autovacuum_vacuum_cost_delay": 0,
            "fillfactor": 50,
        },
    )
    op.create_table(
        "streams",
        sa.Column("account_id", _INT, autoincrement=False, nullable=False),
        sa.Column("server_id", _INT, autoincrement=False, nullable=False),
        sa.Column("stream", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("type", sa.Text(), nullable=False),
        sa.Column("description", sa.Text(), nullable=True),
        sa.Column("unsubscribe", sa.Text(), server_default="none", nullable=False),
        sa.Column("created_at", _INT, autoincrement=False, nullable=False),
        sa.Column("updated_at", _INT, nullable=True),
        sa.Column("archived_at", _INT, nullable=True),
        sa.PrimaryKeyConstraint("account_id", "server_id", "stream", name=op.f("pk_streams")),
    )
    op.create_table(
        "subject_blocks",
        sa.Column("account_id", _INT, autoincrement=False, nullable=False),
        sa.Column("server_id", _INT, autoincrement=False, nullable=False),
        sa.Column("stream", sa.Text(), nullable=False),
        sa.Column("first_id", _INT, autoincrement=False, nullable=False),
        sa.Column("last_id", _INT, autoincrement=False, nullable=False),
        sa.Column("grams", sa.LargeBinary(), nullable=False),
        sa.Column("subjects", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint(
            "account_id", "server_id", "stream", "first_id", name=op.f("pk_subject_blocks")
        ),
    )
    op.create_table(
        "suppressions",
        sa.Column("account_id", _INT, autoincrement=False, nullable=False),
        sa.Column("suppression_id", _INT, autoincrement=True, nullable=False),
        sa.Column("server_id", _INT, autoincrement=False, nullable=False),
        sa.Column("stream", sa.Text(), server_default="", nullable=False),
        sa.Column("address", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("origin", sa.Text(), nullable=False),
        sa.Column("created_at", _INT, autoincrement=False, nullable=False),
        sa.PrimaryKeyConstraint("suppression_id", name=op.f("pk_suppressions")),
        sa.UniqueConstraint(
            "account_id",
            "server_id",
            "stream",
            "address",
            name=op.f("uq_suppressions_account_id_server_id_stream_address"),
        ),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "templates",
        sa.Column("account_id", _INT, autoincrement=False, nullable=False),
        sa.Column("template_id", _INT, autoincrement=True, nullable=False),
        sa.Column("server_id", _INT, autoincrement=False, nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("alias", sa.Text(), nullable=True),
        sa.Column("alias_key", sa.Text(), nullable=True),
        sa.Column("layout_id", _INT, nullable=True),
        sa.Column("created_at", _INT, autoincrement=False, nullable=False),
        sa.Column("updated_at", _INT, autoincrement=False, nullable=False),
        sa.Column("deleted_at", _INT, nullable=True),
        sa.Column("subject", sa.Text(), nullable=True),
        sa.Column("html", sa.Text(), nullable=True),
        sa.Column("text", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("template_id", name=op.f("pk_templates")),
        sqlite_autoincrement=True,
    )
    op.create_index(
        op.f("ix_templates_account_id_server_id_template_id"),
        "templates",
        ["account_id", "server_id", "template_id"],
        unique=False,
    )
    op.create_index(
        "uq_templates_alias",
        "templates",
        ["account_id", "server_id", "alias_key"],
        unique=True,
        sqlite_where=sa.text("deleted_at IS NULL"),
        postgresql_where=sa.text("deleted_at IS NULL"),
    )
    op.create_table(
        "unknowns",
        sa.Column("due", _INT, autoincrement=False, nullable=False),
        sa.Column("delivery_id", _INT, autoincrement=False, nullable=False),
        sa.Column("account_id", _INT, autoincrement=False, nullable=False),
        sa.PrimaryKeyConstraint("due", "delivery_id", "account_id", name=op.f("pk_unknowns")),
        postgresql_with={
            "autovacuum_vacuum_scale_factor": 0,
            "autovacuum_vacuum_threshold": 1000,
            "autovacuum_vacuum_insert_scale_factor": 0,
            "autovacuum_vacuum_insert_threshold": 100000,
            "autovacuum_analyze_scale_factor": 0,
            "autovacuum_analyze_threshold": 10000,
            "autovacuum_vacuum_cost_delay": 0,
        },
        sqlite_with_rowid=False,
    )
    op.create_table(
        "vendor_quotas",
        sa.Column("account_id", _INT, autoincrement=False, nullable=False),
        sa.Column("connection_id", _INT, autoincrement=False, nullable=False),
        sa.Column("read_at", _INT, autoincrement=False, nullable=False),
        sa.Column("per_day", _INT, nullable=True),
        sa.Column("used", _INT, autoincrement=False, nullable=False),
        sa.Column("granted", _INT, server_default="0", autoincrement=False, nullable=False),
        sa.Column("per_1000_s", _INT, nullable=True),
        sa.PrimaryKeyConstraint("account_id", "connection_id", name=op.f("pk_vendor_quotas")),
        postgresql_with={
            "autovacuum_vacuum_scale_factor": 0,
            "autovacuum_vacuum_threshold": 1000,
            "autovacuum_vacuum_insert_scale_factor": 0,
            "autovacuum_vacuum_insert_threshold": 100000,
            "autovacuum_analyze_scale_factor": 0,
            "autovacuum_analyze_threshold": 10000,
            "autovacuum_vacuum_cost_delay": 0,
            "fillfactor": 50,
        },
    )
    op.create_table(
        "workers",
        sa.Column("worker_id", _INT, autoincrement=True, nullable=False),
        sa.Column("epoch", _INT, autoincrement=False, nullable=False),
        sa.Column("expires_at", _INT, nullable=True),
        sa.Column("renewals", _INT, server_default="0", autoincrement=False, nullable=False),
        sa.Column("ended_at", _INT, nullable=True),
        sa.Column("host", sa.Text(), server_default="", nullable=False),
        sa.Column("pid", _INT, server_default="0", autoincrement=False, nullable=False),
        sa.Column("boot", sa.Text(), server_default="", nullable=False),
        sa.Column("roles", sa.Text(), server_default="", nullable=False),
        sa.Column("version", sa.Text(), server_default="", nullable=False),
        sa.Column("started_at", _INT, server_default="0", autoincrement=False, nullable=False),
        sa.PrimaryKeyConstraint("worker_id", name=op.f("pk_workers")),
        postgresql_with={
            "autovacuum_vacuum_scale_factor": 0,
            "autovacuum_vacuum_threshold": 1000,
            "autovacuum_vacuum_insert_scale_factor": 0,
            "autovacuum_vacuum_insert_threshold": 100000,
            "autovacuum_analyze_scale_factor": 0,
            "autovacuum_analyze_threshold": 10000,
            "autovacuum_vacuum_cost_delay": 0,
            "fillfactor": 50,
        },
        sqlite_autoincrement=True,
    )
    first_postgres.apply()
