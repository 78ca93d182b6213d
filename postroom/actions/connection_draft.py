"""What somebody wants a connection to be, checked against every rule at once.

A way in hands over values as it read them (`object`: numbers, texts, null); `merge` turns them and what
is stored into the new settings, or raises one Invalid with all that is wrong, field by field. Which
labels and sentences the fields get is the way in's business.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import TypeVar

from postroom.actions.changes import UNSET
from postroom.actions.checks import (
    BLANK,
    INVALID_TEXT,
    check_label,
    has_refused_characters,
    host_name,
    raise_any,
    secret_fault,
    whole_number,
)
from postroom.core.connection import (
    MAX_CAP,
    MIN_HOURLY_CAP,
    SECRET_FIELDS,
    SIGNS_MAIL_OPTION,
    Connection,
    DeliveryMethod,
    Security,
    SignsMail,
    Vendor,
)
from postroom.core.message import Purpose
from postroom.errors import FieldError, Invalid
from postroom.mail.address import parse_mailbox
from postroom.mail.unsubscribe import custom_link_fault
from postroom.secret import Secret
from postroom.transports.http_url import NotAUrl, read_url
from postroom.transports.vendors import vendor_row

NO_PURPOSE = "At least one use case (broadcasts, sequences, or transactionals) must be selected"
NOT_LISTED = "is not included in the list"
AUTH_METHODS = ("plain", "login", "cram_md5", "auto")
MOST_OPTION_CHARACTERS = 2000
STARTTLS_OPTION = "smtp_enable_starttls_auto"  # another spelling of `security`, kept equal to it

FLAG_OPTIONS: Mapping[str, bool] = {
    "include_unsubscribe_header": True,
    "include_unsubscribe_link": True,
    "use_custom_unsubscribe_link": False,
    "inboxroad_sync_enabled": False,
    STARTTLS_OPTION: True,
}
API_URL_OPTION = "api_url"  # instead of the vendor's own
TEXT_OPTIONS = (
    "custom_unsubscribe_link",
    "aws_region",
    "aws_ses_configuration_set",
    "smtp_com_channel",
    "postmark_transactional_stream",
    "postmark_broadcast_stream",
    API_URL_OPTION,
    SIGNS_MAIL_OPTION,
)

_TRUE = (True, "1", "true")  # 1 equals True, 0 equals False
_FALSE = (False, "0", "false")
_REGION = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,30}[a-z0-9])?")  # it becomes part of a host name
_E = TypeVar("_E", bound=StrEnum)


@dataclass(frozen=True)
class ConnectionChanges:
    """Fields to change; UNSET leaves one as it is.

    Null and "" clear what may be empty (caps, host, port, auth, sender, secrets, text options) and say
    nothing about the rest. Numbers may be given as digits, flags as 0, 1, "true", "false".
    secrets: by name of `core.connection.SECRET_FIELDS`, text or Secret; options: by name of
    FLAG_OPTIONS and TEXT_OPTIONS; names left out stay as they are.
    """

    label: object = UNSET
    vendor: object = UNSET
    delivery_method: object = UNSET
    enabled: object = UNSET
    for_broadcast: object = UNSET
    for_sequence: object = UNSET
    for_transactional: object = UNSET
    hourly_cap: object = UNSET
    daily_cap: object = UNSET
    host: object = UNSET
    port: object = UNSET
    security: object = UNSET
    auth: object = UNSET
    sender: object = UNSET
    secrets: Mapping[str, object] = field(default_factory=dict, repr=False)
    options: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True)
class ConnectionDraft(ConnectionChanges):
    """A connection to be made; UNSET takes the default: vendor other, SMTP, enabled, no purpose, no cap."""


@dataclass(frozen=True)
class ConnectionRules:
    """What a way in demands beyond the rules that always hold."""

    hourly_cap_required: bool = False
    login_required: bool = False
    keep_one_enabled: bool = False  # the owner's last enabled connection is neither switched off nor deleted


NO_RULES = ConnectionRules()


@dataclass(frozen=True)
class Merged:
    """Settings that keep every rule; secrets to seal, and names of those to remove."""

    connection: Connection
    set_secrets: Mapping[str, str] = field(repr=False)
    cleared_secrets: frozenset[str]


def merge(
    current: Connection, stored_secrets: frozenset[str], changes: ConnectionChanges, rules: ConnectionRules
) -> Merged:
    """`current` with `changes`. Raises Invalid with every field error; nothing in it repeats a secret.

    A draft is held to all of `rules`. Changes are not asked for a cap or a login that a connection made
    elsewhere never had; what it has cannot be taken away against the rules.
    """
    return _Merge(current, stored_secrets, changes, rules).run()


class _Merge:
    def __init__(
        self,
        current: Connection,
        stored_secrets: frozenset[str],
        changes: ConnectionChanges,
        rules: ConnectionRules,
    ) -> None:
        self._current, self._stored = current, stored_secrets
        self._changes, self._rules = changes, rules
        self._new = isinstance(changes, ConnectionDraft)
        self._errors: list[FieldError] = []

    def run(self) -> Merged:
        current, changes, errors = self._current, self._changes, self._errors
        # A field that is UNSET is checked again as it is stored: the rules may demand more than before.
        label = check_label(_or(changes.label, current.label), "label", errors)
        vendor = self._listed(Vendor, changes.vendor, current.vendor, "vendor")
        method = self._listed(
            DeliveryMethod, changes.delivery_method, current.delivery_method, "delivery_method"
        )
        hourly_cap = self._whole(
            _or(changes.hourly_cap, current.hourly_cap),
            "hourly_cap",
            MIN_HOURLY_CAP,
            MAX_CAP,
            required=self._rules.hourly_cap_required and (self._new or current.hourly_cap is not None),
        )
        daily_cap = self._whole(_or(changes.daily_cap, current.daily_cap), "daily_cap", 1, MAX_CAP)
        enabled = self._flag(changes.enabled, current.enabled, "enabled")
        smtp = method is DeliveryMethod.SMTP
        merged = replace(
            current,
            label=label,
            vendor=vendor,
            delivery_method=method,
            enabled=enabled,
            hourly_cap=hourly_cap,
            daily_cap=daily_cap,
            host=self._host(_or(changes.host, current.host), required=smtp),
            port=self._whole(_or(changes.port, current.port or None), "port", 1, 65_535, required=smtp) or 0,
            security=self._security(),
            auth=self._auth(),
            sender=self._sender(),
        )
        secrets, cleared = self._secrets()
        present = (self._stored - cleared) | secrets.keys()
        options = self._options(merged.security)
        if smtp:
            self._check_login(merged.auth, present)
        else:
            self._check_api(vendor, present, options)
        purposes = self._purposes()
        raise_any(errors)
        merged = replace(merged, purposes=purposes, options=options)
        return Merged(merged, secrets, cleared)

    def _wrong(self, name: str, reason: str) -> None:
        if all(error.field != name for error in self._errors):  # the first reason says enough
            self._errors.append(FieldError(name, reason))

    def _listed(self, kind: type[_E], value: object, current: _E, name: str) -> _E:
        if value is UNSET or value is None:
            return current
        if isinstance(value, str) and value in list(kind):
            return kind(value)
        self._wrong(name, NOT_LISTED)
        return current

    def _flag(self, value: object, current: bool, name: str) -> bool:
        if value is UNSET or value is None:
            return current
        if isinstance(value, bool | int | str):
            if value in _TRUE:
                return True
            if value in _FALSE:
                return False
        self._wrong(name, NOT_LISTED)
        return current

    def _whole(
        self, value: object, name: str, least: int, most: int, *, required: bool = False
    ) -> int | None:
        if value is None or (isinstance(value, str) and not value.strip()):
            if required:
                self._wrong(name, BLANK)
            return None
        number = whole_number(value)
        if isinstance(number, str):
            self._wrong(name, number)
        elif number < least:
            self._wrong(name, f"must be greater than or equal to {least}")
        elif number > most:
            self._wrong(name, f"must be less than or equal to {most}")
        else:
            return number
        return None

    def _host(self, value: object, *, required: bool) -> str:
        if value is None or (isinstance(value, str) and not value.strip()):
            if required:
                self._wrong("host", BLANK)
            return ""
        host = host_name(value) if isinstance(value, str) else None
        if host is None:
            self._wrong("host", "is not a valid host name")
        return host or ""

    def _security(self) -> Security:
        changes, current = self._changes, self._current.security
        starttls = changes.options.get(STARTTLS_OPTION, UNSET)
        if changes.security is UNSET and starttls is not UNSET:
            wanted = self._flag(starttls, current is not Security.NEVER, STARTTLS_OPTION)
            if not wanted:
                return Security.NEVER
            return Security.AUTO if current is Security.NEVER else current
        return self._listed(Security, changes.security, current, "security")

    def _auth(self) -> str:
        value = _or(self._changes.auth, self._current.auth)
        if value is None or value == "":
            return ""
        if isinstance(value, str) and value in AUTH_METHODS:
            return value
        self._wrong("auth", NOT_LISTED)
        return ""

    def _sender(self) -> str | None:
        value = self._changes.sender
        if value is UNSET:
            return self._current.sender
        if value is None or value == "":
            return None
        if not isinstance(value, str):
            self._wrong("sender", "must be text")
            return None
        try:
            parse_mailbox(value, "sender")
        except Invalid as error:
            self._wrong("sender", error.errors[0].reason)
        return value.strip()

    def _purposes(self) -> frozenset[Purpose]:
        flags = {
            Purpose.BROADCAST: (self._changes.for_broadcast, "for_broadcast"),
            Purpose.SEQUENCE: (self._changes.for_sequence, "for_sequence"),
            Purpose.TRANSACTIONAL: (self._changes.for_transactional, "for_transactional"),
        }
        purposes = frozenset(
            purpose
            for purpose, (value, name) in flags.items()
            if self._flag(value, purpose in self._current.purposes, name)
        )
        if not purposes:
            self._wrong("base", NO_PURPOSE)
        return purposes

    def _secrets(self) -> tuple[dict[str, str], frozenset[str]]:
        found: dict[str, str] = {}
        cleared: set[str] = set()
        for name, value in self._changes.secrets.items():
            text = value.reveal() if isinstance(value, Secret) else value
            if name not in SECRET_FIELDS:
                self._wrong(name, "is not a setting of a connection")
            elif text is None or (isinstance(text, str) and not text.strip()):
                cleared.add(name)
            elif not isinstance(text, str):
                self._wrong(name, "must be text")
            elif reason := secret_fault(text):
                self._wrong(name, reason)
            else:
                found[name] = text
        return found, frozenset(cleared)

    def _options(self, security: Security) -> dict[str, object]:
        options: dict[str, object] = {**FLAG_OPTIONS, **dict.fromkeys(TEXT_OPTIONS)}
        options.update(self._current.options)
        for name, value in self._changes.options.items():
            if name in FLAG_OPTIONS:
                options[name] = self._flag(value, bool(options[name]), name)
            elif name in TEXT_OPTIONS:
                options[name] = self._text_option(value, name)
            else:
                self._wrong(name, "is not a setting of a connection")
        options[STARTTLS_OPTION] = security is not Security.NEVER
        custom = options["custom_unsubscribe_link"]
        if options["use_custom_unsubscribe_link"] and not custom:
            self._wrong("custom_unsubscribe_link", BLANK)
        if isinstance(custom, str) and custom_link_fault(custom):
            self._wrong("custom_unsubscribe_link", "is not a valid link")
        if options[SIGNS_MAIL_OPTION] not in (None, *SignsMail):
            self._wrong(SIGNS_MAIL_OPTION, NOT_LISTED)
        region = options["aws_region"]
        if isinstance(region, str) and not _REGION.fullmatch(region):
            self._wrong("aws_region", "is not a valid region")
        if isinstance(url := options[API_URL_OPTION], str):
            try:
                read_url(url)
            except NotAUrl as error:
                self._wrong(API_URL_OPTION, str(error))
        return options

    def _text_option(self, value: object, name: str) -> str | None:
        if value is UNSET or value is None or (isinstance(value, str) and not value.strip()):
            return None
        if not isinstance(value, str):
            self._wrong(name, "must be text")
        elif len(value) > MOST_OPTION_CHARACTERS:
            self._wrong(name, f"is too long (maximum is {MOST_OPTION_CHARACTERS} characters)")
        elif has_refused_characters(value):
            self._wrong(name, INVALID_TEXT)
        else:
            return value.strip()
        return "?"  # never stored; keeps a second complaint about a blank away

    def _check_login(self, auth: str, present: frozenset[str]) -> None:
        login = ("smtp_username", "smtp_password")
        had_none = (
            not self._new
            and self._current.delivery_method is DeliveryMethod.SMTP
            and not self._current.auth
            and not self._stored.intersection(login)
        )
        demanded = self._rules.login_required and not had_none
        if not (demanded or auth or present.intersection(login)):
            return
        for name in login:
            if name not in present:
                self._wrong(name, BLANK)
        if not auth:
            self._wrong("auth", BLANK)

    def _check_api(self, vendor: Vendor, present: frozenset[str], options: Mapping[str, object]) -> None:
        row = vendor_row(vendor)
        if not row.has_api:
            self._wrong("delivery_method", "is not supported by this vendor")
        for name in row.api_secrets:
            if name not in present:
                self._wrong(name, BLANK)
        for name in row.api_options:
            if not options[name]:
                self._wrong(name, BLANK)


def _or(value: object, current: object) -> object:
    return current if value is UNSET else value
