"""What the outcome of an attempt says about the refusal in it: its class, and the bounce it makes."""

from __future__ import annotations

from postroom.core.bounce import BounceKind, kind_of
from postroom.ids import AccountId, DeliveryId
from postroom.mail import bounce
from postroom.storage.bounces import Bounced
from postroom.transports.interface import Outcome, Result


def classify(outcome: Outcome) -> bounce.Verdict:
    """The class of a refusal."""
    code = 0 if _is_http(outcome) else outcome.code
    enhanced = outcome.enhanced or ("5.0.0" if code != outcome.code else "")
    return bounce.classify(code, enhanced, outcome.text, outcome.phase.value)


def bounced(account_id: AccountId, delivery_id: DeliveryId, outcome: Outcome) -> Bounced:
    """A delivery that ended with this outcome, refused for good or given up after it."""
    if outcome.code:
        kind = kind_of(classify(outcome), outcome.text)
    else:
        kind = BounceKind.UNCLEAR if outcome.result is Result.BOUNCED else BounceKind.DELAYED
    text, code, enhanced = outcome.text, outcome.code, outcome.enhanced
    return Bounced(account_id, delivery_id, kind, text, code, enhanced, http=_is_http(outcome))


def _is_http(outcome: Outcome) -> bool:
    """An API refuses for good with an HTTP status of 4xx, which in SMTP would mean: for now."""
    return outcome.result is Result.BOUNCED and 0 < outcome.code < 500
