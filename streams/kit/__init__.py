"""The kit that services stand on: a service is two pure functions, and everything else is here.

Read in this order: `events` and `service` (what a service declares), `clock` and `lane` (what may be heard next),
`fold` (a batch in memory), `store` and `outbox` (one transaction, then say it), `worker` (the loop around them).
"""
