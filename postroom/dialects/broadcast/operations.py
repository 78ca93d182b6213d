"""Every call of this API once: what routes it, what it needs, and how the documents describe it."""

from __future__ import annotations

from postroom.core.key import Scope
from postroom.dialects.broadcast import connections, discovery, transactionals
from postroom.dialects.broadcast.calls import Call
from postroom.http.calls import Operation

_SERVERS = "/email_servers"
_READ, _WRITE = Scope.EMAIL_SERVERS_READ, Scope.EMAIL_SERVERS_WRITE
_PAGE = {"limit": "Most rows to return, 25 if absent, 250 at most.", "offset": "Rows to skip."}
_KEY = {"Idempotency-Key": "Up to 255 characters; the same request again within a day is the same message."}

OPERATIONS: tuple[Operation[Call], ...] = (
    Operation("GET", _SERVERS, connections.index, _READ, "List email servers", "EmailServerList",
              errors=(404, 422), query=_PAGE),
    Operation("POST", _SERVERS, connections.create, _WRITE, "Create an email server", "EmailServer",
              "EmailServerRequest", 201, (400, 404, 413, 422)),
    Operation("GET", f"{_SERVERS}/{{id}}", connections.show, _READ, "Show an email server", "EmailServer",
              errors=(404, 422)),
    Operation("PATCH", f"{_SERVERS}/{{id}}", connections.update, _WRITE, "Change an email server",
              "EmailServer", "EmailServerRequest", 200, (400, 404, 409, 413, 422)),
    Operation("DELETE", f"{_SERVERS}/{{id}}", connections.delete, _WRITE, "Delete an email server",
              "Message", errors=(400, 404, 422)),
    Operation("POST", f"{_SERVERS}/{{id}}/test_connection", connections.test_connection, _READ,
              "Test the connection: connect, secure, log in, quit", "TestResult", errors=(400, 404, 422)),
    Operation("POST", f"{_SERVERS}/{{id}}/copy_to_channel", connections.copy_to_channel, _WRITE,
              "Copy an email server to another channel of the account", "EmailServer", "CopyRequest", 201,
              (400, 403, 404, 413, 422)),
    Operation("POST", "/transactionals", transactionals.create, Scope.TRANSACTIONALS_WRITE,
              "Send a message to one recipient", "Transactional", "TransactionalRequest", 201,
              (400, 403, 404, 409, 413, 422), headers=_KEY, holds_message=True),
    Operation("GET", "/transactionals/{id}", transactionals.show, Scope.TRANSACTIONALS_READ, "Show a message",
              "Transactional", errors=(404, 422)),
    Operation("GET", "/whoami", discovery.whoami, None, "The key and its channel", "Whoami", errors=(404,)),
    Operation("GET", "/status", discovery.status, None, "Whether the channel is ready to send", "Status",
              errors=(404, 422)),
    Operation("GET", "/prime", discovery.prime, None, "What this API can do", "Prime",
              takes_every_get=False),
    Operation("GET", "/skill", discovery.skill, None, "How to use this API, as a text", "text/plain",
              takes_every_get=False),
)  # fmt: skip
