"""The Celery app and its queues.

attempt workers   consume nightshift.gpu + nightshift.auto, or nightshift.cpu + nightshift.auto
the beat process  consumes nightshift.maintenance
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, Literal

from celery import Celery
from kombu.entity import Exchange, Queue
from kombu.exceptions import OperationalError

from nightshift.errors import ConfigurationError
from shared.errors import BrokerUnavailable
from shared.settings import Settings, get_settings

Role = Literal["producer", "worker"]

ATTEMPT_TASK = "nightshift.attempt"
MAINTAIN_TASK = "nightshift.maintain"

#: A job's `device` -> the queue of its doorbells.
ATTEMPT_QUEUES = {"auto": "nightshift.auto", "cpu": "nightshift.cpu", "gpu": "nightshift.gpu"}
MAINTENANCE_QUEUE = "nightshift.maintenance"

#: Time-out of a request to the broker (seconds). Too low: a busy Redis loses doorbells. Too high: the caller waits.
BROKER_SECONDS = 1.0


def queues_for(device: Literal["cpu", "gpu"], takes_auto: bool = True) -> list[str]:
    """Return the queues of a worker with this device: that of its device, and that of jobs for any device."""
    return [ATTEMPT_QUEUES[device], *([ATTEMPT_QUEUES["auto"]] if takes_auto else [])]


def make_celery(settings: Settings, role: Role = "producer") -> Celery:
    """Create the Celery app. A `producer` has short timeouts; a `worker` reconnects without limit."""
    refuse_cluster(settings)
    app = Celery("nightshift", broker=settings.redis_url.get_secret_value(), set_as_current=role == "worker")
    for group in (_DELIVERY, _QUEUES, _CONNECTION, _VISIBILITY):
        app.conf.update(group)
    app.conf.broker_transport_options = _transport_options(role)
    return app


def refuse_cluster(settings: Settings) -> None:
    """Raise ConfigurationError for the URL of a Redis Cluster, where kombu's BRPOP over several queues cannot work."""
    url = settings.redis_url.get_secret_value()
    if not url.startswith(("redis://", "rediss://", "redis+socket://")):
        raise ConfigurationError(
            "NIGHTSHIFT_REDIS_URL must be a redis://, rediss:// or redis+socket:// URL of one Redis or Valkey server"
        )


def refuse_cluster_server(settings: Settings) -> None:
    """Raise ConfigurationError if the server is a Redis Cluster; a server that does not answer is accepted."""
    from redis import Redis
    from redis.exceptions import RedisError

    url = settings.redis_url.get_secret_value()
    try:
        with Redis.from_url(url, socket_timeout=BROKER_SECONDS, socket_connect_timeout=BROKER_SECONDS) as server:
            is_cluster = server.info("cluster").get("cluster_enabled")
    except (RedisError, OSError):
        return
    if is_cluster:
        raise ConfigurationError("NIGHTSHIFT_REDIS_URL points to a Redis Cluster; use a single Redis or Valkey server")


_DELIVERY: dict[str, Any] = {
    # Early ack: the job depends on its lease in SQL only. Late acks lost 11 of 3,000 messages in 25 kills anyway.
    "task_acks_late": False,
    # A message whose worker died is not redelivered forever; the rescuer takes the job back.
    "task_reject_on_worker_lost": False,
    # Without these two a busy worker keeps one message in `unacked` behind a job of hours: it is restored after the
    # visibility timeout, fetched again, and loops forever. Disabled prefetch leaves it in the list for other workers.
    "worker_disable_prefetch": True,
    "worker_prefetch_multiplier": 1,
    # Results live in SQL.
    "result_backend": None,
    "task_ignore_result": True,
    # JSON only: a pickle in Redis would be code execution.
    "task_serializer": "json",
    "event_serializer": "json",
    "accept_content": ["json"],
    # The API must not hang in a publish: there is one try, and the dispatcher rings again.
    "task_publish_retry": False,
    # UTC, independent of host time zones and DST; no task uses ETA, countdown or crontab.
    "enable_utc": True,
}


