"""Talking to running game servers, beside jobs: commands that people send."""

from jobs.talk.command_desk import CommandDesk
from jobs.talk.requests import CommandRefused, TooManyCommands, send_command

__all__ = [
    "CommandDesk",
    "CommandRefused",
    "TooManyCommands",
    "send_command",
]
