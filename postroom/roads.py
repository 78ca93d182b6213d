"""Which way out a connection gets: SMTP or its vendor's API, with the settings' waits; and a try of one.

A part of wiring: nobody else picks a concrete transport.
"""

from __future__ import annotations

import asyncio
import ssl
from dataclasses import asdict, replace
from typing import TypeVar

from postroom.actions.connection_draft import API_URL_OPTION
from postroom.config import Settings
from postroom.core.connection import IMPLICIT_TLS_PORT, Connection, DeliveryMethod, Security, Vendor
from postroom.transports.api import ApiTarget, ApiTransport, Speaker
from postroom.transports.apis.amazon_ses import AmazonSes, SesKey
from postroom.transports.apis.postmark import Postmark, PostmarkKey
from postroom.transports.dialer import Dialer
from postroom.transports.http_client import HttpTimeouts
from postroom.transports.http_url import NotAUrl, Url, read_url
from postroom.transports.interface import (
    AuthMethod,
    Fault,
    Outcome,
    Phase,
    Result,
    SmtpTarget,
    StartTls,
    Timeouts,
    Transport,
)
from postroom.transports.smtp import SmtpTransport, probe
from postroom.transports.vendors import VendorRow, vendor_row

_STARTTLS = {
    Security.AUTO: StartTls.OFFERED,  # a login never goes in clear text all the same: allow_clear_auth
    Security.IMPLICIT: StartTls.IMPLICIT,
    Security.REQUIRED: StartTls.REQUIRED,
    Security.NEVER: StartTls.NEVER,
}
_NO_API = "there is no way to send by this vendor's API; give the connection SMTP settings instead"
_MOST_BYTES = 10 << 20  # where a vendor does not say
_Waits = TypeVar("_Waits", Timeouts, HttpTimeouts)


class Roads:
    """The ways out. Implements actions.context.Prober."""

    def __init__(
        self, settings: Settings, dialer: Dialer, host_name: str, ssl_context: ssl.SSLContext | None
    ) -> None:
        self._settings, self._dialer = settings, dialer
        self._host_name, self._ssl_context = host_name, ssl_context

    def transport_for(self, connection: Connection) -> Transport | None:
        """How to send through it (its secrets opened); None: this version has no way."""
        if connection.delivery_method is DeliveryMethod.SMTP:
            return self._smtp(connection, timeouts_of(self._settings))
        return self._api(connection, http_timeouts_of(self._settings))

    async def probe(self, connection: Connection) -> Outcome:
        """Log in and out, or read what is harmless, within `test_connection_timeout`."""
        limit_s = self._settings.test_connection_timeout_s
        try:
            async with asyncio.timeout(limit_s):
                return await self._probe(connection, limit_s)
        except TimeoutError:
            text = f"the test took longer than {limit_s:g} s"
            return Outcome(Result.RETURNED, Fault.CONNECTION, Phase.CONNECT, text=text, session_usable=False)

    async def _probe(self, connection: Connection, limit_s: float) -> Outcome:
        if connection.delivery_method is DeliveryMethod.SMTP:
            return await probe(self._smtp(connection, _short(timeouts_of(self._settings), limit_s)))
        api = self._api(connection, _short(http_timeouts_of(self._settings), limit_s))
        if api is None:
            return Outcome(Result.RETURNED, Fault.OURS, Phase.CONNECT, text=_NO_API, session_usable=False)
        return (await api.check()).outcome

    def _smtp(self, connection: Connection, timeouts: Timeouts) -> SmtpTransport:
        target = SmtpTarget(
            host=connection.host,
            port=connection.port,
            starttls=StartTls.IMPLICIT
            if connection.port == IMPLICIT_TLS_PORT and connection.security is not Security.REQUIRED
            else _STARTTLS[connection.security],
            auth=AuthMethod(connection.auth) if connection.auth else None,
            username=connection.secrets.get("smtp_username", ""),
            password=connection.secrets.get("smtp_password", ""),
            helo_name=self._host_name,
            timeouts=timeouts,
            allow_clear_auth=self._settings.allow_clear_auth,
        )
        return SmtpTransport(target, self._dialer, ssl_context=self._ssl_context)

    def _api(self, connection: Connection, timeouts: HttpTimeouts) -> ApiTransport | None:
        row = vendor_row(connection.vendor)
        url = self._api_url(connection, row)
        speaker = None if url is None else _speaker(connection, row, url)
        if url is None or speaker is None:
            return None
        target = ApiTarget(url, timeouts, self._settings.allow_clear_auth)
        return ApiTransport(target, speaker, self._dialer, ssl_context=self._ssl_context)

    def _api_url(self, connection: Connection, row: VendorRow) -> Url | None:
        """The connection's own, else the setting's, else the vendor's."""
        ours = {
            Vendor.AWS_SES: self._settings.aws_ses_api_url,
            Vendor.POSTMARK: self._settings.postmark_api_url,
        }
        text = (
            _option(connection, API_URL_OPTION)
            or ours.get(connection.vendor)
            or row.api_url_in(_option(connection, "aws_region"))
        )
        try:
            return read_url(text)
        except NotAUrl:
            return None


def _speaker(connection: Connection, row: VendorRow, url: Url) -> Speaker | None:
    secrets, most_bytes = connection.secrets, row.most_bytes or _MOST_BYTES
    if connection.vendor is Vendor.AWS_SES:
        key = SesKey(
            secrets.get("outbound_aws_access_key_id", ""),
            secrets.get("outbound_aws_secret_access_key", ""),
            _option(connection, "aws_region"),
            _option(connection, "aws_ses_configuration_set"),
        )
        return AmazonSes(key, url, most_bytes=most_bytes)
    if connection.vendor is Vendor.POSTMARK:
        streams = PostmarkKey(
            secrets.get("postmark_api_token", ""),
            _option(connection, "postmark_transactional_stream") or PostmarkKey.stream,
            _option(connection, "postmark_broadcast_stream") or PostmarkKey.bulk_stream,
        )
        return Postmark(streams, most_bytes=most_bytes)
    return None


def _option(connection: Connection, name: str) -> str:
    value = connection.options.get(name)
    return value if isinstance(value, str) else ""


def _short(waits: _Waits, limit_s: float) -> _Waits:
    """Each wait a little shorter than the whole test, so that the answer says which one it was."""
    return replace(waits, **{name: min(value, limit_s * 0.9) for name, value in asdict(waits).items()})


def timeouts_of(settings: Settings) -> Timeouts:
    """The waits of an SMTP session."""
    return Timeouts(
        connect_s=settings.smtp_connect_timeout_s,
        banner_s=settings.smtp_command_timeout_s,
        command_s=settings.smtp_command_timeout_s,
        data_s=settings.smtp_data_timeout_s,
        body_s=settings.smtp_body_timeout_s,
        reply_s=settings.smtp_reply_timeout_s,
    )


def http_timeouts_of(settings: Settings) -> HttpTimeouts:
    """The waits of a session with an API."""
    return HttpTimeouts(
        connect_s=settings.smtp_connect_timeout_s,
        tls_s=settings.smtp_command_timeout_s,
        write_s=settings.smtp_body_timeout_s,
        reply_s=settings.api_reply_timeout_s,
    )
