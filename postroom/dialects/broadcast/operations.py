"""Every call of this API once: what routes it, what it needs, and how the documents describe it."""

from __future__ import annotations

from postroom.actions.suppressions import MOST_AT_ONCE
from postroom.core.key import Scope
from postroom.dialects.broadcast import connections, discovery, suppressions, transactionals
from postroom.dialects.broadcast.calls import Call
from postroom.http.calls import Operation

_SERVERS = "/email_servers"
_READ, _WRITE = Scope.EMAIL_SERVERS_READ, Scope.EMAIL_SERVERS_WRITE
_LIST = "/suppressions"
_LIST_READ, _LIST_WRITE = Scope.SUBSCRIBERS_READ, Scope.SUBSCRIBERS_WRITE
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
    Operation("GET", _LIST, suppressions.index, _LIST_READ, "List suppressed addresses", "SuppressionList",
              errors=(404, 422), query={"page": "From 1, 250 a page.", "email": "Only addresses with it."}),
    Operation("POST", _LIST, suppressions.add, _LIST_WRITE, "Suppress an address; 200 when it was already",
              "Suppression", "Address", 201, (400, 404, 413, 422)),
    Operation("DELETE", _LIST, suppressions.remove, _LIST_WRITE, "Take an address off the list", "Removed",
              "Address", errors=(400, 404, 413, 422)),
    Operation("POST", f"{_LIST}/bulk", suppressions.bulk_add, _LIST_WRITE, "Suppress up to 10,000 addresses",
              "BulkAdded", "Addresses", errors=(400, 404, 413, 422), most_texts=MOST_AT_ONCE),
    Operation("DELETE", f"{_LIST}/bulk", suppressions.bulk_remove, _LIST_WRITE,
              "Take up to 10,000 addresses off the list", "BulkRemoved", "Addresses",
              errors=(400, 404, 413, 422), most_texts=MOST_AT_ONCE),
    Operation("GET", f"{_LIST}/check", suppressions.check, _LIST_READ, "Whether an address gets no mail",
              "Checked", errors=(404, 422), query={"email": "The address."}),
    Operation("GET", "/whoami", discovery.whoami, None, "The key and its channel", "Whoami", errors=(404,)),
    Operation("GET", "/status", discovery.status, None, "Whether the channel is ready to send", "Status",
              errors=(404, 422)),
    Operation("GET", "/prime", discovery.prime, None, "What this API can do", "Prime",
              takes_every_get=False),
    Operation("GET", "/skill", discovery.skill, None, "How to use this API, as a text", "text/plain",
              takes_every_get=False),
)  # fmt: skip
