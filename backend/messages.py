"""Messages to workers through Celery. A message carries only a job's id; the database is the truth."""

import logging
from collections.abc import Iterable

from celery import Celery
from kombu.exceptions import OperationalError
from redis import Redis
from redis.exceptions import RedisError

from backend.settings import Settings

logger = logging.getLogger(__name__)
TASK = "octavo.run_job"


def celery_app(settings: Settings) -> Celery:
    """Tasks are acknowledged before they run: a long job is never redelivered because of its length."""
    app = Celery("octavo", broker=settings.redis_url)
    app.conf.update(
        task_default_queue=settings.queue,
        task_ignore_result=True,
        task_acks_late=False,
        worker_prefetch_multiplier=1,
        worker_hijack_root_logger=False,
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
    )
    return app


class Messages:
    """Sends job ids. A broker that is away is logged, not raised: the reaper sends again what was not taken."""

    def __init__(self, settings: Settings) -> None:
        self._queue = settings.queue
        self._app = celery_app(settings)
        self._app.conf.broker_transport_options = {
            "max_retries": 0,
            "interval_start": 0,
            "connect_retries_timeout": 2,
            "socket_connect_timeout": 2,
        }
        self._redis: Redis = Redis.from_url(settings.redis_url, socket_connect_timeout=2, socket_timeout=2)

    def send(self, job_ids: Iterable[str]) -> list[str]:
        """Send one message a job; returns the ids that the broker took."""
        sent = []
        for job_id in job_ids:
            try:
                self._app.send_task(TASK, args=[job_id], queue=self._queue, retry=False, ignore_result=True)
            except (OperationalError, RedisError) as error:
                logger.warning("the broker does not answer (%s); jobs stay queued and are sent again later", error)
                break
            sent.append(job_id)
        return sent

    def length(self) -> int | None:
        """Messages nobody has taken yet; none when the broker does not answer."""
        try:
            return int(self._redis.llen(self._queue))
        except RedisError:
            return None

    def close(self) -> None:
        self._redis.close()
        self._app.close()
