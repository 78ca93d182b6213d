"""Every call of this API once: what routes it, what it needs, and how the document describes it."""

from __future__ import annotations

from postroom.core.key import Scope
from postroom.dialects.postmark import servers
from postroom.dialects.postmark.calls import Op, Token

_READ, _WRITE = Scope.CHANNEL_SETTINGS_READ, Scope.CHANNEL_SETTINGS_WRITE
_ACCOUNT = Token.ACCOUNT
_PAGE = {"count": "Rows to return, 1 to 500; required.", "offset": "Rows to skip; required."}
_BODY = (404, 408, 409, 413, 422)  # what a call that takes a body may be told
_SERVERS, _SERVER = "/servers", "/servers/{id}"

OPERATIONS: tuple[Op, ...] = (
    Op("GET", _SERVERS, servers.index, _READ, "List the account's servers", "ServerList", errors=(422,),
       query={**_PAGE, "name": "Only servers with this in their name."}, token=_ACCOUNT),
    Op("POST", _SERVERS, servers.create, Scope.ALL, "Create a server", "Server", "ServerRequest",
       errors=_BODY, token=_ACCOUNT),
    Op("GET", _SERVER, servers.show, _READ, "Show a server", "Server", errors=(422,), token=_ACCOUNT),
    Op("PUT", _SERVER, servers.update, _WRITE, "Change a server", "Server", "ServerChanges", errors=_BODY,
       token=_ACCOUNT),
    Op("DELETE", _SERVER, servers.delete, Scope.ALL, "Delete a server with all that is its", "Done",
       errors=_BODY, token=_ACCOUNT),
    Op("GET", "/server", servers.show_own, _READ, "Show the token's server", "Server", errors=(422,)),
    Op("PUT", "/server", servers.update_own, _WRITE, "Change the token's server", "Server", "ServerChanges",
       errors=_BODY),
)  # fmt: skip
