"""The dance of the services, before anything runs: as data, as a picture, checked, and walked through in full.

Everything here is read from what the services declare and decide; nothing is a second list.

- `declared`: who hears whom, what each reaction may say and ask, and where it stands in the code.
- `checks`: what is wrong with a dance by its declarations alone.
- `picture`, `asyncapi`: the dance for people.
- `dancers`, `lanes`, `exploring`: the explorer: every causally possible interleaving of the real decisions.
- `scenarios`, `explored`, `story`: what it walks, what must hold, and a trace for people.
"""
