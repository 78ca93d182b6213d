"""Postmark's API (api.postmarkapp.com), at the paths it has there and below `/postmark`.

Spoken: servers, message streams, suppressions, templates, sending, looking at messages. Its other paths are
this dialect's too and answer 404 until they are built. Routes, query keys and
the names in bodies are read without regard to case.
docs/postmark.md says what the product leaves open, and what was chosen.
"""

from postroom.dialects.postmark.routes import PATHS, PREFIX, postmark_app

__all__ = ["PATHS", "PREFIX", "postmark_app"]
