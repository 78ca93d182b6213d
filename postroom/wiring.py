"""The one place that picks concrete parts and joins them: SQLite, SMTP, the engine, the actions' context.

`open_post_room` makes or opens a data folder and gives back everything that works on it. Whoever holds it is
the folder's one writing process: `serve`, which starts the engine on top, or a command, which does not.
"""

from __future__ import annotations

import asyncio
import functools
import ssl
import uuid
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from postroom.actions.connections import load_connection
from postroom.actions.context import Context
from postroom.actions.generations import Generation
from postroom.actions.subject_blocks import SubjectBlocks
from postroom.clock import Clock, SystemClock
from postroom.config import ConfigError, Settings
from postroom.control.desk import Desk
from postroom.control.lock import COMMAND, SERVE, FolderLock
from postroom.core.connection import Connection
from postroom.core.server import Owner
from postroom.engine.bulk_feed import BULKS, BulkFeed
from postroom.engine.dispatcher import Dispatcher
from postroom.engine.explain import explain
from postroom.engine.housekeeping import Housekeeping, HousekeepingSettings
from postroom.engine.queue_view import Wanted, show_queue
from postroom.engine.signing import Signing
from postroom.engine.telling import Telling
from postroom.engine.turn import Turn
from postroom.errors import Unavailable
from postroom.folder import INBOX_NAME, JOURNALS_NAME
from postroom.host_names import full_host_name, helo_name, mail_domain
from postroom.http.asgi import ASGIApp
from postroom.ids import AccountId, ConnectionId
from postroom.keyring import KeyRing
from postroom.of_settings import engine_settings, limits_of
from postroom.opening import make_folder, open_postgres, open_sqlite, take_folder
from postroom.roads import Roads
from postroom.storage import generations, instance_keys, moved
from postroom.storage.database_clock import DatabaseClock, measure
from postroom.storage.database_facts import postgres_facts, sqlite_facts
from postroom.storage.interface import Sql, Work
from postroom.storage.sqlite import SqliteStore
from postroom.tally import Tally
from postroom.tracing import Traces
from postroom.tracking.hits import Hits
from postroom.tracking.links import PATHS, MailLinks
from postroom.tracking.tokens import SigningKeys
from postroom.transports.dialer import Dialer, DialPrivate
from postroom.transports.dns import DnsResolver

if TYPE_CHECKING:  # the HTTP side takes a while to import, and a command without `serve` needs none of it
    from postroom.cluster import Cluster
    from postroom.http.app import Mount
    from postroom.http.surface import ApiSettings
    from postroom.storage.postgres import PostgresStore

HOUSEKEEPING = "housekeeping"


@dataclass
class PostRoom:
    """An open data folder. The engine is built and not started; `close` is the holder's to call."""

    settings: Settings
    instance: str
    fresh: bool  # the database was made just now
    ctx: Context
    store: SqliteStore | PostgresStore
    dispatcher: Dispatcher
    desk: Desk
    dialer: Dialer
    links: MailLinks
    hits: Hits
    cluster: Cluster | None = None  # where other processes use the database as well
    _lock: FolderLock | None = field(default=None, repr=False)

    @property
    def inbox_folder(self) -> Path:
        """Where the test inbox keeps its mail."""
        return self.settings.data / INBOX_NAME

    async def close(self) -> None:
        """Write what waits, close the database, give the lock up. The engine was stopped before."""
        try:
            await self.hits.stop()
            if self.ctx.traces is not None:
                await self.ctx.traces.close()
            await self.ctx.keys.close()
            await self.ctx.inliner.close()
            if self.cluster is not None:
                await self.cluster.close()
            await self.store.close()
        finally:
            if self._lock is not None:
                self._lock.release()
                self._lock = None


@asynccontextmanager
async def opened(settings: Settings, *, role: str = COMMAND, lock: bool = True) -> AsyncIterator[PostRoom]:
    """`open_post_room`, closed at the end."""
    room = await open_post_room(settings, role=role, lock=lock)
    try:
        yield room
    finally:
        await room.close()


