"""Control: one table of operations, run in `serve` by its Unix socket or by a command that holds the lock."""
