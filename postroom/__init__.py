"""Postroom: a self-hosted post room for outgoing email."""

__version__ = "0.1.0"
