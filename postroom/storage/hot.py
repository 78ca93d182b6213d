"""The statements every message passes through, as plain SQL.

Measured on SQLite, two cores: through SQLAlchemy Core a claim of 20 costs 2.9 ms, as plain text 0.4 ms.
All take `:name` parameters and RETURNING, which both databases know.
"""

from __future__ import annotations

from postroom.storage.interface import CLOCK, TAKE

# What accepting a message depends on besides its sender and recipients, in one look.
ACCEPTING = """
SELECT s.default_sender, s.sandbox, s.smtp_enabled, s.had_connection + a.had_connection, t.type,
       t.archived_at, t.unsubscribe, c.transactional, c.broadcast, c.sequence
FROM servers s
JOIN accounts a ON a.account_id = s.account_id
LEFT JOIN streams t ON t.account_id = s.account_id AND t.server_id = s.server_id AND t.stream = :stream
CROSS JOIN (SELECT MAX(for_transactional) AS transactional, MAX(for_broadcast) AS broadcast,
                   MAX(for_sequence) AS sequence
            FROM connections
            WHERE account_id = :account_id AND (server_id = :server_id OR server_id IS NULL)
              AND campaign_id IS NULL AND deleted_at IS NULL) c
WHERE s.account_id = :account_id AND s.server_id = :server_id AND s.deleted_at IS NULL
"""

# What a free session may take of one lane now, oldest first, with what composing and the last look at
# suppressions need. What somebody else claims or changes at this moment is left to them.
# The lane is cut off before it is joined: where there are many accounts, PostgreSQL expects few rows to meet
# conditions on them in each table, and would join the whole lane and sort it.
# floor: what is due before is passed over. On PostgreSQL a snapshot that somebody holds keeps each row that
# was taken: a look from the beginning passes over them all, 9.4 ms for 60,000; from its end 0.1 ms.
READY_OF_LANE = f"""
SELECT d.delivery_id, d.account_id, d.server_id, d.message_id, d.recipient, d.tries, d.resends, d.crashes,
       r.due, m.content_id, m.rfc_message_id, m.created_at, m.sender,
       EXISTS (SELECT 1 FROM suppressions s
               WHERE s.account_id = d.account_id AND s.server_id = d.server_id
                 AND s.stream IN ('', m.stream) AND s.address = d.address),
       (SELECT v.deleted_at FROM servers v WHERE v.account_id = d.account_id AND v.server_id = d.server_id),
       m.from_mailbox, d.copies
FROM (SELECT account_id, due, delivery_id FROM ready
      WHERE account_id = :account_id AND lane_id = :lane_id AND due >= :floor AND due <= :now
      ORDER BY due, delivery_id LIMIT :n {TAKE}) r
JOIN deliveries d ON d.account_id = r.account_id AND d.delivery_id = r.delivery_id
JOIN messages m ON m.account_id = d.account_id AND m.message_id = d.message_id
ORDER BY r.due, r.delivery_id
"""  # noqa: S608 - our own text

LOCK_READY = " FOR UPDATE OF d SKIP LOCKED"

FIX_SENDER = """
UPDATE messages SET sender = :sender, from_mailbox = :mailbox
WHERE account_id = :account_id AND message_id = :message_id AND sender = ''
RETURNING message_id
"""
SENDER_OF = (
    "SELECT sender, from_mailbox FROM messages WHERE account_id = :account_id AND message_id = :message_id"
)
MOVE_DELIVERY = (
    "UPDATE deliveries SET lane_id = :lane_id WHERE account_id = :account_id AND delivery_id = :delivery_id"
)

NEXT_DUE = (
    "SELECT lane_id, due FROM ready WHERE account_id = :account_id AND lane_id = :lane_id AND due > :now"
    " ORDER BY due LIMIT 1"
)

INSERT_READY = (
    "INSERT INTO ready (account_id, lane_id, due, delivery_id)"
    " VALUES (:account_id, :lane_id, :due, :delivery_id)"
)

DELETE_READY = (
    "DELETE FROM ready WHERE account_id = :account_id AND lane_id = :lane_id AND due = :due"
    " AND delivery_id = :delivery_id"
)

INSERT_ATTEMPT = """
INSERT INTO attempts (account_id, attempt_id, delivery_id, connection_id, worker_id, epoch, decision_id, day,
                      granted_at)
VALUES (:account_id, :attempt_id, :delivery_id, :connection_id, :worker_id, :epoch, :decision_id, :day, :now)
"""

CLAIM_DELIVERY = """
UPDATE deliveries SET state = 'claimed', attempt_id = :attempt_id, worker_id = :worker_id, epoch = :epoch
WHERE account_id = :account_id AND delivery_id = :delivery_id
"""

