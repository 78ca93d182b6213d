"""Backup and restore of an installation on SQLite: one consistent copy, a manifest, and the way back.

A backup is a folder, or one .tar of the same files:

    manifest.json   what it is: versions, instance, time, sizes and SHA-256 of the others, keys it needs
    postroom.db     the database as it was at one moment
    keys.ring       the key file, only where it was asked for

Outcome journals are never part of it: they tell what happened after that moment, to another database.
"""
