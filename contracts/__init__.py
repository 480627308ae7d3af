"""Who may say what to whom, checked: versions against versions, code against schemas, schemas against the registry.

- `compatibility`: every released version of an event can read every other (FULL_TRANSITIVE), offline.
- `views`: what services declare in Python is what the schemas say.
- `agreements`: what each consumer relies on (`contracts/<consumer>/<Fact>.json`), against code and schemas.
- `registry`: what a live registry has, against what was released; and bringing it there.
"""
