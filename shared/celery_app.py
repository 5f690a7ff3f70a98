"""The Celery app, its queues, and `ring`: how anybody says that there is work.

A message is a doorbell, never the job: it may be lost (the dispatcher rings again), doubled (the second finds nothing
to claim) or forged (it carries only a job id, as advice for the reader). So nothing here retries or waits for long.

    attempt workers   consume nightshift.gpu + nightshift.auto, or nightshift.cpu + nightshift.auto
    the beat process  consumes nightshift.maintenance
"""

from __future__ import annotations

import atexit
import queue
import threading
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
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

#: A job's `device` -> the queue its doorbell rings in.
ATTEMPT_QUEUES = {"auto": "nightshift.auto", "cpu": "nightshift.cpu", "gpu": "nightshift.gpu"}
MAINTENANCE_QUEUE = "nightshift.maintenance"

#: A ring that takes longer is given up (seconds). Too low: a busy Redis loses rings. Too high: its caller waits.
RING_SECONDS = 1.0
#: Doorbells that wait for the ringing thread. When it is full new ones are dropped; the dispatcher makes up for them.
PENDING_RINGS = 1_000


def queues_for(device: Literal["cpu", "gpu"]) -> list[str]:
    """The queues a worker with this device consumes: what is meant for it, and what does not care."""
    return [ATTEMPT_QUEUES[device], ATTEMPT_QUEUES["auto"]]


def make_celery(settings: Settings, role: Role = "producer") -> Celery:
    """The app with every setting and its reason. `producer` gives up soon; `worker` is patient and never gives up."""
    refuse_cluster(settings)
    app = Celery("nightshift", broker=settings.redis_url.get_secret_value(), set_as_current=role == "worker")
    for group in (_DELIVERY, _QUEUES, _CONNECTION, _VISIBILITY):
        app.conf.update(group)
    app.conf.broker_transport_options = _transport_options(role)
    return app


def refuse_cluster(settings: Settings) -> None:
    """Redis Cluster spreads a pipeline's keys over nodes; kombu's BRPOP over several queues cannot work there."""
    url = settings.redis_url.get_secret_value()
    if not url.startswith(("redis://", "rediss://", "redis+socket://")):
        raise ConfigurationError(
            "NIGHTSHIFT_REDIS_URL must be a redis://, rediss:// or redis+socket:// URL of one Redis or Valkey server"
        )


def refuse_cluster_server(settings: Settings) -> None:
    """The same of the server itself, at the start of whoever consumes. One that does not answer may come later."""
    from redis import Redis
    from redis.exceptions import RedisError

    url = settings.redis_url.get_secret_value()
    try:
        with Redis.from_url(url, socket_timeout=RING_SECONDS, socket_connect_timeout=RING_SECONDS) as server:
            is_cluster = server.info("cluster").get("cluster_enabled")
    except (RedisError, OSError):
        return
    if is_cluster:
        raise ConfigurationError("NIGHTSHIFT_REDIS_URL is a Redis Cluster: use one Redis or Valkey server")


_DELIVERY: dict[str, Any] = {
    # Early ack: the job's fate hangs on its lease in SQL. Late acks lost 11 of 3,000 messages in 25 kills anyway.
    "task_acks_late": False,
    # A message whose worker died is not redelivered for ever; the rescuer takes the job back.
    "task_reject_on_worker_lost": False,
    # Without these two a busy worker keeps one message in `unacked` behind a job of hours: it is restored after the
    # visibility timeout, fetched again, and loops for ever. Disabled prefetch leaves it in the list for others.
    "worker_disable_prefetch": True,
    "worker_prefetch_multiplier": 1,
    # Results live in SQL.
    "result_backend": None,
    "task_ignore_result": True,
    # JSON only: a pickle in Redis would be code execution.
    "task_serializer": "json",
    "event_serializer": "json",
    "accept_content": ["json"],
    # The API must not hang in a publish: one try, and the dispatcher rings again.
    "task_publish_retry": False,
    # Host clocks may be wrong and DST must not matter; nothing of ours uses ETA, countdown or crontab.
    "enable_utc": True,
}


def _queue(name: str) -> Any:
    return Queue(name, Exchange(""), routing_key=name)  # type: ignore[no-untyped-call]


