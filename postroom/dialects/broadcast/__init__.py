"""Broadcast's API (sendbroadcast.net, documentation as of its Python client 0.7.0), at `/api/v1`.

Spoken: email servers (list, show, create, update, delete, test_connection, copy_to_channel), transactionals
(create, show), suppressions (list, add, remove, both in bulk, check), and discovery (whoami, status, prime,
skill, openapi). Left out: subscribers, broadcasts, sequences, segments, templates, topics, opt-in forms,
autopilots, webhook endpoints, global suppressions, file assets, users and the migration API; their paths
answer 404.

A channel is a server of ours, an email server a connection, a channel token a server key, an admin token an
account key. docs/broadcast.md says what differs from the product, and why.
"""

from postroom.dialects.broadcast.routes import PATHS, PREFIX, broadcast_app

__all__ = ["PATHS", "PREFIX", "broadcast_app"]
