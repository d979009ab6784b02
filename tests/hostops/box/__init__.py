"""Tests of the box: a program that runs as the game and tries everything."""
