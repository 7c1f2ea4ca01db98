"""Every metric, a row each: what it is called, what it says, and where its value is read.

Nothing is counted for these at a scrape, and nothing is read on the hot path: they are plain
numbers that their owners keep.
"""

from __future__ import annotations

import platform

from telecast import __version__, logs
from telecast.consumers.consumer import Standing
from telecast.net.admission import WHY
from telecast.supervision.sums import Join
from telecast.watch import process
from telecast.web.api.metric import Metric, Samples, by, by_transport, one, times
from telecast.web.parts import Parts


def _delivered(parts: Parts) -> Samples:
    delivered = parts.broadcaster.tally.delivered
    return [({"channel": c, "transport": t}, count) for (c, t), count in delivered.items()]


def _left(parts: Parts) -> Samples:
    return [({"transport": t, "reason": r}, count) for (t, r), count in parts.clients.left.items()]


def _last_events(parts: Parts) -> Samples:
    lasts = ((name, log.last) for name, log in parts.tape.logs.items())
    return [({"channel": name}, last.timestamp / 1000) for name, last in lasts if last is not None]


def _log_sequence(parts: Parts) -> Samples:
    place = parts.journal.place()
    return [] if place is None else [({}, place.sequence)]


def _log_behind(parts: Parts) -> Samples:
    place = parts.journal.place()
    return [] if place is None else [({}, place.behind)]


