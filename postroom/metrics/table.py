"""Every metric of ours, once: name, type, labels, meaning. A test holds docs/metrics.md to the same table.

Label values are words from closed lists and ids of connections, the first `MOST_CONNECTIONS` of them; what
comes after is added up under `other`. Never an address, a subject, a host name or anything of a key.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Across = Literal["sum", "most", "least", "one"]
MOST_CONNECTIONS = 500
OTHER = "other"


@dataclass(frozen=True)
class Metric:
    """One family of series. A counter's name ends in _total, as it is exposed.

    across: what several processes of one data folder tell becomes its sum, the most or the least of it; one:
    it is no process's own, and whoever answers tells it.
    """

    name: str
    type: Literal["counter", "gauge", "histogram"]
    labels: tuple[str, ...]
    meaning: str
    across: Across = "sum"


METRICS: tuple[Metric, ...] = (
    Metric(
        "postroom_accepted_total",
        "counter",
        ("origin", "purpose"),
        "Messages accepted, by way in and purpose.",
    ),
    Metric(
        "postroom_accepted_deliveries_total",
        "counter",
        ("origin", "purpose"),
        "Recipients of those messages; each is one delivery.",
    ),
    Metric(
        "postroom_attempts_total",
        "counter",
        ("outcome", "connection"),
        "Attempts recorded: sent, deferred, bounced, returned, unknown, held.",
    ),
    Metric(
        "postroom_signed_total",
        "counter",
        ("algorithm",),
        "DKIM signatures of ours on the attempts recorded: rsa, ed25519.",
    ),
    Metric(
        "postroom_sent_after_seconds",
        "histogram",
        ("purpose",),
        "From the accept of a message to the record that one copy of it was sent.",
    ),
    Metric(
        "postroom_queue_depth",
        "gauge",
        ("purpose",),
        "Deliveries that wait, due or not.",
        across="one",
    ),
    Metric(
        "postroom_queue_due",
        "gauge",
        ("purpose",),
        "Of these, deliveries that could go now.",
        across="one",
    ),
    Metric(
        "postroom_queue_oldest_seconds",
        "gauge",
        ("purpose",),
        "How long the delivery that waits longest has been due; 0: none is.",
        across="one",
    ),
    Metric(
        "postroom_lanes_waiting",
        "gauge",
        (),
        "Lanes with something due that no connection may send now.",
        across="most",
    ),
    Metric(
        "postroom_connection_usable",
        "gauge",
        ("connection",),
        "1: no kind of off stands against it; else 0.",
        across="least",
    ),
    Metric(
        "postroom_connection_off",
        "gauge",
        ("connection", "kind"),
        "1: it is off in this way: switched_off, failed, disabled, held, backing_off, paused.",
        across="most",
    ),
    Metric(
        "postroom_cap_room",
        "gauge",
        ("connection", "window"),
        "Sends the cap still permits in this hour or day; no series where there is no cap.",
        across="one",
    ),
    Metric(
        "postroom_cap_limit",
        "gauge",
        ("connection", "window"),
        "The cap itself; window is hour or day.",
        across="most",
    ),
    Metric(
        "postroom_sessions", "gauge", ("connection", "state"), "Sessions to the peer: busy, idle, opening."
    ),
    Metric("postroom_unsettled_attempts", "gauge", (), "Attempts claimed whose outcome is not recorded yet."),
    Metric(
        "postroom_lease_held",
        "gauge",
        (),
        "1: this process may send; 0: it stopped, or lost its lease to another.",
        across="least",
    ),
    Metric(
        "postroom_worker_epoch",
        "gauge",
        (),
        "Number of this worker's life; it grows with each start.",
        across="most",
    ),
    Metric("postroom_journal_bytes", "gauge", (), "Size of the outcome journal."),
    Metric(
        "postroom_grants_pause_seconds",
        "gauge",
        (),
        "For how long nothing goes out under caps, because the clock was set forward.",
        across="most",
    ),
    Metric(
        "postroom_paused",
        "gauge",
        ("scope",),
        "Pauses in force: all, server, connection.",
        across="one",
    ),
    Metric(
        "postroom_event_loop_lag_seconds",
        "gauge",
        (),
        "The longest a timer was late within the last minute.",
        across="most",
    ),
    Metric(
        "postroom_dial_refused_total",
        "counter",
        ("reason",),
        "Dial-outs refused by the rules: host, port, ourselves, loopback, private, never.",
    ),
    Metric(
        "postroom_statements_total",
        "counter",
        (),
        "Statements the database was given, one for many units, and what goes together, counted once;"
        " on SQLite the writer's.",
    ),
    Metric("postroom_commits_total", "counter", (), "Commits of the database."),
    Metric("postroom_failed_commits_total", "counter", (), "Commits that failed; their callers were told."),
    Metric("postroom_commit_units_total", "counter", (), "Units of work in those commits."),
    Metric(
        "postroom_commit_seconds", "histogram", (), "How long a commit took, with the units of work in it."
    ),
    Metric("postroom_write_queue_units", "gauge", (), "Units of work that wait for the database's writer."),
    Metric("postroom_write_queue_bytes", "gauge", (), "Bytes they carry."),
    Metric(
        "postroom_database_readable",
        "gauge",
        (),
        "0: the database could not be asked, so figures of queue, room and pauses are missing.",
        across="one",
    ),
    Metric(
        "postroom_http_requests_total",
        "counter",
        ("dialect", "code"),
        "Answers over HTTP by dialect (operations: /metrics, /healthz and the like) and status code.",
    ),
    Metric("postroom_smtp_sessions", "gauge", ("listener",), "Clients connected to our SMTP listeners."),
    Metric(
        "postroom_hits_total",
        "counter",
        ("kind", "by"),
        "Tracked opens and clicks; by a person, or why by a machine: head, prefetch, agent, burst.",
    ),
    Metric(
        "postroom_hits_dropped_total", "counter", (), "Of these, not stored: too many waited to be written."
    ),
    Metric("postroom_notices_total", "counter", ("kind",), "Notices to the operator, by kind."),
    Metric(
        "postroom_troubles",
        "gauge",
        ("kind",),
        "Troubles that last, of which notice was given.",
        across="most",
    ),
    Metric(
        "postroom_disk_free_bytes",
        "gauge",
        (),
        "Room on the disk of the data folder.",
        across="one",
    ),
    Metric("postroom_processes", "gauge", (), "Processes of this data folder that tell what they do."),
    Metric(
        "postroom_processes_silent",
        "gauge",
        (),
        "Processes that did not answer in time; their counters are as they told last.",
        across="one",
    ),
    Metric(
        "postroom_build_info",
        "gauge",
        ("version", "python"),
        "Always 1; its labels say what runs.",
        across="most",
    ),
)
OF_NAME = {one.name: one for one in METRICS}
