"""Accounts: signing in, second factors, sessions, invitations, and the record."""
