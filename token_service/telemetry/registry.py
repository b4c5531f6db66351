"""The registry: every metric of a node.

The instruments, the page, docs/metrics.md and the dashboards are made from these rows. A name that is released never
changes. `tests/unit/telemetry/test_registry.py` and `tests/integration/test_metrics.py` compare the rows with what a
node reports.
"""

from __future__ import annotations

from typing import Final

from token_service.telemetry.metric import Combine, Kind, Metric

_EVENT: Final = "token_service.event"
_REASON: Final = "token_service.reason"
_TARGET: Final = "token_service.target"
_OUTCOME: Final = "token_service.outcome"
_OPERATION: Final = "token_service.operation"
_TRANSMITTER: Final = "token_service.transmitter"
_BUCKET: Final = "token_service.bucket"
_ALGORITHM: Final = "token_service.algorithm"
CLIENT: Final = "token_service.client_id"
OTHER: Final = "other"
"""The client of counts that have no client of their own."""

_RATED: Final = {_OPERATION: "the operations with rates", _BUCKET: "subject, address, client, caller"}

# --- Calls ------------------------------------------------------------------------------------------------------------

CALL_DURATION: Final = Metric(
    name="rpc.server.call.duration",
    kind=Kind.HISTOGRAM,
    unit="s",
    text="Duration of gRPC calls. Streams are not calls here.",
    labels={"rpc.method": "the methods", "rpc.response.status_code": "the status codes of gRPC"},
    constant={"rpc.system.name": "grpc"},
    alert="any INTERNAL; UNAVAILABLE that goes on",
    needs="a call",
)
REQUEST_DURATION: Final = Metric(
    name="http.server.request.duration",
    kind=Kind.HISTOGRAM,
    unit="s",
    text="Duration of HTTP requests.",
    labels={
        "http.route": "the routes",
        "http.request.method": "the methods of the routes",
        "http.response.status_code": "the status codes of HTTP",
    },
    alert="any 500",
    needs="a request",
)
REFUSALS: Final = Metric(
    name="token_service.refusals",
    kind=Kind.COUNTER,
    unit="{call}",
    text="Calls and requests that ended with an error.",
    labels={"token_service.edge": "grpc, http", _REASON: "the names of ErrorReason"},
    alert="any INTERNAL; more PERMISSION_DENIED or CALLER_UNAUTHENTICATED than usual: a wrong configuration or an attack",
    needs="a refused call",
    zeros=(("grpc", "INTERNAL"), ("http", "INTERNAL")),
)
VALIDATIONS: Final = Metric(
    name="token_service.validations",
    kind=Kind.COUNTER,
    unit="{token}",
    text="Tokens that this service judged for ValidateToken and BatchValidateTokens.",
    labels={"token_service.verdict": "VALID, and the names of InvalidReason"},
    alert="more BAD_SIGNATURE than usual: forged tokens",
    needs="a validation",
    zeros=(("BAD_SIGNATURE",),),
)
STREAMS: Final = Metric(
    name="token_service.streams",
    kind=Kind.GAUGE,
    unit="{stream}",
    text="Open revocation streams.",
    alert="a sudden drop",
)
EVENT_READERS: Final = Metric(
    name="token_service.event_readers",
    kind=Kind.GAUGE,
    unit="{stream}",
    text="Open streams of events.",
    alert="a sudden drop: readers of events are away",
)
EVENT_LOG_WAITING: Final = Metric(
    name="token_service.event_log.waiting",
    kind=Kind.GAUGE,
    unit="s",
    text="Age of the oldest event that is not in the event log yet; 0: all are.",
    combine=Combine.MAX,
    alert="more than a minute: no node moves events into the log, and no reader gets them",
)
TLS_FAILURES: Final = Metric(
    name="token_service.tls.handshake_failures",
    kind=Kind.COUNTER,
    unit="{handshake}",
    text="TLS handshakes that failed on the HTTP address. gRPC does not report those of its addresses.",
    labels={_REASON: "certificate, protocol, timeout, disconnected"},
    alert="growth: a client with a wrong certificate, or a scanner",
    needs="HTTP_TLS and a failed handshake",
    zeros=(("certificate",), ("protocol",), ("timeout",), ("disconnected",)),
)
CERTIFICATE_EXPIRY: Final = Metric(
    name="token_service.certificate.expiry",
    kind=Kind.GAUGE,
    unit="s",
    text="Time until the first certificate of a TLS file expires; negative: it has expired.",
    labels={"token_service.certificate": "server, client_authority"},
    combine=Combine.MIN,
    alert="less than 30 days; less than 7 days",
    needs="TLS",
)

