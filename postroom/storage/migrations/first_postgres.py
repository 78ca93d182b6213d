"""What revision 0001 does on PostgreSQL beside the tables: ids that carry their day. Frozen with it.

The upper bits of an id of `contents`, `attempts` and `events` are the day it was made, by the server's clock,
the lower 36 count up; the three are partitioned by that id, so a look-up by id touches one partition and a
day goes as one (`storage.days` makes the partitions).

The day is kept between the newest partition there is and eight days before it, which is where partitions
always are: a clock that jumps, or partitions that nobody made for a week, cost order and never a message.
The sequence `postroom_days` holds that newest day: no other look is as cheap.
"""

from __future__ import annotations

from alembic import op

_COUNTED = {"contents": "content_id", "attempts": "attempt_id", "events": "event_id"}

STATEMENTS = (
    "CREATE SEQUENCE postroom_days",
    "CREATE FUNCTION postroom_id(counter regclass) RETURNS bigint LANGUAGE sql VOLATILE RETURN ("
    "(greatest(least(floor(extract(epoch FROM clock_timestamp()) / 86400)::bigint,"
    " pg_sequence_last_value('postroom_days'::regclass)),"
    " pg_sequence_last_value('postroom_days'::regclass) - 8) << 36)"
    " | (nextval(counter) & 68719476735))",
    *(
        statement
        for table, key in _COUNTED.items()
        for statement in (
            f"ALTER SEQUENCE {table}_{key}_seq MAXVALUE 68719476735 CYCLE",
            f"ALTER TABLE {table} ALTER COLUMN {key} SET DEFAULT postroom_id('{table}_{key}_seq'::regclass)",
        )
    ),
    # A lane and a server are of one account. Without that the planner takes both conditions for two,
    # expects next to nothing, and reads and sorts a whole lane where it could stop after twenty rows.
    "CREATE STATISTICS ready_lanes (dependencies) ON account_id, lane_id FROM ready",
    "CREATE STATISTICS messages_servers (dependencies) ON account_id, server_id FROM messages",
    # The server knows nothing of a table nobody analyzed, and expects one row of an account, so that reading
    # all of them looks as good as finding one by its key. Autovacuum comes a minute later or more; until then
    # it goes by what an account with a thousand messages is like.
    "INSERT INTO messages (account_id, message_id, public_id, server_id, stream, purpose, sender, subject,"
    " rfc_message_id, content_id, size_bytes, origin, created_at)"
    " SELECT 1, n, n::text, 1, 'outbound', 'transactional', 'a@example.com', n::text, n::text, n, n, 'http',"
    " n FROM generate_series(1, 1000) n",
    "INSERT INTO deliveries (account_id, delivery_id, server_id, message_id, lane_id, recipient, address,"
    " kind, state, due) SELECT 1, n, 1, n, 1, n::text, n::text, 'to', 'sent', n"
    " FROM generate_series(1, 1000) n",
    "ANALYZE messages, deliveries",
    "TRUNCATE messages, deliveries",
    # What is packed already is not packed again.
    "ALTER TABLE contents ALTER COLUMN body SET STORAGE EXTERNAL",
)


def apply() -> None:
    """After the tables were made; nothing on SQLite."""
    if op.get_context().dialect.name == "postgresql":
        for statement in STATEMENTS:
            op.execute(statement)
