"""`pavane can-deploy`: would a version of a service understand all that it may meet, and be understood?

| module | what |
| --- | --- |
| `candidate` | the version that is asked about: the code here, an earlier one, or that of another folder |
| `live` | what it would meet: versions that run, the registry, unread and parked records, orders in flight, tables |
| `judging` | the answer: pure, from those two |
| `report` | the answer for people, and as JSON |
"""