METRICS = (
    # streams and connections
    Metric(
        "gauge",
        "telecast_connections",
        "Open streams.",
        by_transport(lambda parts: parts.clients.connections()),
    ),
    Metric(
        "counter",
        "telecast_connections_opened_total",
        "Streams opened.",
        by_transport(lambda parts: parts.clients.opened),
    ),
    Metric(
        "counter",
        "telecast_connections_closed_total",
        "Streams that are over, by the error code for which the service ended them; CLIENT: the "
        "client left.",
        _left,
    ),
    Metric(
        "counter",
        "telecast_connections_refused_total",
        "Streams refused at admission, by error code.",
        by("code", lambda parts: parts.clients.refused),
    ),
    Metric(
        "gauge",
        "telecast_sockets",
        "Open connections, including those that have not sent a request.",
        one(lambda parts: len(parts.admission)),
    ),
    Metric(
        "counter",
        "telecast_sockets_closed_total",
        "Connections, other than streams, closed by the service, by reason.",
        by("reason", lambda parts: {why: parts.admission.closed[why] for why in WHY}),
    ),
    Metric(
        "gauge",
        "telecast_request_bytes",
        "Bytes held by requests: bodies that are being received, answers that are being read.",
        by("what", lambda parts: {"bodies": len(parts.bodies), "answers": len(parts.answers)}),
    ),
    Metric(
        "counter",
        "telecast_request_bytes_refused_total",
        "Bodies and answers refused because too many bytes were held already.",
        by(
            "what",
            lambda parts: {"bodies": parts.bodies.refused, "answers": parts.answers.refused},
        ),
    ),
    Metric(
        "counter",
        "telecast_wrong_keys_total",
        "Wrong keys presented, by the error code of the answer.",
        by("code", lambda parts: parts.guesses.answered),
    ),
    Metric(
        "gauge",
        "telecast_keys_file_usable",
        "1 while the keys file can be read and is right; 0 while older keys stay in force.",
        one(lambda parts: float(parts.keys.trouble is None)),
        Join.LEAST,
    ),
    Metric(
        "counter",
        "telecast_evictions_total",
        "Streams that the service ended, by error code.",
        by("code", lambda parts: parts.broadcaster.tally.evicted),
    ),
    Metric(
        "counter",
        "telecast_frames_refused_total",
        "WebSockets ended because of a frame, by reason.",
        by("reason", lambda parts: parts.frames_refused),
    ),
    Metric(
        "gauge",
        "telecast_subscriptions",
        "Streams that are subscribed to a channel.",
        lambda parts: [
            ({"channel": name}, parts.broadcaster.subscriber_count(name))
            for name in parts.catalogue
        ],
    ),
    Metric(
        "counter",
        "telecast_stream_starts_total",
        "What streams, and channels added to one, began with: RESUMED, or why it was a snapshot.",
        by("outcome", lambda parts: parts.broadcaster.tally.starts),
    ),
    # publishing
    Metric(
        "counter",
        "telecast_events_published_total",
        "Events committed through this node.",
        by("channel", lambda parts: parts.ingress.tally.published),
    ),
    Metric(
        "counter",
        "telecast_publishes_refused_total",
        "Publishes refused after validation, by error code.",
        by("code", lambda parts: parts.ingress.tally.refused),
    ),
    Metric(
        "counter",
        "telecast_publishes_duplicate_total",
        "Publishes answered from an idempotency key.",
        one(lambda parts: parts.ingress.tally.duplicates),
    ),
    Metric(
        "gauge",
        "telecast_publish_backlog_events",
        "Events that wait to be committed.",
        one(lambda parts: parts.ingress.backlog[0]),
    ),
    Metric(
        "histogram",
        "telecast_publish_commit_seconds",
        "From a publish's check to where its events are committed and in the fan-out.",
        times(lambda parts: parts.ingress.tally.commit),
    ),
    # delivery
    Metric(
        "counter",
        "telecast_events_delivered_total",
        "Events written to live streams.",
        _delivered,
    ),
    Metric(
        "counter",
        "telecast_events_backfilled_total",
        "Events and rows written to streams that were behind.",
        by_transport(lambda parts: parts.broadcaster.tally.backfilled),
    ),
    Metric(
        "counter",
        "telecast_events_conflated_total",
        "Events that slow or rate-limited streams did not get, because a newer one replaced them.",
        by_transport(lambda parts: parts.broadcaster.tally.conflated),
    ),
    Metric(
        "counter",
        "telecast_sent_bytes_total",
        "Bytes of events and rows.",
        by_transport(lambda parts: parts.broadcaster.tally.bytes),
    ),
    Metric(
        "counter",
        "telecast_stalls_total",
        "Times that a stream's buffer was full.",
        one(lambda parts: parts.broadcaster.tally.stalls),
    ),
    Metric(
        "counter",
        "telecast_batches_spilled_total",
        "Batches of streams with maxRate that were too large to keep, and were read when due.",
        one(lambda parts: parts.broadcaster.tally.spilled),
    ),
    Metric(
        "histogram",
        "telecast_flush_seconds",
        "How long a round of flushes took, in which all pending events are written.",
        times(lambda parts: parts.broadcaster.tally.flush),
    ),
    Metric(
        "histogram",
        "telecast_commit_write_seconds",
        "From a commit to the end of the round that wrote it, for the oldest event of each round.",
        times(lambda parts: parts.broadcaster.tally.write),
    ),
    # alerts
    Metric(
        "counter",
        "telecast_alerts_escalated_total",
        "Critical alerts that nobody acknowledged in time.",
        by("channel", lambda parts: {each.channel.name: each.escalated for each in parts.alerts}),
    ),
    Metric(
        "counter",
        "telecast_webhook_total",
        "Escalated alerts that were sent to the web hook, by what came of it; `retried` counts "
        "tries.",
        by(
            "outcome",
            lambda parts: {
                each: parts.webhook.outcomes[each]
                for each in ("delivered", "failed", "dropped", "retried")
            },
        ),
    ),
    Metric(
        "gauge",
        "telecast_webhook_waiting",
        "Escalated alerts that wait to be sent to the web hook.",
        one(lambda parts: len(parts.webhook)),
    ),
    Metric(
        "gauge",
        "telecast_alerts_unacknowledged",
        "Critical alerts that nobody has acknowledged and that are not escalated yet.",
        by(
            "channel",
            lambda parts: {each.channel.name: each.unacknowledged for each in parts.alerts},
        ),
        Join.MOST,
    ),
    Metric(
        "gauge",
        "telecast_consumers",
        "Named clients whose acknowledged position is kept.",
        one(lambda parts: len(parts.consumers)),
        Join.MOST,
    ),
    Metric(
        "gauge",
        "telecast_consumers_at_risk",
        "Consumers that retention is near to, or has overtaken.",
        by(
            "standing",
            lambda parts: {
                str(each): parts.consumers.count(each)
                for each in (Standing.NEAR, Standing.OVERTAKEN)
            },
        ),
        Join.MOST,
    ),
    Metric(
        "gauge",
        "telecast_consumer_lag_events_max",
        "Events, of all channels, that the consumer furthest behind has not acknowledged.",
        one(lambda parts: parts.consumers.most_behind()),
        Join.MOST,
    ),
    Metric(
        "counter",
        "telecast_acknowledgements_total",
        "Acknowledgements of deliveries, by outcome: committed, or an error code.",
        by("outcome", lambda parts: parts.consumers.answered),
    ),
    # what is kept
    Metric(
        "gauge",
        "telecast_head_seq",
        "The seq of the newest event in the fan-out.",
        one(lambda parts: parts.tape.head),
        Join.MOST,
    ),
    Metric(
        "gauge",
        "telecast_tape_events",
        "Events in memory.",
        by("channel", lambda parts: {name: len(log) for name, log in parts.tape.logs.items()}),
    ),
    Metric(
        "gauge",
        "telecast_rows",
        "Current rows.",
        by(
            "channel",
            lambda parts: {name: len(log.rows) for name, log in parts.tape.logs.items()},
        ),
        Join.MOST,
    ),
    Metric(
        "gauge",
        "telecast_channel_last_event_timestamp_seconds",
        "When the newest event of a channel was committed, in seconds since 1970.",
        _last_events,
        Join.MOST,
    ),
    Metric(
        "gauge",
        "telecast_channel_stale",
        "1 while a channel is stale: no commit, and no sign of life of a publisher, for too long.",
        lambda parts: [
            ({"channel": name}, float(name in parts.staleness.stale))
            for name in parts.staleness.watched
        ],
        Join.LEAST,
    ),
    Metric(
        "gauge",
        "telecast_publisher_last_publish_timestamp_seconds",
        "When each key last published, in seconds since 1970; the last 1,000 keys.",
        by("key_id", lambda parts: parts.ingress.tally.last),
        Join.MOST,
    ),
    Metric(
        "gauge",
        "telecast_journal_file_bytes",
        "Size of the journal's file; 0 in memory.",
        one(lambda parts: parts.journal.figures().file_bytes),
    ),
    Metric(
        "gauge",
        "telecast_journal_log_bytes",
        "Size of the journal's log (-wal), which grows while another program reads for long.",
        one(lambda parts: parts.journal.figures().log_bytes),
    ),
    Metric(
        "gauge",
        "telecast_journal_idempotency_keys",
        "Idempotency keys that the journal remembers.",
        one(lambda parts: parts.journal.figures().idempotency_keys),
        Join.MOST,
    ),
    Metric(
        "counter",
        "telecast_clock_jumps_total",
        "Steps of the system's clock that deletion by age has waited out.",
        one(lambda parts: parts.journal.figures().clock_jumps),
    ),
    # the process
    Metric(
        "histogram",
        "telecast_event_loop_lag_seconds",
        "How late the event loop wakes a timer, ten times a second.",
        times(lambda parts: parts.lag.histogram),
    ),
    Metric(
        "counter",
        "telecast_log_lines_dropped_total",
        "Log lines that were dropped because their reader had stopped.",
        one(lambda parts: logs.dropped()),
    ),
    Metric(
        "gauge",
        "telecast_workers",
        "Processes that serve and answered when they were asked for these figures.",
        one(lambda parts: 1),
    ),
    Metric(
        "counter",
        "telecast_worker_restarts_total",
        "Workers that ended although nobody asked them to, and were restarted.",
        one(lambda parts: 0),  # the parent counts them
    ),
    Metric(
        "counter",
        "telecast_worker_hangs_total",
        "Workers that gave no sign of life, and were killed and restarted.",
        one(lambda parts: 0),  # as above
    ),
    Metric(
        "gauge",
        "telecast_workers_unanswered",
        "Workers that did not answer when they were asked for these figures: their counters are "
        "those of before, their gauges are missing.",
        one(lambda parts: 0),  # as above
    ),
    Metric(
        "gauge",
        "telecast_ready",
        "1 while new work is welcome.",
        one(lambda parts: float(parts.ready)),
        Join.LEAST,
    ),
    Metric(
        "gauge",
        "telecast_nodes",
        "Nodes of the journal that said within a minute that they are there, this one included.",
        one(lambda parts: 1 + len(parts.journal.peers.others())),
        Join.MOST,
    ),
    Metric(
        "gauge",
        "telecast_nodes_gone",
        "Nodes of the journal that went without a goodbye within a day, and were not forgotten.",
        one(lambda parts: len(parts.members.gone())),
        Join.MOST,
    ),
    Metric(
        "counter",
        "telecast_node_questions_refused_total",
        "What other nodes asked or said and this one left out: too many questions were under way.",
        one(lambda parts: parts.journal.peers.refused),
    ),
    Metric(
        "gauge",
        "telecast_log_sequence",
        "The last message of the shared log that this node has applied.",
        _log_sequence,
        Join.MOST,
    ),
    Metric(
        "gauge",
        "telecast_log_behind_messages",
        "Messages of the shared log that this node is known to lack still.",
        _log_behind,
        Join.MOST,
    ),
    Metric(
        "gauge",
        "telecast_build_info",
        "Always 1; the labels name the version of the service and of Python.",
        lambda parts: [({"version": __version__, "python": platform.python_version()}, 1)],
        Join.MOST,
    ),
    Metric(
        "gauge",
        "process_start_time_seconds",
        "Seconds since 1970.",
        one(lambda parts: parts.started_at),
        Join.EACH,
    ),
    Metric(
        "counter",
        "process_cpu_seconds_total",
        "User and system time.",
        one(lambda parts: process.cpu_seconds()),
    ),
    Metric(
        "gauge",
        "process_resident_memory_bytes",
        "Resident memory.",
        one(lambda parts: process.resident_bytes()),
        Join.EACH,
    ),
    Metric(
        "gauge",
        "process_virtual_memory_bytes",
        "Virtual memory.",
        one(lambda parts: process.virtual_bytes()),
        Join.EACH,
    ),
    Metric(
        "gauge",
        "process_open_fds",
        "Open file descriptors.",
        one(lambda parts: process.open_files()),
        Join.EACH,
    ),
    Metric(
        "gauge",
        "process_max_fds",
        "File descriptors that may be open.",
        one(lambda parts: process.most_files()),
        Join.EACH,
    ),
)
