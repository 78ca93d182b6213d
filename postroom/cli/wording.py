"""What is wrong with an input, in the words of the command line: the flag that was typed, the words it takes.

Operations name fields; so does `--json`, for programs. People are told what they can type.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, get_args

from typer.models import ArgumentInfo, OptionInfo

from postroom.actions.connection_draft import AUTH_METHODS, FLAG_OPTIONS, NOT_LISTED, TEXT_OPTIONS
from postroom.core.connection import SECRET_FIELDS, DeliveryMethod, Security, Vendor
from postroom.core.key import Scope
from postroom.errors import FieldError, Invalid

# Parameters of commands that have another name than the field; the first one the command has is meant.
_PARAMETERS: Mapping[str, Sequence[str]] = {
    "attachments": ("attach",),
    "default_sender": ("sender",),
    "delivery_method": ("method",),
    "email": ("address", "addresses"),
    "emails": ("addresses",),
    "for_broadcast": ("broadcast",),
    "for_sequence": ("sequence",),
    "for_transactional": ("transactional",),
    "from": ("sender",),
    "headers": ("header",),
    "identity": ("value",),
    "scopes": ("scope",),
    "smtp_password": ("password",),
    "smtp_username": ("username",),
}
_CHOICES: Mapping[str, Sequence[str]] = {
    "auth": (*AUTH_METHODS, "none"),
    "delivery_method": tuple(DeliveryMethod),
    "scopes": tuple(Scope),
    "security": tuple(Security),
    "vendor": tuple(Vendor),
}


class WrongInput(Invalid):
    """The same error, which knows how the command's parameters are written."""

    def __init__(self, error: Invalid, written: Mapping[str, str]) -> None:
        first, *more = error.errors
        super().__init__(first.field, first.reason, more)
        self.for_people = "\n       ".join(_sentence(one, written) for one in error.errors)


def spelling(name: str, annotation: Any) -> str:  # Any: typing's own annotation of a parameter
    """How a command's parameter is written: `--hourly-cap`, or for an argument its word in capitals."""
    for info in get_args(annotation)[1:]:
        if isinstance(info, OptionInfo):
            # In an annotation typer keeps the first spelling where the default would be.
            given = (info.default, *(info.param_decls or ()))
            long = next((one for one in given if isinstance(one, str) and one.startswith("--")), None)
            return (long or "--" + name.replace("_", "-")).partition("/")[0]
        if isinstance(info, ArgumentInfo):
            return (info.metavar or name.upper()).strip("[].")
    return name


def _sentence(error: FieldError, written: Mapping[str, str]) -> str:
    name, reason = _flag(error.field, written), error.reason
    if error.field in _CHOICES and reason == NOT_LISTED:
        reason = f"must be one of {', '.join(_CHOICES[error.field])}"
    elif error.field == "scopes":
        reason += f"; there are {', '.join(_CHOICES['scopes'])}"
    return f"{name} {reason}" if name else reason


def _flag(field: str, written: Mapping[str, str]) -> str:
    for parameter in (field, *_PARAMETERS.get(field, ())):
        if parameter in written:
            return written[parameter]
    if field in SECRET_FIELDS and "secret" in written:
        return f"--secret {field}"
    if (field in TEXT_OPTIONS or field in FLAG_OPTIONS) and "option" in written:
        return f"--option {field}"
    return "" if field == "base" else field