# --- Redis ------------------------------------------------------------------------------------------------------------

REDIS_IN_USE: Final = Metric(
    name="token_service.redis.in_use",
    kind=Kind.GAUGE,
    unit="{server}",
    text="1: the process uses this server; 0: it does without Redis for now.",
    labels={
        "token_service.redis.use": "revocations, rates",
        "server.address": "the servers; empty: none is known",
    },
    combine=Combine.MIN,
    alert="0 for minutes: revocations travel by the database alone, and each process counts rates by itself",
    needs="REDIS_URL",
)

# --- Tokens -----------------------------------------------------------------------------------------------------------

EVENTS: Final = Metric(
    name="token_service.events",
    kind=Kind.COUNTER,
    unit="{event}",
    text="Events of the audit trail.",
    labels={_EVENT: "the actions of the audit trail"},
    alert="more `refresh_token.reused` than usual: stolen tokens, or clients that lose answers",
    needs="an event",
    zeros=(("refresh_token.reused",),),
)
TOKENS: Final = Metric(
    name="token_service.tokens",
    kind=Kind.COUNTER,
    unit="{token}",
    text="Tokens issued, refreshed and exchanged. A refresh counts as one access token.",
    labels={
        _EVENT: "issued, refreshed, exchanged",
        "token_service.token_type": "the types of tokens",
        "token_service.grant": "direct (IssueToken), and the grant types of OAuth",
        CLIENT: f"the busiest clients of each worker (METRICS_TOP_CLIENTS), and `{OTHER}`",
    },
    alert="a sudden drop; one client that grows alone",
    needs="an issued token",
)
RATE_LIMITED: Final = Metric(
    name="token_service.rate_limited",
    kind=Kind.COUNTER,
    unit="{call}",
    text="Calls that a rate of the policy refused.",
    labels=_RATED,
    alert="growth: an attack, a client in a loop, or a rate that is too small",
    needs="a refused call",
)
RATE_ADMITTED: Final = Metric(
    name="token_service.rate_admitted",
    kind=Kind.COUNTER,
    unit="{call}",
    text="Calls that a rate of the policy counted and admitted.",
    labels=_RATED,
    needs="a rate in the policy",
)

# --- Keys -------------------------------------------------------------------------------------------------------------

KEY_AGE: Final = Metric(
    name="token_service.key.age",
    kind=Kind.GAUGE,
    unit="s",
    text="Age of the oldest signing key in each state.",
    labels={"token_service.key_state": "prepared, active, retired, revoked", _ALGORITHM: "the algorithms"},
    combine=Combine.MAX,
    alert="`active` above KEY_ROTATION_PERIOD: the rotation does not work",
)
KEY_NEXT_ROTATION: Final = Metric(
    name="token_service.key.next_rotation",
    kind=Kind.GAUGE,
    unit="s",
    text="Time until the signing key is due to be replaced; negative: overdue.",
    combine=Combine.MIN,
    alert="below -1 hour",
)
KEY_STEPS: Final = Metric(
    name="token_service.key.rotations",
    kind=Kind.COUNTER,
    unit="{step}",
    text="Steps of the key schedule at this node.",
    labels={
        _OUTCOME: "prepared, activated, retired, forgotten, mac_prepared, conflict (another node was first), failed"
    },
    alert="any `failed`",
    needs="a step of the schedule",
    zeros=(("failed",),),
)
SIGNATURE_DURATION: Final = Metric(
    name="token_service.signature.duration",
    kind=Kind.HISTOGRAM,
    unit="s",
    text="Duration of signatures, with the wait for a thread or for the HSM.",
    labels={
        _ALGORITHM: "the algorithms",
        "token_service.provider": "local, pkcs11",
        _OUTCOME: "ok, failed",
    },
    alert="any `failed`; a p99 above 50 ms",
    needs="a signature",
)