_QUEUES: dict[str, Any] = {
    # The default exchange routes by queue name without a binding table, so FLUSHALL cannot break routing.
    "task_queues": [_queue(name) for name in (*ATTEMPT_QUEUES.values(), MAINTENANCE_QUEUE)],
    "task_default_queue": MAINTENANCE_QUEUE,
    # A misspelt queue is an error, not a new queue nobody reads.
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
    # Running jobs do not notice a Redis outage. Celery 6 flips the default, so it is said.
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
    """A hung Redis otherwise blocks a publish for more than 40 s; a worker only needs to notice it some time."""
    seconds = RING_SECONDS / 2 if role == "producer" else 10.0
    return {
        "socket_connect_timeout": seconds,
        "socket_timeout": seconds,
        "socket_keepalive": True,
        "health_check_interval": 15,
        # How long an unacked message stays hidden. Acks are early, so it only matters for a worker that died in
        # between.
        "visibility_timeout": 300,
    }


@lru_cache
def get_app() -> Celery:
    """The producer's app of this process."""
    return make_celery(get_settings())


def __getattr__(name: str) -> Any:
    if name == "app":  # for `celery -A shared.celery_app` and Flower
        return get_app()
    raise AttributeError(name)


# -- ringing --------------------------------------------------------------------------------------


class _Notifier:
    """One thread that publishes, so that a hung Redis holds up nobody else. Started at the first ring."""

    def __init__(self) -> None:
        self._pending: queue.Queue[tuple[str, str, Future[None]]] = queue.Queue(PENDING_RINGS)
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def ring(self, device: str, job_id: str) -> Future[None]:
        future: Future[None] = Future()
        self._start()
        try:
            self._pending.put_nowait((device, job_id, future))
        except queue.Full:
            future.set_exception(BrokerUnavailable("too many doorbells wait for the broker"))
        return future

    def flush(self, timeout: float) -> None:
        """Give what is pending a moment at exit: a command line that submits and leaves should still ring."""
        thread = self._thread
        if thread is None or not thread.is_alive() or self._pending.empty():
            return
        future: Future[None] = Future()
        try:
            self._pending.put_nowait(("", "", future))
            future.exception(timeout)
        except (queue.Full, FutureTimeout):
            return

    def _start(self) -> None:
        with self._lock:
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._run, name="bell", daemon=True)
                self._thread.start()
                atexit.register(self.flush, RING_SECONDS)

    def _run(self) -> None:
        while True:
            device, job_id, future = self._pending.get()
            if not future.set_running_or_notify_cancel():
                continue
            try:
                if device:
                    _publish(device, job_id)
                future.set_result(None)
            except Exception as error:
                future.set_exception(BrokerUnavailable(f"the broker does not answer: {error}"))
                self._drop_pending()

    def _drop_pending(self) -> None:
        """After a failure the rest would only fail one deadline after the other; the dispatcher rings them again."""
        while True:
            try:
                _, _, future = self._pending.get_nowait()
            except queue.Empty:
                return
            if future.set_running_or_notify_cancel():
                future.set_exception(BrokerUnavailable("the broker does not answer"))


_bell = _Notifier()


def _publish(device: str, job_id: str) -> None:
    get_app().send_task(ATTEMPT_TASK, args=(job_id,), queue=ATTEMPT_QUEUES[device], argsrepr=job_id)


def ring(device: str, job_id: str) -> None:
    """Say that a job waits. Raises BrokerUnavailable within RING_SECONDS when Redis does not take it."""
    future = _bell.ring(device, job_id)
    try:
        future.result(RING_SECONDS)
    except FutureTimeout:
        future.cancel()
        raise BrokerUnavailable(f"the broker did not take a message within {RING_SECONDS} s") from None


def ring_later(device: str, job_id: str) -> None:
    """Say it from a background thread: never blocks, never raises. A lost ring is the dispatcher's to repeat."""
    _bell.ring(device, job_id)


# -- looking --------------------------------------------------------------------------------------


@lru_cache
def _redis() -> Any:
    from redis import Redis
    from redis.backoff import NoBackoff
    from redis.retry import Retry

    url = get_settings().redis_url.get_secret_value()
    return Redis.from_url(
        url, socket_timeout=RING_SECONDS, socket_connect_timeout=RING_SECONDS, retry=Retry(NoBackoff(), 0)
    )


def queue_lengths() -> dict[str, int]:
    """device -> doorbells that wait in its queue. Raises BrokerUnavailable."""
    from redis.exceptions import RedisError

    try:
        pipe = _redis().pipeline(transaction=False)
        for name in ATTEMPT_QUEUES.values():
            pipe.llen(name)
        return dict(zip(ATTEMPT_QUEUES, pipe.execute(), strict=True))
    except (RedisError, OSError) as error:
        raise BrokerUnavailable(f"the broker does not answer: {error}") from error


def ping() -> None:
    """Raises BrokerUnavailable when Redis does not answer within RING_SECONDS."""
    from redis.exceptions import RedisError

    try:
        _redis().ping()
    except (RedisError, OSError) as error:
        raise BrokerUnavailable(f"the broker does not answer: {error}") from error


def answers(settings: Settings, node: str, timeout: float) -> bool:
    """Whether the Celery process called `node` (`beat@host`, `gpu0@host`) answers a ping within `timeout` seconds."""
    try:
        return bool(make_celery(settings).control.ping(destination=[node], timeout=timeout))
    except (OSError, OperationalError):
        return False
