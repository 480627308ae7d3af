"""Lanes for operators: how far each has heard, why one is halted, and what decides about it.

| module | what |
| --- | --- |
| `commands` | `pavane lanes list / skip / settle` |
| `reading` | what the log holds now: where partitions begin and end, and some of their records |
| `holding` | which lanes the processes of a service hold, as Kafka says |
| `listing` | every lane of the services asked for |
| `skipping` | goes on behind records that are foreign or gone: first shown, then done under the lane's epoch |
| `settling` | topics have another number of partitions than there are lanes: all is made to fit them again |
"""
