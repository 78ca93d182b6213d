"""Signed references that travel in mail and come back: unsubscribe links now, clicks and opens later."""
