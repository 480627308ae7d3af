"""`pavane overdue`: orders that wait longer than is usual, for whom, why where it can be known, and what helps.

| module | what it does |
| --- | --- |
| `looking` | asks the timeline for late orders, and lanes, groups and parked records for what may hold them up |
| `reasons` | says why each is late, from what was found: pure |
| `telling` | the table, and JSON |
"""
