"""Command groups that import a command only when it is used."""

import importlib
from typing import Any

import click


class LazyGroup(click.Group):
    """A group that imports its commands on demand: `trainyard jobs ls` loads neither the specs nor the supervisor.

    `table` maps the name of a command to "module:attribute".
    """

    def __init__(self, *arguments: Any, table: dict[str, str], **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.table = table

    def list_commands(self, ctx: click.Context) -> list[str]:
        del ctx
        return list(self.table)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return a command, importing its module. Raises NoSuchCommand with similar names as suggestions."""
        if cmd_name in self.table:
            module, _, name = self.table[cmd_name].partition(":")
            return getattr(importlib.import_module(module), name)
        if not ctx.resilient_parsing:
            raise click.exceptions.NoSuchCommand(cmd_name, possibilities=self.table, ctx=ctx)
        return None