async def open_post_room(
    settings: Settings, *, role: str = COMMAND, lock: bool = True, clock: Clock | None = None
) -> PostRoom:
    """Open the data folder, made if absent; with its database in it (SQLite), for this process alone.

    role: what others are told who find the folder locked. lock False: the caller holds the lock already.
    Raises control.lock.Locked, KeyringError when the key file is missing or not ours, Unavailable.
    """
    on_postgres = bool(settings.database)
    clock = clock or (DatabaseClock(SystemClock()) if on_postgres else SystemClock())
    held = None
    if on_postgres:
        make_folder(settings.data)
    elif lock:
        held = await asyncio.to_thread(take_folder, settings.data, role)
    try:
        store, fresh, ring = await (open_postgres if on_postgres else open_sqlite)(settings, clock)
        try:
            if isinstance(clock, DatabaseClock):
                await measure(store, clock)
            found = await _prepare(settings, store, ring, fresh=fresh)
            traces = _traces(settings, found.instance) if role == SERVE else None
            room = _join(settings, clock, store, found, held, traces)
            if room.cluster is not None and role == SERVE:
                try:
                    await room.cluster.join()
                except BaseException:
                    await room.cluster.close()
                    raise
            return room
        except BaseException:
            await store.close()
            raise
    except BaseException:
        if held is not None:
            held.release()
        raise


def _traces(settings: Settings, instance: str) -> Traces | None:
    """Who takes traces; nobody where `otel_endpoint` is empty. Raises ConfigError without the packages."""
    if not settings.otel_endpoint:
        return None
    try:
        from postroom import otel  # an extra, and a tenth of a second
    except ImportError as error:
        text = f"otel_endpoint needs packages that are not installed ({error.name})"
        raise ConfigError([f"{text}: pip install 'postroom[otel]'"]) from error
    return otel.over_http(settings.otel_endpoint, instance)


@dataclass(frozen=True)
class _Found:
    ring: KeyRing
    instance: str
    fresh: bool
    token_keys: Sequence[SigningKeys]
    host_name: str
    ssl_context: ssl.SSLContext | None


async def _prepare(
    settings: Settings, store: SqliteStore | PostgresStore, ring: KeyRing, *, fresh: bool
) -> _Found:
    """Instance id, signing keys, names: done once before anything runs."""
    await store.read(moved.require_here)
    instance = await store.write(_instance_id)
    await store.write(lambda: generations.begin(generations.KEY_FILE))
    await store.write(lambda: instance_keys.check(ring))
    token_keys = await store.write(lambda: _token_keys(ring))
    host_name = settings.helo_name or await asyncio.to_thread(helo_name)
    context = await asyncio.to_thread(_tls_context, settings)
    return _Found(ring, instance, fresh, token_keys, host_name, context)


def _tls_context(settings: Settings) -> ssl.SSLContext | None:
    if settings.tls_ca_file is None:
        return None
    try:
        context = ssl.create_default_context(cafile=str(settings.tls_ca_file))
    except OSError as error:
        raise Unavailable(f"tls_ca_file {settings.tls_ca_file} cannot be read: {error}") from error
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


def _token_keys(ring: KeyRing) -> Work[list[SigningKeys]]:
    """For every kind of link in mail; made at the first start."""
    found = []
    for kind in PATHS:
        active, keys = yield from instance_keys.load(ring, kind.name.lower())
        found.append(SigningKeys(kind, active, keys))
    return found


def _instance_id() -> Work[str]:
    """This installation's own random name, made at its first start; a journal is bound to it."""
    yield Sql(
        "INSERT INTO instance (name, value) VALUES ('id', :id) ON CONFLICT (name) DO NOTHING",
        {"id": str(uuid.uuid4())},
    )
    rows = yield Sql("SELECT value FROM instance WHERE name = 'id'")
    found: str = rows[0][0]
    return found


def _join(
    settings: Settings,
    clock: Clock,
    store: SqliteStore | PostgresStore,
    found: _Found,
    lock: FolderLock | None,
    traces: Traces | None,
) -> PostRoom:
    dialer = Dialer(DialPrivate(settings.dial_private))
    roads = Roads(settings, dialer, found.host_name, found.ssl_context)
    tally = Tally()
    links = MailLinks(found.token_keys, settings.public_url)

    async def load(account_id: AccountId, connection_id: ConnectionId) -> Connection:
        return await load_connection(ctx, account_id, connection_id)

    dispatcher = Dispatcher(
        store,
        clock,
        transport_for=roads.transport_for,
        load_connection=load,
        journal_folder=settings.data / JOURNALS_NAME,
        instance=found.instance,
        settings=engine_settings(settings, found.host_name),
        telling=Telling(clock, tally, traces),
        links=links,
        signing=Signing(store, found.ring, clock),
    )
    cluster = None
    if settings.database:
        from postroom.cluster import Cluster

        cluster = Cluster.of(settings, clock, store, found.ring, dispatcher)
    ctx = Context(
        store,
        clock,
        found.ring,
        cluster.everybody if cluster is not None else dispatcher,
        roads,
        limits_of(settings),
        key_generation=Generation(store, clock, generations.KEYS) if settings.database else None,
        peers=None if cluster is None else cluster.presence,
        traces=traces,
        tally=tally,
        resolver=DnsResolver(),
    )

    async def explain_message(owner: Owner, text: str) -> Mapping[str, object]:
        engine = dispatcher if dispatcher.running else None
        return (await explain(ctx, engine, owner, text)).to_json()

    async def queue(wanted: Wanted) -> Mapping[str, object]:
        engine = dispatcher if dispatcher.running else None
        return (await show_queue(ctx, engine, wanted)).to_json()

    kept = HousekeepingSettings(settings.keep_content_s, settings.keep_events_s, settings.idempotency_keep_s)
    desk = Desk(
        ctx,
        explain_message,
        functools.partial(_database_facts, store),
        full_host_name,
        Housekeeping(
            store,
            clock,
            kept,
            by_day=bool(settings.database),
            turn=Turn(store, HOUSEKEEPING) if settings.database else None,
        ),
        [asdict(one) for one in settings.explain()],
        queue=queue,
    )
    return PostRoom(
        settings,
        found.instance,
        found.fresh,
        ctx,
        store,
        dispatcher,
        desk,
        dialer,
        links,
        Hits(ctx),
        cluster,
        lock,
    )


