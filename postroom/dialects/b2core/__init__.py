"""B2CORE's mail providers (Back Office REST API, SMTP service providers), at `/api/v2/mail/providers`.

Spoken: list, show, create, update, delete and status. Left out: everything else of that API; its paths
answer 404. A provider is a connection of ours: a server key sees and makes its server's, an account key
those the account shares. docs/b2core.md says what the product leaves open, and what was chosen.
"""

from postroom.dialects.b2core.routes import PATHS, PREFIX, b2core_app

__all__ = ["PATHS", "PREFIX", "b2core_app"]
