"""`python -m api.keys`: list, make and revoke API keys, on the database itself."""

import argparse
import sys
import time

from api.settings import ApiSettings, key_secret
from db import audit, keys, projects
from db.models import ApiKey
from db.scopes import Scope
from db.session import Database, Session
from db.settings import StorageSettings

_ABOUT = """\
API keys and their projects, on the database that TRAINYARD_HOME or TRAINYARD_DATABASE_URL names.

  list                                               all keys of all projects, without their tokens
  create --project NAME --name NAME [--scope SCOPE]  make a key and print its token, once, on stdout; the project is
                                                     made if it is new. Each scope includes those before it:
           read       see what the project has
           write      make, change and delete it
           admin      make and revoke the project's keys
           operator   see metrics and the audit log of all projects
  revoke KEY_ID                                      revoke a key, within a second
"""


def main(arguments: list[str] | None = None) -> int:
    """Run one command and return the exit code: 0, or 1 when there is no such key."""
    parser = argparse.ArgumentParser(
        prog="python -m api.keys", description=_ABOUT, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="list | create | revoke")
    verbs.add_parser("list", help="list the keys")
    creating = verbs.add_parser("create", help="make a key; the token is printed once")
    creating.add_argument("--project", required=True, help="the project of the key, which is made if it is new")
    creating.add_argument("--name", required=True, help="the name of the person or program that the key is for")
    creating.add_argument(
        "--scope", type=Scope, choices=list(Scope), default=Scope.ADMIN, help="what the key may do; default: admin"
    )
    verbs.add_parser("revoke", help="revoke a key").add_argument("key_id", metavar="KEY_ID")
    asked = parser.parse_args(arguments)
    storage = StorageSettings()
    database = Database(storage.database_url)
    try:
        with database.write() as session:
            if asked.verb == "create":
                secret = key_secret(ApiSettings(), storage.home)
                return _create(session, asked.project, asked.name, secret, asked.scope)
            return _revoke(session, asked.key_id) if asked.verb == "revoke" else _list(session)
    finally:
        database.close()


def _list(session: Session) -> int:
    _print("id", "project", "name", "scope", "begins with", "created", "last used", "revoked")
    for project in projects.list_all(session):
        for key in keys.list_keys(session, project.id):
            times = (_moment(moment) for moment in (key.created_at, key.last_used_at, key.revoked_at))
            _print(key.id, project.name, key.name, key.scope, key.prefix, *times)
    return 0


def _create(session: Session, project_name: str, name: str, secret: bytes, scope: Scope) -> int:
    project = projects.by_name(session, project_name) or projects.create(session, project_name)
    key, token = keys.create(session, project.id, name, secret, scope=scope)
    audit.note_operator(session, project.id, "key.create", key.id, {"name": name, "scope": scope.value})
    sys.stderr.write(f"{key.id} of project {project.name}; its token is shown only now:\n")
    _print(token)
    return 0


def _revoke(session: Session, key_id: str) -> int:
    key = session.get(ApiKey, key_id)
    if key is None or not keys.revoke(session, key.project_id, key_id):
        sys.stderr.write(f"there is no active key {key_id!r}; `python -m api.keys list` shows them\n")
        return 1
    audit.note_operator(session, key.project_id, "key.revoke", key_id, {"name": key.name, "scope": key.scope})
    _print(key_id)
    return 0


def _print(*cells: str) -> None:
    sys.stdout.write("\t".join(cells) + "\n")


def _moment(unix_s: float | None) -> str:
    return "" if unix_s is None else time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(unix_s))


if __name__ == "__main__":
    sys.exit(main())
