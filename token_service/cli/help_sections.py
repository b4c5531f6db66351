"""Commands whose help lists their options in sections: their own, those of the connection, those of the settings."""

from __future__ import annotations

import click


class SettingsCommand(click.Command):
    """A command with options of `settings_options` or of `cli.remote.options`. Its help begins with its own options."""

    lists_settings = False
    """Whether the help also lists the settings; otherwise it refers to a command that lists them."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options in sections: its own, those of the connection, those of the settings."""
        own: list[tuple[str, str]] = []
        connection: list[tuple[str, str]] = []
        settings: list[tuple[str, str]] = []
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx) if isinstance(parameter, click.Option) else None
            if record is not None:
                if isinstance(parameter, SettingOption):
                    settings.append(record)
                elif isinstance(parameter, ConnectionOption):
                    connection.append(record)
                else:
                    own.append(record)
        with formatter.section("Options"):
            formatter.write_dl(own)
        if connection:
            with formatter.section("Connection to a service"):
                formatter.write_dl(connection)
        if not settings:
            return
        if self.lists_settings:
            with formatter.section("Settings"):
                formatter.write_dl(settings)
        else:
            formatter.write_paragraph()
            formatter.write_text("Every setting is a flag, too; `token-service config --help` lists them.")


class ListingCommand(SettingsCommand):
    """A command whose help lists the settings."""

    lists_settings = True


class ConnectionOption(click.Option):
    """An option that says which service to call."""


class SettingOption(click.Option):
    """The flag of a setting."""
