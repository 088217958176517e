"""`python -m api.projects`: what of the workers each project gets, on the database itself."""

import argparse
import sys

from db import projects
from db.session import Database, Session
from db.settings import StorageSettings

_ABOUT = """\
Projects and their limits, on the database that TRAINYARD_HOME or TRAINYARD_DATABASE_URL names.

  list                                               every project
  limit NAME [--share N] [--max-running-jobs N]      a share of 2 gets twice what a share of 1 gets while both wait;
                                                     -1 running jobs lifts the limit
"""


def main(arguments: list[str] | None = None) -> int:
    """Run one of the two and return the exit code: 0, or 1 when there is no such project."""
    parser = argparse.ArgumentParser(
        prog="python -m api.projects", description=_ABOUT, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="list | limit")
    verbs.add_parser("list", help="list the projects")
    limiting = verbs.add_parser("limit", help="change what a project gets")
    limiting.add_argument("name", metavar="NAME")
    limiting.add_argument("--share", type=_share, help="above 0; 1 to begin with")
    limiting.add_argument("--max-running-jobs", type=_limit, help="at once; -1 for any number")
    asked = parser.parse_args(arguments)
    database = Database(StorageSettings().database_url)
    try:
        with database.write() as session:
            if asked.verb == "limit":
                return _limit_project(session, asked.name, asked.share, asked.max_running_jobs)
            return _list(session)
    finally:
        database.close()


def _share(text: str) -> float:
    share = float(text)
    if not 0 < share <= 1e6:
        raise argparse.ArgumentTypeError(f"{text} is not above 0 and at most 1000000")
    return share


def _limit(text: str) -> int:
    limit = int(text)
    if not -1 <= limit <= 1_000_000:
        raise argparse.ArgumentTypeError(f"{text} is not a number of jobs, nor -1")
    return limit


def _limit_project(session: Session, name: str, share: float | None, max_running_jobs: int | None) -> int:
    if not projects.limit(session, name, share=share, max_running_jobs=max_running_jobs):
        sys.stderr.write(f"there is no project {name!r}; `python -m api.projects list` shows them\n")
        return 1
    return _list(session)


def _list(session: Session) -> int:
    sys.stdout.write("id\tname\tshare\tmax running jobs\n")
    for project in projects.list_all(session):
        limit = "any" if project.max_running_jobs is None else project.max_running_jobs
        sys.stdout.write(f"{project.id}\t{project.name}\t{project.share:g}\t{limit}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
