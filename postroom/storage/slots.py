"""Session slots: how many sessions a connection may have open, over all processes together.

A row is one session somewhere. It is taken before connecting and given back after closing.
"""

from __future__ import annotations

from collections.abc import Sequence

from postroom.ids import ConnectionId, WorkerId
from postroom.storage.interface import Sql, Work

_LOOKS = 2
# The lowest free number. Who takes the same one at the same moment gets none, and looks again.
_TAKE = """
WITH RECURSIVE numbers (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < :most)
INSERT INTO slots (connection_id, n, worker_id, epoch)
SELECT CAST(:connection_id AS BIGINT), f.n, CAST(:worker_id AS BIGINT), CAST(:epoch AS BIGINT)
FROM numbers f
WHERE NOT EXISTS (SELECT 1 FROM slots s WHERE s.connection_id = :connection_id AND s.n = f.n)
ORDER BY f.n LIMIT 1
ON CONFLICT (connection_id, n) DO NOTHING RETURNING n
"""


def take(connection_id: ConnectionId, worker_id: WorkerId, epoch: int, most: int) -> Work[int | None]:
    """A free slot of this connection, from 1 to `most`; None when there is none now."""
    wanted = {"connection_id": connection_id, "worker_id": worker_id, "epoch": epoch, "most": most}
    for _ in range(_LOOKS):
        rows = yield Sql(_TAKE, wanted)
        if rows:
            found: int = rows[0][0]
            return found
    return None


def give(worker_id: WorkerId, held: Sequence[tuple[ConnectionId, int]]) -> Work[None]:
    """These are free again."""
    if held:
        yield Sql(
            "DELETE FROM slots WHERE connection_id = :connection_id AND n = :n AND worker_id = :worker_id",
            [{"connection_id": connection, "n": n, "worker_id": worker_id} for connection, n in held],
        )


def held_by(worker_id: WorkerId) -> Work[list[tuple[ConnectionId, int]]]:
    """What this worker holds."""
    rows = yield Sql(
        "SELECT connection_id, n FROM slots WHERE worker_id = :worker_id", {"worker_id": worker_id}
    )
    return [(ConnectionId(row[0]), row[1]) for row in rows]
