"""The benchmark: how fast the platform is, beside what the machine's Kafka and PostgreSQL can move at all.

Every figure is of a run whose orders all ended as they may and whose audit is clean; without that there is no figure.
"""