# --- Revocations and subscribers --------------------------------------------------------------------------------------

REPLICA_STALENESS: Final = Metric(
    name="token_service.replica.staleness",
    kind=Kind.GAUGE,
    unit="s",
    text="Time since this process last knew the head of the revocation log.",
    combine=Combine.MAX,
    alert="near REPLICA_MAX_AGE",
)
LOG_HEAD: Final = Metric(
    name="token_service.log.head",
    kind=Kind.GAUGE,
    unit="{entry}",
    text="The sequence of the revocation log that this process has applied.",
    combine=Combine.MAX,
    alert="two nodes that stay apart",
)
REVOCATIONS: Final = Metric(
    name="token_service.revocations",
    kind=Kind.GAUGE,
    unit="{entry}",
    text="Revocations kept because a token they revoke could otherwise still be valid.",
    labels={_TARGET: "the names of RevocationTarget"},
    combine=Combine.MAX,
    alert="growth without end",
)
REVOKED: Final = Metric(
    name="token_service.revoked",
    kind=Kind.COUNTER,
    unit="{entry}",
    text="Revocations made at this node.",
    labels={_TARGET: "the names of RevocationTarget", _REASON: "the names of RevocationReason"},
    alert="any `everything`",
    needs="a revocation",
)
AUTOMATIC_REVOCATIONS: Final = Metric(
    name="token_service.automatic_revocations",
    kind=Kind.COUNTER,
    unit="{revocation}",
    text="Revocations by a rule of `[automatic_revocation]`.",
    labels={"token_service.cause": "age, inactivity, classification, threshold"},
    alert="more than usual: a rule is too strict, or an attack",
    needs="a rule that revoked",
    zeros=(("age",), ("inactivity",), ("classification",), ("threshold",)),
)
PROPAGATION: Final = Metric(
    name="token_service.revocation.propagation",
    kind=Kind.HISTOGRAM,
    unit="s",
    text="Time from an acknowledged revocation until every subscriber of every node confirmed it. Only calls that wait.",
    labels={_OUTCOME: "confirmed, timeout"},
    alert="a p99 above 1 s; any `timeout`",
    needs="a revocation with a wait",
    zeros=(("confirmed",), ("timeout",)),
)
SUBSCRIBER_LAG: Final = Metric(
    name="token_service.subscriber.confirmation",
    kind=Kind.HISTOGRAM,
    unit="s",
    text="Time from an entry's arrival at a node until all subscribers connected there had confirmed it. "
    "Without a wait, subscribers confirm with their next proof of freshness.",
    alert="a p99 above the freshness bound of the validators",
    needs="a revocation and a subscriber",
)
SUBSCRIBERS: Final = Metric(
    name="token_service.subscribers",
    kind=Kind.GAUGE,
    unit="{subscriber}",
    text="Connected subscribers.",
    alert="a sudden drop",
)
SUBSCRIBERS_BEHIND: Final = Metric(
    name="token_service.subscribers.behind",
    kind=Kind.GAUGE,
    unit="{subscriber}",
    text="Connected subscribers that have not confirmed an entry which is older than 10 seconds.",
    alert="above 0 for minutes",
)
SUBSCRIBERS_SILENT: Final = Metric(
    name="token_service.subscribers.silent",
    kind=Kind.GAUGE,
    unit="{subscriber}",
    text="Connected subscribers that waits ignore, because they have owed a confirmation for too long.",
    alert="above 0 for minutes",
)
SUBSCRIBER_STALENESS: Final = Metric(
    name="token_service.subscriber.staleness",
    kind=Kind.GAUGE,
    unit="s",
    text="Age of the oldest entry that a subscriber has not confirmed. Of several workers the highest value counts.",
    labels={"token_service.statistic": "max, p99"},
    combine=Combine.MAX,
    alert="above the freshness bound of the validators",
)
VALIDATED: Final = Metric(
    name="token_service.validator.validated",
    kind=Kind.COUNTER,
    unit="{token}",
    text="Tokens that validators verified, as they report them, without validations that their caches answered.",
    alert="a sudden drop",
    needs="a report of a validator",
)
VALIDATOR_REFUSALS: Final = Metric(
    name="token_service.validator.refusals",
    kind=Kind.COUNTER,
    unit="{token}",
    text="Tokens that validators refused, as they report them.",
    labels={_REASON: "the names of InvalidReason, and OTHER"},
    alert="more BAD_SIGNATURE or WRONG_ISSUER than usual: forged or foreign tokens; more EXPIRED: clients that do not renew",
    needs="a report of a validator",
)

