"""`python -m api.projects`: set projects' shares of the workers and their budgets, on the database itself."""

import argparse
import math
import sys
from collections.abc import Callable

from db import audit, budgets, projects
from db.session import Database, Session
from db.settings import StorageSettings

_ABOUT = """\
Projects and their limits, on the database that TRAINYARD_HOME or TRAINYARD_DATABASE_URL names.

  list                                               every project
  limit NAME [--share N] [--max-running-jobs N]      a share of 2 gets twice what a share of 1 gets while both wait;
                                                     -1 running jobs lifts the limit
  budget NAME [--worker-s N] [--money N]             the most that a project may use: time of workers and money in a
         [--active-jobs N] [--storage-bytes N]       calendar month (UTC), jobs that wait or run, and bytes that it
                                                     stores; -1 lifts one
"""


def main(arguments: list[str] | None = None) -> int:
    """Run one command and return the exit code: 0, or 1 when there is no such project."""
    parser = argparse.ArgumentParser(
        prog="python -m api.projects", description=_ABOUT, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="list | limit | budget")
    verbs.add_parser("list", help="list the projects")
    limiting = verbs.add_parser("limit", help="change a project's share of the workers")
    limiting.add_argument("name", metavar="NAME")
    limiting.add_argument("--share", type=_share, help="a number above 0; new projects have 1")
    limiting.add_argument("--max-running-jobs", type=_limit, help="the most jobs that may run at once; -1 for no limit")
    granting = verbs.add_parser("budget", help="change how much a project may use")
    granting.add_argument("name", metavar="NAME")
    for amount, read in _AMOUNTS.items():
        granting.add_argument(
            f"--{amount.replace('_', '-')}",
            type=read,
            help="the most per month (time, money), or in total; -1 for no limit",
        )
    asked = parser.parse_args(arguments)
    database = Database(StorageSettings().database_url)
    try:
        with database.write() as session:
            if asked.verb == "limit":
                return _limit_project(session, asked.name, asked.share, asked.max_running_jobs)
            if asked.verb == "budget":
                return _grant(session, asked.name, {name: getattr(asked, name) for name in _AMOUNTS})
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


def _amount(text: str) -> float:
    try:
        amount = float(text)
    except ValueError:
        amount = math.nan
    if amount != -1 and not 0 <= amount <= 1e15:
        raise argparse.ArgumentTypeError(f"{text} is not an amount, nor -1")
    return amount


def _whole_amount(text: str) -> int:
    if not _amount(text).is_integer():
        raise argparse.ArgumentTypeError(f"{text} is no whole number")
    return int(float(text))


_AMOUNTS: dict[str, Callable[[str], float]] = {
    "worker_s": _amount, "money": _amount, "active_jobs": _whole_amount, "storage_bytes": _whole_amount,
}  # fmt: skip


def _grant(session: Session, name: str, given: dict[str, float | None]) -> int:
    project = projects.by_name(session, name)
    if project is None:
        return _no_project(name)
    amounts = {amount: None if most == -1 else most for amount, most in given.items() if most is not None}
    if amounts:
        budgets.put(session, project.id, project.id, **amounts)
        audit.note_operator(session, project.id, "budget.set", project.id, amounts)
    for budget in budgets.list_of(session, project.id):
        most = ("any" if getattr(budget, amount) is None else f"{getattr(budget, amount):g}" for amount in _AMOUNTS)
        sys.stdout.write("\t".join([budget.owner_id, *most]) + "\n")
    return 0


def _no_project(name: str) -> int:
    sys.stderr.write(f"there is no project {name!r}; `python -m api.projects list` shows them\n")
    return 1


def _limit_project(session: Session, name: str, share: float | None, max_running_jobs: int | None) -> int:
    project = projects.by_name(session, name)
    if project is None:
        return _no_project(name)
    projects.limit(session, name, share=share, max_running_jobs=max_running_jobs)
    limits = {"share": project.share, "max_running_jobs": project.max_running_jobs}
    audit.note_operator(session, project.id, "project.limit", project.id, limits)
    return _list(session)


def _list(session: Session) -> int:
    sys.stdout.write("id\tname\tshare\tmax running jobs\n")
    for project in projects.list_all(session):
        limit = "any" if project.max_running_jobs is None else project.max_running_jobs
        sys.stdout.write(f"{project.id}\t{project.name}\t{project.share:g}\t{limit}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
