"""Groups of commands as literal tables: each command is imported when it is used."""

import importlib
from typing import Any

import click


class Table(click.Group):
    """A group that loads what is asked for alone: `trainyard jobs ls` knows nothing of specs, nor of the supervisor.

    `table` has "module:attribute" by command.
    """

    def __init__(self, *arguments: Any, table: dict[str, str], **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.table = table

    def list_commands(self, ctx: click.Context) -> list[str]:
        del ctx
        return list(self.table)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Raises NoSuchCommand, with what is spelled alike."""
        if cmd_name in self.table:
            module, _, name = self.table[cmd_name].partition(":")
            return getattr(importlib.import_module(module), name)
        if not ctx.resilient_parsing:
            raise click.exceptions.NoSuchCommand(cmd_name, possibilities=self.table, ctx=ctx)
        return None