def http_application(
    room: PostRoom,
    *,
    url: str,
    missing: Callable[[], Sequence[str]],
    pages: Mapping[str, ASGIApp] | None = None,
) -> ASGIApp:
    """Every dialect and page at its paths. url: where we are reached unless `public_url` says otherwise.

    pages: applications for one exact path each.
    """
    # Imported here: a command without `serve` needs none of it, and it takes a while.
    from postroom.http.app import Mount
    from postroom.http.surface import ApiSettings
    from postroom.web import public, tracking

    settings = room.settings
    reached = settings.public_url or url
    spoken = ApiSettings(
        base_url=reached,
        inbound_domain=settings.inbound_domain or mail_domain(reached),
        dial_private=DialPrivate(settings.dial_private),
        rate_per_minute=settings.api_rate_per_minute,
        most_body_bytes=settings.max_body_bytes,
    )
    in_mail = [
        Mount(public.PublicPages(room.ctx, room.links), public.PATHS, ""),
        Mount(tracking.TrackingPages(room.ctx, room.links, room.hits), tracking.PATHS, ""),
    ]
    return _http_app(room, [*api_mounts(room.ctx, spoken), *in_mail], missing, pages)


def bulk_feed(room: PostRoom) -> BulkFeed:
    """What makes accepted bulks into messages, in one process at a time."""
    from postroom.dialects.postmark.bulk_reading import read_slice
    from postroom.dialects.postmark.mail_fields import ORIGIN

    turn = Turn(room.store, BULKS) if room.settings.database else None
    return BulkFeed(room.ctx, {ORIGIN: read_slice}, turn)


def subject_blocks(room: PostRoom) -> SubjectBlocks:
    """What makes blocks of the subjects of streams that are searched in this process."""
    return SubjectBlocks(room.ctx, on_postgres=bool(room.settings.database))


def operations_application(
    room: PostRoom, *, missing: Callable[[], Sequence[str]], pages: Mapping[str, ASGIApp]
) -> ASGIApp:
    """Only /healthz and its like."""
    return _http_app(room, [], missing, pages)


def _http_app(
    room: PostRoom,
    mounts: Sequence[Mount],
    missing: Callable[[], Sequence[str]],
    pages: Mapping[str, ASGIApp] | None,
) -> ASGIApp:
    from postroom.http.app import http_app

    settings = room.settings
    return http_app(
        mounts,
        missing,
        most_body_bytes=settings.max_body_bytes,
        pages=pages,
        answered=room.ctx.tally.answered,
        trusted_proxies=settings.trusted_proxies,
    )


def api_mounts(ctx: Context, settings: ApiSettings) -> list[Mount]:
    """Every dialect at its paths."""
    from postroom.dialects import b2core, broadcast, postmark
    from postroom.http.app import Mount

    return [
        Mount(broadcast.broadcast_app(ctx, settings), broadcast.PATHS, broadcast.PREFIX),
        Mount(b2core.b2core_app(ctx, settings), b2core.PATHS, b2core.PREFIX),
        Mount(postmark.postmark_app(ctx, settings), postmark.PATHS, postmark.PREFIX, fold_case=True),
    ]


async def _database_facts(store: SqliteStore | PostgresStore) -> Mapping[str, object]:
    """What the writer's own connection says; another connection's settings would prove nothing."""
    return await store.write(sqlite_facts if isinstance(store, SqliteStore) else postgres_facts)
