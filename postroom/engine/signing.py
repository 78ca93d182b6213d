"""Which DKIM keys sign a mail, and signing with them.

A mail is signed by the keys of its From's domain or of a domain above it, whichever is nearer, that its
server, its account or everybody has; with one of each kind. Signed is only what arrives as it left: the row
of the vendor behind the connection says what it rewrites, and its option `dkim` may say otherwise.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

from postroom.actions.sealing import unseal
from postroom.clock import Clock
from postroom.core.connection import DeliveryMethod, SignsMail, Vendor
from postroom.engine.signature_makers import SignatureMakers
from postroom.ids import AccountId, ServerId
from postroom.keyring import KeyRing, KeyringError
from postroom.mail.dkim import Signer, unsigned
from postroom.mail.dkim_keys import Algorithm, from_stored
from postroom.storage import dkim_keys, generations
from postroom.storage.dkim_keys import SealedKey
from postroom.storage.interface import Store
from postroom.storage.routes import Route
from postroom.transports.vendors import vendor_row

_LOOK_S = 5.0  # a change of which no news came is seen after this
_MOST_KNOWN = 10_000
_INLINE_BYTES = 64 << 10  # more than this is hashed in a thread, whatever the key


class CannotSign(Exception):
    """A key that is to sign does not open. The text is for people and says nothing of the key itself."""


@dataclass(frozen=True)
class Rules:
    """What signing through one connection means."""

    signs: bool  # ours arrives as we wrote it
    rewritten: frozenset[str]  # header fields, in lower case, that do not
    covered: bool  # the vendor's own signature covers the unsubscribe fields


NO_SIGNING = Rules(signs=False, rewritten=frozenset(), covered=True)


def rules_of(route: Route) -> Rules:
    """By its vendor's row and its option `dkim`."""
    return _rules(route.vendor, route.delivery_method, route.signs_mail)


@cache
def _rules(vendor: Vendor, method: str, word: SignsMail) -> Rules:
    row = vendor_row(vendor)
    bytes_leave = not (method == DeliveryMethod.API and row.needs_parts)
    wanted = word is SignsMail.ALWAYS or (word is SignsMail.AUTO and row.keeps_signature)
    return Rules(bytes_leave and wanted, row.rewritten_names, row.signs_list_unsubscribe)


class Signing:
    """Of one engine."""

    def __init__(self, store: Store, ring: KeyRing, clock: Clock) -> None:
        self._store, self._ring, self._clock = store, ring, clock
        self._known: dict[tuple[AccountId, ServerId, str], tuple[Signer, ...]] = {}
        self._unsigned: set[tuple[AccountId, str]] = set()  # whatever the server
        self._opened: dict[tuple[int, bytes], Signer] = {}
        self._current: dict[int, Signer] = {}  # those of `_opened`, by id()
        self._makers = SignatureMakers()
        self._changes = 0
        self._generation: int | None = None
        self._looked_s = -_LOOK_S

    def forget(self) -> None:
        """Keys or identities changed: the next mail asks anew."""
        self._changes += 1
        self._known.clear()
        self._unsigned.clear()
        self._current.clear()
        self._opened.clear()  # a key that was destroyed is to leave memory as well
        self._makers.forget()

    async def signers(self, account_id: AccountId, server_id: ServerId, sender: str) -> tuple[Signer, ...]:
        """Who signs this server's mail from `sender`, an address for comparing; nobody: empty.

        Raises CannotSign, Unavailable.
        """
        domain = sender.rpartition("@")[2]
        if self._clock.steady_s() - self._looked_s >= _LOOK_S:
            await self._look()
        known = self._known.get((account_id, server_id, domain))
        if known is not None:
            return known
        if (account_id, domain) in self._unsigned:
            return ()
        changes, labels = self._changes, domain.split(".")
        domains = [".".join(labels[at:]) for at in range(len(labels))]
        if not await self._store.read(lambda: dkim_keys.any_of(account_id, domains)):
            if len(self._unsigned) >= _MOST_KNOWN:
                self._unsigned.clear()
            if changes == self._changes:
                self._unsigned.add((account_id, domain))
            return ()
        found = await self._store.read(lambda: dkim_keys.that_sign(account_id, server_id, domains))
        signers = tuple(self._signer(one) for one in _chosen(found))
        if len(self._known) >= _MOST_KNOWN:
            self._known.clear()
        if changes == self._changes:  # else what was read may be from before
            self._known[account_id, server_id, domain] = signers
        return signers

    async def _look(self) -> None:
        """Has anything changed since the last look?"""
        self._looked_s = self._clock.steady_s()  # who comes meanwhile goes on with what is known
        generation = await self._store.read(lambda: generations.read(generations.SIGNING))
        if generation != self._generation:
            self._generation = generation
            self.forget()

    def _signer(self, one: SealedKey) -> Signer:
        place = (one.key.key_id, one.uid)
        signer = self._opened.get(place)
        if signer is not None:
            return signer
        key = one.key
        try:
            data = unseal(self._ring, one.sealed, uid=one.uid, table=dkim_keys.TABLE, field=dkim_keys.FIELD)
            signer = Signer(key.domain, key.selector, key.algorithm, from_stored(data))
        except (KeyringError, ValueError) as error:
            raise CannotSign(
                f"the DKIM key {key.selector} of {key.domain} cannot be used: {error}"
            ) from error
        if len(self._opened) >= _MOST_KNOWN:
            self._opened.clear()
            self._current.clear()
        self._opened[place] = self._current[id(signer)] = signer
        return signer

    async def fields(
        self, message: bytes, signers: Sequence[Signer], at_us: int, rewritten: frozenset[str]
    ) -> bytes:
        """The signatures to go on top of `message`."""
        if len(message) <= _INLINE_BYTES:
            found = unsigned(message, signers, at_us=at_us, rewritten=rewritten)
        else:
            found = await self._makers.beside(
                lambda: unsigned(message, signers, at_us=at_us, rewritten=rewritten)
            )
        made = []
        for one in found:  # keys may have changed since this mail asked for them
            current = self._current.get(id(one.signer)) is one.signer
            made.append(one.signed(await self._makers.signature(one, current=current)))
        return b"".join(made)

    async def close(self) -> None:
        """End what signs; nobody waits for it any more."""
        await self._makers.close()


def _chosen(found: Sequence[SealedKey]) -> list[SealedKey]:
    """Of each kind one, RSA first: of the nearest domain, and there the narrowest owner's newest."""

    def rank(one: SealedKey) -> tuple[int, int, int]:
        key = one.key
        owner = 2 if key.server_id is not None else 1 if key.account_id else 0
        return len(key.domain), owner, key.key_id

    chosen = []
    for algorithm in Algorithm:
        ranked = sorted((one for one in found if one.key.algorithm is algorithm), key=rank)
        chosen += ranked[-1:]
    return chosen
