"""From the outbox to a real broker."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from kombu.exceptions import OperationalError

from tests.integration.workers.workplace import Workplace, wait_until
from tests.servers import Valkey
from workers.queue import QUEUE, Dispatcher, connect, enqueue


@pytest.fixture
def own_valkey() -> Iterator[Valkey]:
    """A broker that the test may stop."""
    server = Valkey()
    yield server
    server.close()


@contextmanager
def dispatching(workplace: Workplace, broker_url: str) -> Iterator[Dispatcher]:
    dispatcher = Dispatcher(workplace.database, broker_url)
    dispatcher.start()
    yield dispatcher
    dispatcher.stop()
    assert not dispatcher.is_alive()


def received(broker_url: str, count: int, timeout_s: float = 10.0) -> list[str]:
    """The job ids of the next messages, as a worker gets them."""
    job_ids: list[str] = []

    with connect(broker_url) as connection:
        consumer = connection.Consumer(
            _queue(), callbacks=[lambda body, message: (job_ids.append(body[0][0]), message.ack())], accept=["json"]
        )
        consumer.qos(prefetch_count=1)
        with consumer:
            deadline = time.monotonic() + timeout_s
            while len(job_ids) < count and time.monotonic() < deadline:
                try:
                    connection.drain_events(timeout=0.2)
                except TimeoutError:
                    continue
    return job_ids


def _queue() -> object:
    from workers.queue import app

    return app.amqp.queues[QUEUE]


def test_a_submitted_job_reaches_the_workers(workplace: Workplace, broker_url: str) -> None:
    with dispatching(workplace, broker_url) as dispatcher:
        job_id = workplace.submit_tiny()
        dispatcher.wake()
        assert received(broker_url, 1) == [job_id]
    wait_until(lambda: workplace.job(job_id).dispatches == 1, "marked as sent")


def test_a_job_is_found_without_being_woken(workplace: Workplace, broker_url: str) -> None:
    with dispatching(workplace, broker_url):
        time.sleep(0.2)
        job_id = workplace.submit_tiny()
        assert received(broker_url, 1) == [job_id]


def test_a_job_of_higher_priority_comes_first(workplace: Workplace, broker_url: str) -> None:
    low, high = (workplace.submit_tiny(resources={"priority": priority}) for priority in (-50, 50))
    with dispatching(workplace, broker_url):
        wait_until(lambda: workplace.job(high).dispatches == 1, "sent")
    assert received(broker_url, 2) == [high, low]


def test_a_job_accepted_while_the_broker_is_away_is_sent_soon_after_its_return(
    workplace: Workplace, own_valkey: Valkey
) -> None:
    with dispatching(workplace, own_valkey.url) as dispatcher:
        own_valkey.stop()
        job_id = workplace.submit_tiny()
        dispatcher.wake()
        time.sleep(1.5)
        assert workplace.job(job_id).dispatches == 0
        own_valkey.start()
        back_at = time.monotonic()
        wait_until(lambda: workplace.job(job_id).dispatches == 1, "sent")
        assert time.monotonic() - back_at < 2.0
    assert received(own_valkey.url, 1) == [job_id]


def test_waking_costs_nothing_while_the_broker_is_away(workplace: Workplace, own_valkey: Valkey) -> None:
    own_valkey.stop()
    with dispatching(workplace, own_valkey.url) as dispatcher:
        begun = time.monotonic()
        for _ in range(1000):
            dispatcher.wake()
        assert time.monotonic() - begun < 0.5


def test_a_broker_that_is_away_is_told_within_seconds(own_valkey: Valkey) -> None:
    own_valkey.stop()
    begun = time.monotonic()
    with connect(own_valkey.url) as connection, pytest.raises(OperationalError):
        enqueue("job-1", connection)
    assert time.monotonic() - begun < 3.0


def test_an_outage_is_logged_once(workplace: Workplace, own_valkey: Valkey, caplog: pytest.LogCaptureFixture) -> None:
    own_valkey.stop()
    workplace.submit_tiny()
    with dispatching(workplace, own_valkey.url):
        time.sleep(2.0)
    assert len([record for record in caplog.records if "broker" in record.message]) == 1


def test_two_dispatchers_lose_nothing(workplace: Workplace, broker_url: str) -> None:
    job_ids = [workplace.submit_tiny() for _ in range(20)]
    both = threading.Barrier(2)

    def carry() -> None:
        both.wait()
        with dispatching(workplace, broker_url):
            wait_until(lambda: all(workplace.job(job_id).dispatches for job_id in job_ids), "all sent")

    threads = [threading.Thread(target=carry) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    # Both may send the same row; the claim sorts that out.
    assert set(received(broker_url, 40, timeout_s=2.0)) == set(job_ids)
    assert {workplace.job(job_id).dispatches for job_id in job_ids} == {1}
