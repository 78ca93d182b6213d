"""Vendors' own APIs, one module each: requests and what the replies mean."""
