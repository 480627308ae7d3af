"""Pavane."""
