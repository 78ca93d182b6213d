"""Every call of this API once: what routes it, what it needs, and how the documents describe it."""

from __future__ import annotations

from postroom.core.key import Scope
from postroom.dialects.b2core import connections
from postroom.dialects.b2core.calls import Call
from postroom.http.calls import Operation

_READ, _WRITE = Scope.EMAIL_SERVERS_READ, Scope.EMAIL_SERVERS_WRITE
_ALL, _ONE = "/providers", "/providers/{id}"
_PAGE = {"limit": "Most rows to return, 250 if absent and at most.", "offset": "Rows to skip."}

OPERATIONS: tuple[Operation[Call], ...] = (
    Operation("GET", _ALL, connections.index, _READ, "List providers", "Provider[]",
              errors=(403,), query=_PAGE),
    Operation("POST", _ALL, connections.create, _WRITE, "Create a provider", "Provider",
              "ProviderRequest", 201, (400, 403, 404, 408, 413)),
    Operation("GET", _ONE, connections.show, _READ, "Show a provider", "Provider", errors=(403, 404)),
    Operation("PATCH", _ONE, connections.update, _WRITE, "Change a provider", "Provider",
              "ProviderChanges", 200, (400, 403, 404, 408, 409, 413)),
    Operation("DELETE", _ONE, connections.delete, _WRITE, "Delete a provider", "", status=204,
              errors=(400, 403, 404, 408, 409, 413)),
    Operation("GET", f"{_ONE}/status", connections.status, _READ,
              "Test a provider: connect, secure, log in, quit; nothing is stored", "", status=204,
              errors=(400, 403, 404)),
)  # fmt: skip
