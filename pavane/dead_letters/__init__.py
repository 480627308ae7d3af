"""Dead letters for operators: what waits at each service and why, tried again or discarded, and who did it.

| module | what |
| --- | --- |
| `commands` | `pavane dead-letters list / show / redrive / discard` |
| `items` `selection` | the records parked in services' databases, and which ones are meant |
| `listing` `showing` `forecast` | for reading: all, one, and what today's code would decide |
| `redriving` `recorded` `discarding` | what changes something; `operators` keeps who did what, and how it ended |
| `events` `letters` | what a record says, and what the dead-letter topic says about it |

A record is only ever taken out by the worker that owns its lane: a redrive sets the time at which it is tried again, a
discard marks it. So a command can be cut off at any moment, and no record is lost, doubled or overtaken by it.
"""
