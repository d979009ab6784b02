"""Installs, upgrades and removes Saferoom on a machine with systemd.

It runs on a bare machine, so it has Python's standard library and nothing else. ADR 18 says why.
"""
