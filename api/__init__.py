"""The gateway: checks who you are, what you may, what you sent; then one record to the log, acknowledged, and 202."""