# --- Background work --------------------------------------------------------------------------------------------------

JANITOR_LEADER: Final = Metric(
    name="token_service.janitor.leader",
    kind=Kind.GAUGE,
    unit="{process}",
    text="1 at the process that led the last purge.",
    alert="a sum over all nodes of 0 for longer than three JANITOR_INTERVAL",
)
JANITOR_AGE: Final = Metric(
    name="token_service.janitor.age",
    kind=Kind.GAUGE,
    unit="s",
    text="Time since the last complete purge that this process led.",
    combine=Combine.MIN,
    alert="a minimum over all nodes above three JANITOR_INTERVAL",
    needs="a purge",
)
JANITOR_DURATION: Final = Metric(
    name="token_service.janitor.duration",
    kind=Kind.HISTOGRAM,
    unit="s",
    text="Duration of complete purges.",
    buckets=(0.01, 0.1, 0.5, 1, 5, 10, 30, 60, 300, 900),
    alert="longer than JANITOR_INTERVAL: the janitor does not keep up",
    needs="a purge",
)
JANITOR_ROWS: Final = Metric(
    name="token_service.janitor.rows",
    kind=Kind.COUNTER,
    unit="{row}",
    text="Rows that purges deleted.",
    needs="a purge",
)
AUDIT_QUEUED: Final = Metric(
    name="token_service.audit.queued",
    kind=Kind.GAUGE,
    unit="{event}",
    text="Audit events that wait to be written to the database.",
    alert="growth: beyond 10,000 at one process events are lost",
)
AUDIT_LOST: Final = Metric(
    name="token_service.audit.lost",
    kind=Kind.COUNTER,
    unit="{event}",
    text="Audit events that were lost because the queue was full.",
    alert="any",
    needs="a lost event",
)
LOGOUTS: Final = Metric(
    name="token_service.logouts",
    kind=Kind.COUNTER,
    unit="{attempt}",
    text="Attempts to tell a client that a session has ended.",
    labels={_OUTCOME: "sent, failed (it is repeated), given_up"},
    alert="any `given_up`: a client keeps sessions that have ended",
    needs="a logout",
    zeros=(("given_up",),),
)
LOGOUTS_PENDING: Final = Metric(
    name="token_service.logouts.pending",
    kind=Kind.GAUGE,
    unit="{logout}",
    text="Logouts that clients are still to be told of, at the process that delivers them.",
    combine=Combine.MAX,
    alert="growth: a client is away",
)
SSF_EVENTS: Final = Metric(
    name="token_service.ssf.events",
    kind=Kind.COUNTER,
    unit="{event}",
    text="Attempts to give an event of an event stream to its receiver. A polled event counts when it is acknowledged.",
    labels={
        _OUTCOME: "delivered, failed (it is repeated), refused (the receiver calls the event invalid), "
        "dropped (its subject was erased before the receiver took it)"
    },
    alert="any `refused`: the receiver lacks the event",
    needs="an event stream",
    zeros=(("refused",),),
)
SSF_PAUSES: Final = Metric(
    name="token_service.ssf.pauses",
    kind=Kind.COUNTER,
    unit="{pause}",
    text="Event streams that the service paused by itself, so that no event is lost unnoticed.",
    labels={
        "token_service.cause": "not_acknowledged, events_expired (the receiver lacks events)",
    },
    alert="any",
    needs="an event stream",
    zeros=(("not_acknowledged",), ("events_expired",)),
)
SSF_WAITING: Final = Metric(
    name="token_service.ssf.waiting",
    kind=Kind.GAUGE,
    unit="{event}",
    text="Events that wait in the event streams that are enabled, at the process that serves them.",
    combine=Combine.MAX,
)
SSF_WAITING_AGE: Final = Metric(
    name="token_service.ssf.waiting.age",
    kind=Kind.GAUGE,
    unit="s",
    text="Age of the oldest event that waits in an event stream that is enabled, at the process that serves them.",
    combine=Combine.MAX,
    alert="growth: a receiver is away",
)
WEBHOOK_ATTEMPTS: Final = Metric(
    name="token_service.webhooks.attempts",
    kind=Kind.COUNTER,
    unit="{attempt}",
    text="Attempts to deliver an event to a webhook.",
    labels={_OUTCOME: "delivered, failed (it is repeated), dead_letter"},
    alert="any `dead_letter`: a receiver misses events",
    needs="a webhook",
    zeros=(("dead_letter",),),
)
WEBHOOKS_FAILING: Final = Metric(
    name="token_service.webhooks.failing",
    kind=Kind.GAUGE,
    unit="{webhook}",
    text="Webhooks whose last attempt failed, or that were disabled because of failures.",
    combine=Combine.MAX,
    alert="not 0 for a while",
)
WEBHOOK_DEAD_LETTERS: Final = Metric(
    name="token_service.webhooks.dead_letters",
    kind=Kind.GAUGE,
    unit="{event}",
    text="Events that webhooks did not take, which wait for an operator.",
    combine=Combine.MAX,
    alert="growth",
)
WEBHOOK_EVENTS_BEHIND: Final = Metric(
    name="token_service.webhooks.events_behind",
    kind=Kind.GAUGE,
    unit="{event}",
    text="Events of the log that the slowest enabled webhook has not handled.",
    combine=Combine.MAX,
    alert="growth: a receiver is slow or away",
)
WEBHOOK_LAG: Final = Metric(
    name="token_service.webhooks.lag",
    kind=Kind.GAUGE,
    unit="s",
    text="Age of the oldest event that waits for its delivery to a webhook by this process.",
    combine=Combine.MAX,
    alert="growth: a receiver is slow or away",
)
SECURITY_EVENTS: Final = Metric(
    name="token_service.security_events",
    kind=Kind.COUNTER,
    unit="{event}",
    text="Security events that transmitters delivered.",
    labels={
        _TRANSMITTER: "the transmitters of the policy file",
        _OUTCOME: "revoked, ignored, unmapped, stream, replayed, refused",
    },
    alert="`refused` or `unmapped`: the settings of a transmitter don't fit what it sends",
    needs="a security event",
)
SECURITY_EVENT_POLLS: Final = Metric(
    name="token_service.security_events.polls",
    kind=Kind.COUNTER,
    unit="{poll}",
    text="Polls of transmitters for security events.",
    labels={_TRANSMITTER: "the transmitters of the policy file", _OUTCOME: "succeeded, failed"},
    alert="`failed` that goes on: events of a provider don't arrive",
    needs="a transmitter that is polled",
)
AUDIT_FAILING: Final = Metric(
    name="token_service.audit.failing",
    kind=Kind.GAUGE,
    unit="{process}",
    text="1 while audit events can't be written to the database. They wait, and calls that need a row of their own fail.",
    combine=Combine.MAX,
    alert="1",
)
POLICY_FILE_FAILING: Final = Metric(
    name="token_service.policy_file.failing",
    kind=Kind.GAUGE,
    unit="{process}",
    text="1 while the newest policy file and overrides can't be used together and earlier policies stay in force. The log has "
    "the reason.",
    combine=Combine.MAX,
    alert="1",
)
READY: Final = Metric(
    name="token_service.ready",
    kind=Kind.GAUGE,
    unit="{process}",
    text="1 at a process that may be sent calls; 0: `/readyz` names the problems.",
    combine=Combine.MIN,
    alert="0",
)
WORKERS: Final = Metric(
    name="token_service.workers",
    kind=Kind.GAUGE,
    unit="{process}",
    text="Worker processes whose gauges are on the page.",
    alert="less than WORKERS",
)
WORKER_STARTS: Final = Metric(
    name="token_service.worker.starts",
    kind=Kind.COUNTER,
    unit="{start}",
    text="Starts of worker processes.",
    alert="growth: workers end and start again",
)

