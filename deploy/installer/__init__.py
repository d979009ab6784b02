"""Installs, upgrades and removes Saferoom on a machine with systemd.

It runs on a bare machine, so it uses only Python's standard library. ADR 18 says why.
"""
