"""Tests of the room that talks to game servers."""
