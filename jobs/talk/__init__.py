"""Talking to running game servers, beside jobs: commands that people send, and who is on."""

from jobs.talk.command_desk import CommandDesk
from jobs.talk.player_reader import PlayerReader, forget_old_sessions
from jobs.talk.requests import CommandRefused, TooManyCommands, send_command

__all__ = [
    "CommandDesk",
    "CommandRefused",
    "PlayerReader",
    "TooManyCommands",
    "forget_old_sessions",
    "send_command",
]