def _queue(name: str) -> Any:
    return Queue(name, Exchange(""), routing_key=name)  # type: ignore[no-untyped-call]


_QUEUES: dict[str, Any] = {
    # The default exchange routes by queue name without a binding table, so FLUSHALL cannot break routing.
    "task_queues": [_queue(name) for name in (*ATTEMPT_QUEUES.values(), MAINTENANCE_QUEUE)],
    "task_default_queue": MAINTENANCE_QUEUE,
    # A misspelled queue is an error, not a new queue without consumers.
    "task_create_missing_queues": False,
    # RabbitMQ only; skips its probe.
    "worker_detect_quorum_queues": False,
}

_CONNECTION: dict[str, Any] = {
    # 100 (the default) makes a worker exit after a long outage.
    "broker_connection_max_retries": None,
    "broker_connection_retry": True,
    "broker_connection_retry_on_startup": True,
    # `OOM command not allowed`, `LOADING`: Redis answers with channel errors, which otherwise end the worker.
    "broker_channel_error_retry": True,
    # Running jobs are not affected by a Redis outage. Explicit, because Celery 6 changes the default.
    "worker_cancel_long_running_tasks_on_connection_loss": False,
}

_VISIBILITY: dict[str, Any] = {
    # Flower shows attempts from these events.
    "worker_send_task_events": True,
    # Logging is set up by shared/logging.py.
    "worker_hijack_root_logger": False,
    "worker_redirect_stdouts": False,
}


def _transport_options(role: Role) -> dict[str, Any]:
    """Return timeouts; by default a hung Redis would block a publish for more than 40 s."""
    seconds = BROKER_SECONDS / 2 if role == "producer" else 10.0
    return {
        "socket_connect_timeout": seconds,
        "socket_timeout": seconds,
        "socket_keepalive": True,
        "health_check_interval": 15,
        # Time until an unacked message is restored. Acks are early, so it matters only if a worker died in between.
        "visibility_timeout": 300,
    }


@lru_cache
def get_app() -> Celery:
    """Return this process's app for producers."""
    return make_celery(get_settings())


def __getattr__(name: str) -> Any:
    if name == "app":  # for `celery -A shared.celery_app` and Flower
        return get_app()
    raise AttributeError(name)


# -- inspection -----------------------------------------------------------------------------------


@lru_cache
def _redis() -> Any:
    from redis import Redis
    from redis.backoff import NoBackoff
    from redis.retry import Retry

    url = get_settings().redis_url.get_secret_value()
    return Redis.from_url(
        url, socket_timeout=BROKER_SECONDS, socket_connect_timeout=BROKER_SECONDS, retry=Retry(NoBackoff(), 0)
    )


def queue_lengths() -> dict[str, int]:
    """Return the number of waiting messages per device. Raises BrokerUnavailable."""
    from redis.exceptions import RedisError

    try:
        pipe = _redis().pipeline(transaction=False)
        for name in ATTEMPT_QUEUES.values():
            pipe.llen(name)
        return dict(zip(ATTEMPT_QUEUES, pipe.execute(), strict=True))
    except (RedisError, OSError) as error:
        raise BrokerUnavailable(f"the broker does not answer: {error}") from error


def holds_message(device: str) -> bool:
    """Return whether a message waits in a device's queue. Raises BrokerUnavailable."""
    from redis.exceptions import RedisError

    try:
        return bool(_redis().llen(ATTEMPT_QUEUES[device]))
    except (RedisError, OSError) as error:
        raise BrokerUnavailable(f"the broker does not answer: {error}") from error


def ping() -> None:
    """Raise BrokerUnavailable if Redis does not answer within BROKER_SECONDS."""
    from redis.exceptions import RedisError

    try:
        _redis().ping()
    except (RedisError, OSError) as error:
        raise BrokerUnavailable(f"the broker does not answer: {error}") from error


def answers(settings: Settings, node: str, timeout: float) -> bool:
    """Return whether the Celery process `node` (`beat@host`, `gpu0@host`) answers a ping within `timeout` seconds."""
    try:
        return bool(make_celery(settings).control.ping(destination=[node], timeout=timeout))
    except (OSError, OperationalError):
        return False