# One open attempt with all that its transition depends on; no row when it was settled before.
_ATTEMPT = """
SELECT a.attempt_id, a.account_id, a.delivery_id, a.connection_id, a.day, a.worker_id, a.epoch,
       d.server_id, d.message_id, d.state, d.attempt_id, d.worker_id, d.epoch, d.lane_id, d.address,
       d.tries, d.resends, d.crashes, d.due, m.created_at, m.purpose, m.sender, d.copies
FROM attempts a
JOIN deliveries d ON d.account_id = a.account_id AND d.delivery_id = a.delivery_id
JOIN messages m ON m.account_id = d.account_id AND m.message_id = d.message_id
WHERE a.account_id = :account_id AND a.attempt_id = :attempt_id
"""
# Whose attempt it is, where only its number came back: out of a journal, or of a worker that died.
ACCOUNT_OF_ATTEMPT = "SELECT attempt_id, account_id FROM attempts WHERE attempt_id = :attempt_id"
# Not `IS NULL`: PostgreSQL would take the index of what is open for the smallest, and walk past all that was
# in it since the last vacuum, or since somebody began to hold a snapshot.
OPEN_ATTEMPT = _ATTEMPT + "AND COALESCE(a.result, '') = ''"
# One that was given up as unknown when its worker seemed dead, of which something is heard after all.
LOST_ATTEMPT = _ATTEMPT + "AND a.result = 'unknown' AND a.fault = 'ours'"
LOCK_ATTEMPT = " FOR UPDATE OF a, d"

END_ATTEMPT = """
UPDATE attempts SET ended_at = :now, result = :result, fault = :fault, phase = :phase, code = :code,
       enhanced = :enhanced, reply = :reply, remote_id = :remote_id, signed = :signed
WHERE account_id = :account_id AND attempt_id = :attempt_id
"""

SETTLE_DELIVERY = """
UPDATE deliveries SET state = :state, due = :due, tries = :tries, resends = :resends, crashes = :crashes,
       copies = copies + :copies, lane_id = :lane_id, worker_id = NULL, epoch = NULL,
       settled_at = :settled_at, reason = :reason
WHERE account_id = :account_id AND delivery_id = :delivery_id
"""

INSERT_UNKNOWN = (
    "INSERT INTO unknowns (due, delivery_id, account_id) VALUES (:due, :delivery_id, :account_id)"
)

DELETE_UNKNOWN = (
    "DELETE FROM unknowns WHERE account_id = :account_id AND due = :due AND delivery_id = :delivery_id"
)

INSERT_EVENT = """
INSERT INTO events (account_id, server_id, message_id, delivery_id, connection_id, kind, at, data)
VALUES (:account_id, :server_id, :message_id, :delivery_id, :connection_id, :kind, :at, :data)
"""

# The caps. The first statement of a grant is an update, so that it holds the row's lock before the
# clock is read.
LOCK_CAP = f"""
UPDATE cap SET held = held WHERE account_id = :account_id AND connection_id = :connection_id
RETURNING held, {CLOCK}
"""  # noqa: S608 - our own text
INSERT_CAP = """
INSERT INTO cap (account_id, connection_id, held) VALUES (:account_id, :connection_id, 0)
ON CONFLICT (account_id, connection_id) DO NOTHING
"""
RELEASE_DUE = (
    "DELETE FROM cap_release WHERE account_id = :account_id AND connection_id = :connection_id"
    " AND due <= :now RETURNING n"
)
SET_HELD = "UPDATE cap SET held = :held WHERE account_id = :account_id AND connection_id = :connection_id"
RETURN_HELD = (
    "UPDATE cap SET held = held - :n WHERE account_id = :account_id AND connection_id = :connection_id"
)
INSERT_RELEASE = """
INSERT INTO cap_release (account_id, connection_id, due, n) VALUES (:account_id, :connection_id, :due, :n)
ON CONFLICT (account_id, connection_id, due) DO UPDATE SET n = cap_release.n + excluded.n
"""
NEXT_RELEASE = (
    "SELECT due FROM cap_release WHERE account_id = :account_id AND connection_id = :connection_id"
    " ORDER BY due LIMIT 1"
)
# What is due to come back, what a day has used or granted, and the busiest transactional hour since.
ROOM_OF = """
SELECT (SELECT COALESCE(SUM(n), 0) FROM cap_release
        WHERE account_id = :account_id AND connection_id = :connection_id AND due <= :now),
       (SELECT used + held FROM cap_day
        WHERE account_id = :account_id AND connection_id = :connection_id AND day = :day),
       (SELECT COALESCE(MAX(transactional), 0) FROM cap_hour
        WHERE account_id = :account_id AND connection_id = :connection_id AND hour > :since)
"""
HOLD_DAY = """
INSERT INTO cap_day (account_id, connection_id, day, used, held)
VALUES (:account_id, :connection_id, :day, 0, :n)
ON CONFLICT (account_id, connection_id, day) DO UPDATE SET held = cap_day.held + excluded.held
"""
SETTLE_DAY = """
UPDATE cap_day SET held = held - :held, used = used + :used
WHERE account_id = :account_id AND connection_id = :connection_id AND day = :day
"""
COUNT_TRANSACTIONAL = """
INSERT INTO cap_hour (account_id, connection_id, hour, transactional)
VALUES (:account_id, :connection_id, :hour, :n)
ON CONFLICT (account_id, connection_id, hour)
DO UPDATE SET transactional = cap_hour.transactional + excluded.transactional
"""
