"""`python -m pavane`: the same as the command `pavane`."""

from pavane.main import app

app()
