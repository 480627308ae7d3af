"""`pavane overdue`: orders that wait longer than is usual, for whom, why where it can be known, and what helps.

| module | what it does |
| --- | --- |
| `looking` | asks the timeline for late orders, and lanes, groups and parked records for what may hold them up |
| `reasons` | says why each is late, from what was found: pure |
| `unheard` | says what waits that no story shows: requests without one, facts that the timeline has not heard |
| `telling` | the table, and JSON |
"""
