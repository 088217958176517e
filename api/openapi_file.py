"""`python -m api.openapi_file`: print the OpenAPI document, from which the dashboard's client is generated."""

import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import orjson
from pydantic import SecretStr

from api.app import create_app
from api.settings import ApiSettings
from db.session import Database
from db.settings import StorageSettings

_NO_BROKER = "redis://127.0.0.1:1/0"


def main() -> None:
    """Print the document with sorted keys, so that the same API gives the same text."""
    settings = ApiSettings(secret=SecretStr("of no service"))
    with TemporaryDirectory() as home:
        app = create_app(settings, StorageSettings(home=Path(home)), Database(f"sqlite:///{home}/none.db"), _NO_BROKER)
    text = orjson.dumps(app.openapi(), option=orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS)
    sys.stdout.buffer.write(text + b"\n")


if __name__ == "__main__":
    main()
