"""What the engine prints of the panel's own commands."""

from hostops.console_commands import find_last_said


def test_the_last_word_of_a_console_is_the_games_own() -> None:
    echo = 'rcon from "127.0.0.1:40000": command "sv_password"'
    assert find_last_said(["Loading map", " Segmentation fault ", echo, ""]) == "Segmentation fault"
    assert find_last_said(["", echo]) == echo
    assert find_last_said([" ", ""]) == ""