# --- The database -----------------------------------------------------------------------------------------------------

_POOL: Final = {"db.client.connection.pool.name": "engine (SQLAlchemy's)"}
CONNECTIONS: Final = Metric(
    name="db.client.connection.count",
    kind=Kind.GAUGE,
    unit="{connection}",
    text="Connections of the pool.",
    labels={**_POOL, "db.client.connection.state": "used, idle"},
)
CONNECTIONS_MAX: Final = Metric(
    name="db.client.connection.max",
    kind=Kind.GAUGE,
    unit="{connection}",
    text="Connections that the pool may have.",
    labels=_POOL,
    alert="`used` near it",
)
CONNECTION_REQUESTS: Final = Metric(
    name="db.client.connection.pending_requests",
    kind=Kind.GAUGE,
    unit="{request}",
    text="Transactions that wait for a connection of the pool.",
    labels=_POOL,
    alert="above 0 for minutes: the pool is exhausted",
)
CONNECTION_WAIT: Final = Metric(
    name="db.client.connection.wait_time",
    kind=Kind.HISTOGRAM,
    unit="s",
    text="Time until a transaction has a connection of the pool.",
    labels=_POOL,
    alert="a p99 above 0.1 s",
    needs="a transaction",
)
LANE_QUEUED: Final = Metric(
    name="token_service.db.queued",
    kind=Kind.GAUGE,
    unit="{call}",
    text="Statements of calls that wait for the next group commit or the next group of reads.",
    labels={"token_service.lane": "read, write"},
    alert="near 10,000, where calls are refused",
)
LOCK_WAITS: Final = Metric(
    name="token_service.db.lock_waits",
    kind=Kind.GAUGE,
    unit="{connection}",
    text="Connections of this service to the database that wait for a lock, of all nodes. Read every 15 seconds.",
    combine=Combine.MAX,
    alert="above 0 for minutes",
    needs="PostgreSQL",
)
LOCK_WAIT_AGE: Final = Metric(
    name="token_service.db.lock_wait.age",
    kind=Kind.GAUGE,
    unit="s",
    text="Age of the oldest of these waits.",
    combine=Combine.MAX,
    alert="above 5 s",
    needs="PostgreSQL",
)

REGISTRY: Final[tuple[Metric, ...]] = tuple(
    sorted(
        (each for each in globals().copy().values() if isinstance(each, Metric)), key=lambda each: each.name
    )
)
"""All metrics, by name."""
