"""What the parts are told of the settings."""

from __future__ import annotations

from postroom.actions.context import Limits
from postroom.config import Settings
from postroom.engine.retry import Policy
from postroom.engine.settings import EngineSettings, Leases
from postroom.inbound.smtp_server import SessionLimits


def limits_of(settings: Settings) -> Limits:
    """The bounds on what may come in."""
    return Limits(
        max_message_bytes=settings.max_message_bytes,
        max_mail_headers=settings.max_mail_headers,
        max_mail_header_bytes=settings.max_mail_header_bytes,
        max_recipients=settings.max_recipients,
        idempotency_keep_s=settings.idempotency_keep_s,
    )


def session_limits(settings: Settings) -> SessionLimits:
    """What programs that submit by SMTP may use."""
    return SessionLimits(
        max_sessions=settings.submission_sessions,
        sessions_per_address=settings.submission_sessions_per_address,
        memory_bytes=settings.submission_bytes_in_flight,
        idle_s=settings.submission_idle_s,
        session_s=settings.submission_session_time_s,
        messages_per_session=settings.submission_messages_per_session,
    )


def engine_settings(settings: Settings, host_name: str) -> EngineSettings:
    """What the engine is told."""
    return EngineSettings(
        policy=Policy(
            retry_first_wait_s=settings.retry_first_wait_s,
            retry_longest_wait_s=settings.retry_longest_wait_s,
            give_up_transactional_s=settings.give_up_transactional_s,
            give_up_bulk_s=settings.give_up_bulk_s,
            unknown_wait_s=settings.unknown_wait_s,
            unknown_resends=settings.unknown_resends,
            unknown_hold_s=settings.unknown_hold_s,
        ),
        leases=leases_of(settings),
        sessions_per_connection=settings.sessions_per_connection,
        session_idle_s=settings.session_idle_s,
        session_max_deliveries=settings.session_max_deliveries,
        backoff_first_s=settings.backoff_first_s,
        backoff_longest_s=settings.backoff_longest_s,
        probe_every_s=settings.probe_every_s,
        failed_after_s=settings.failed_after_s,
        helo_name=host_name,
    )


def leases_of(settings: Settings) -> Leases | None:
    """Processes that share a database hold leases; SQLite has one process."""
    if not settings.database:
        return None
    return Leases(
        lease_s=settings.lease_s,
        lease_renew_s=settings.lease_renew_s,
        lease_margin_s=settings.lease_margin_s,
        sibling_look_s=settings.sibling_look_s,
    )
