"""What all commands share: the order in help, errors that end in a sentence, and an event loop that Ctrl-C ends."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Coroutine, Iterable
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import click

if TYPE_CHECKING:
    from pipeline.config import Settings

T = TypeVar("T")

INTERRUPTED = 130


class Commands(click.Group):
    """Lists its commands under the titles with which they were added, in that order."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.sections: dict[str, list[str]] = {}

    def add_section(self, title: str, commands: Iterable[click.Command]) -> None:
        """Add commands that one person uses for one purpose."""
        for command in commands:
            self.add_command(command)
            self.sections.setdefault(title, []).append(str(command.name))

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names, unsorted."""
        return list(self.commands)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """A list per section; what has none comes last."""
        listed = {name for names in self.sections.values() for name in names}
        others = [name for name in self.commands if name not in listed]
        longest = max(map(len, self.commands))
        for title, names in {**self.sections, "Other": others}.items():
            rows = [(f"{name:<{longest}}", self._short_help(name, formatter.width - longest - 6)) for name in names]
            if rows:
                with formatter.section(title):
                    formatter.write_dl(rows)

    def _short_help(self, name: str, width: int) -> str:
        return self.commands[name].get_short_help_str(width)


class CommandError(click.ClickException):
    """Ends a command with a message on standard error, no traceback, and exit code 2: asked wrongly, or refused."""

    exit_code = 2


class Failed(CommandError):
    """It was tried and did not succeed."""

    exit_code = 1


class Unreachable(CommandError):
    """The service did not answer."""

    exit_code = 3


def settings_or_exit(**overrides: object) -> Settings:
    """The settings. Raises CommandError with one line per mistake."""
    from pipeline.config import SettingsError, load_settings

    try:
        return load_settings(**overrides)
    except SettingsError as error:
        raise CommandError(f"the settings cannot be used:\n{error}") from None


def run_loop(
    work: Coroutine[Any, Any, T], *, fast: bool = False, on_interrupt: Callable[[], str | None] = lambda: None
) -> T:
    """Run to the end; Ctrl-C cancels and exits with 130, saying what `on_interrupt` returns. `fast` takes uvloop."""
    try:
        with asyncio.Runner(loop_factory=_fast_loop() if fast else None) as runner:
            return runner.run(work)
    except KeyboardInterrupt:
        interrupted(on_interrupt())


def _fast_loop() -> Callable[[], asyncio.AbstractEventLoop] | None:
    if sys.platform == "win32":
        return None
    from uvloop import new_event_loop

    return new_event_loop


def interrupted(message: str | None = None) -> NoReturn:
    """End as a process does that Ctrl-C has stopped."""
    click.echo(f"\n{message}" if message else "", err=True)
    raise SystemExit(INTERRUPTED)
