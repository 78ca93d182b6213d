"""`postroom vendor`: what is known of the services mail can go out through. Needs no data folder."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from typer import Argument

from postroom.cli.command import command, group
from postroom.cli.terminal import Terminal
from postroom.core.connection import Vendor
from postroom.errors import NotFound
from postroom.transports.vendors import REGION, VendorRow, vendors

app = group("vendor", "Vendors: hosts, ports, logins and habits of the services mail can go out through.")

Name = Annotated[str, Argument(metavar="VENDOR", help="Its name, such as aws_ses.")]


@command(app, "list")
def list_vendors(terminal: Terminal) -> None:
    """List the vendors and how each can be sent through."""
    rows = [_document(name, row) for name, row in vendors().items()]
    terminal.show(
        {"data": rows, "total": len(rows)},
        lambda: terminal.table(
            ("vendor", "name", "methods", "host", "ports", "TLS ports"),
            (
                (
                    one["vendor"],
                    one["title"],
                    one["methods"],
                    _written(one["smtp_host"]),
                    one["smtp_ports"],
                    one["smtp_tls_ports"],
                )
                for one in rows
            ),
            "There are no vendors.",
        ),
    )


@command(app, "show")
def show(terminal: Terminal, vendor: Name) -> None:
    """Show all that is known of one vendor."""
    if vendor not in list(Vendor):
        raise NotFound("vendor")
    document = _document(Vendor(vendor), vendors()[Vendor(vendor)])
    known = {
        name: _written(value) for name, value in document.items() if value not in (None, "", [], (), False)
    }
    terminal.show(document, lambda: terminal.facts(known))


def _document(name: Vendor, row: VendorRow) -> dict[str, Any]:
    return {"vendor": name.value, **msgspec.to_builtins(row)}


def _written(value: object) -> object:
    return value.replace(REGION, "REGION") if isinstance(value, str) else value
