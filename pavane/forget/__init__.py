"""Forgetting customers: their key is destroyed, and with it everything personal that anybody keeps.

| module | what |
| --- | --- |
| `commands` | `pavane forget`, `pavane keys show / rewrap` |
| `traces` | what is kept of a customer: orders, and where their texts lie |
| `forgetting` | shows it, waits until nobody uses the key any more, destroys it, and writes a receipt |
| `rewrapping` | which master key wraps the keys of persons, and a new one for all of them |
"""
