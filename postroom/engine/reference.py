"""Our own name of a delivery, which a vendor keeps with the message and can be asked for.

The same at every attempt, so that evidence of any copy is evidence of the delivery. It is made of the
Message-ID, which holds a random part, so another installation on the same vendor account cannot have it.
"""

from __future__ import annotations

from hashlib import blake2b

from postroom.ids import DeliveryId


def reference_of(rfc_message_id: str, delivery_id: DeliveryId) -> str:
    """32 letters and digits."""
    return blake2b(f"{delivery_id} {rfc_message_id}".encode(), digest_size=16).hexdigest()
