"""`pavane rebuild`: a service's tables once more, from its topic by `evolve` alone, beside the live ones.

- `stretches`: the facts of one lane, in an order that may be folded; `folding`: what they make of rows.
- `beside`: the schema with the fresh tables, and how far each lane is; `building`: processes that fill it.
- `comparing`: the fresh tables against the live ones, row by row; `swapping`: the change-over while orders flow.
- `owed`: what a database that was lost had heard and not handled. `restoring`: `pavane log restore`.

A rebuild asks nobody outside: no effect is asked, no fact is said. It can be interrupted at any time; called again, it
goes on from where each lane was, as long as the code is the same.
"""
