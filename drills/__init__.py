"""Drills: the whole of Postroom under kills, dropped replies and full caps, judged by the sink's log.

`python -m drills` runs them all (minutes), `python -m drills kill` one of them; `make drill` is the same.
Small twins of each are in `make test`. docs/drills.md says what each proves and how to read the numbers.
"""
