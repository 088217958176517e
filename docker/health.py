"""Health check of a worker: its database has the current schema, and its broker answers."""

import sys

from kombu.exceptions import OperationalError

from db import health
from db.session import Database
from workers.queue import app
from workers.settings import WorkerSettings


def main() -> int:
    """Return 0 if both are fine; otherwise print the fault on stdout, which `docker inspect` shows."""
    settings = WorkerSettings()
    if not health.up_to_date(Database(settings.database_url)):
        print("the database does not answer, or its schema is not the newest")
        return 1
    try:
        with app.connection_for_read(settings.broker_url) as connection:
            connection.ensure_connection(max_retries=1, interval_start=1)
    except OperationalError as error:
        print(f"the broker does not answer: {error}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
