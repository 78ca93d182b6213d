"""The one table of what a command can ask for. `serve` and a command without `serve` both run it.

An operation is an async function of the desk and keyword arguments; the argument's types are taken from
its signature, and what comes in is checked against them. It returns JSON values and raises PostroomError.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, get_type_hints

import msgspec

from postroom.control import (
    connections,
    dkim,
    instance,
    key_file,
    messages,
    queue,
    seeing,
    suppressions,
    tenants,
    trail,
)
from postroom.control.desk import Desk
from postroom.errors import Invalid, NotFound

Run = Callable[..., Awaitable[object]]


@dataclass(frozen=True)
class Operation:
    """One operation. `arguments`: a struct type with its keyword arguments."""

    run: Run
    arguments: type[msgspec.Struct]


def _operation(run: Run) -> Operation:
    hints = get_type_hints(run)
    parameters = list(inspect.signature(run).parameters.values())[1:]
    fields: list[Any] = [  # Any: defstruct takes pairs and triples
        (one.name, hints[one.name])
        if one.default is inspect.Parameter.empty
        else (one.name, hints[one.name], one.default)
        for one in parameters
    ]
    return Operation(run, msgspec.defstruct(run.__name__, fields, kw_only=True, forbid_unknown_fields=True))


_RUNS: Mapping[str, Run] = {
    "account.create": tenants.create_account,
    "account.list": tenants.list_accounts,
    "account.show": tenants.show_account,
    "account.update": tenants.update_account,
    "server.create": tenants.create_server,
    "server.list": tenants.list_servers,
    "server.show": tenants.show_server,
    "server.update": tenants.update_server,
    "server.delete": tenants.delete_server,
    "key.create": tenants.create_key,
    "key.list": tenants.list_keys,
    "key.revoke": tenants.revoke_key,
    "identity.trust": tenants.trust_identity,
    "identity.list": tenants.list_identities,
    "identity.forget": tenants.forget_identity,
    "dkim.list": dkim.list_all,
    "dkim.make": dkim.make,
    "dkim.check": dkim.check,
    "dkim.activate": dkim.activate,
    "dkim.stop": dkim.stop,
    "dkim.retire": dkim.retire,
    "connection.create": connections.create,
    "connection.list": connections.list_all,
    "connection.show": connections.show,
    "connection.update": connections.update,
    "connection.delete": connections.delete,
    "connection.test": connections.probe,
    "connection.rotate": connections.rotate,
    "connection.rotate_back": connections.rotate_back,
    "connection.rotate_finish": connections.rotate_finish,
    "connection.reset_window": connections.reset_window,
    "queue.show": queue.show,
    "queue.pause": queue.pause,
    "queue.resume": queue.resume,
    "message.send": messages.send,
    "message.list": messages.list_all,
    "message.show": messages.show,
    "message.cancel": messages.cancel,
    "message.release": messages.release,
    "message.retry": messages.retry,
    "message.resend": messages.resend,
    "message.settle": messages.settle,
    "suppression.add": suppressions.add,
    "suppression.remove": suppressions.remove,
    "suppression.check": suppressions.check,
    "suppression.list": suppressions.list_all,
    "audit.list": trail.list_all,
    "explain": messages.explain,
    "key_file.show": key_file.show,
    "key_file.rotate": key_file.rotate,
    "key_file.retire": key_file.retire,
    "bootstrap": instance.bootstrap,
    "housekeeping": instance.housekeeping,
    "config": instance.config,
    "health": instance.health,
    "status": seeing.status,
    "notices": seeing.notices,
}
TABLE: Mapping[str, Operation] = {name: _operation(run) for name, run in _RUNS.items()}


async def run(desk: Desk, name: str, args: Mapping[str, object], source: str = "") -> object:
    """Run one operation, asked for by `source`.

    Raises NotFound for an unknown name, Invalid for arguments that do not fit.
    """
    operation = TABLE.get(name)
    if operation is None:
        raise NotFound(f"operation {name[:60]}")
    try:
        given = msgspec.convert(args, operation.arguments)
    except msgspec.ValidationError as error:
        raise Invalid("arguments", str(error)) from error
    return await operation.run(replace(desk, source=source), **msgspec.structs.asdict(given))
