"""Forgetting customers: their key is destroyed, and with it everything personal that anybody keeps.

| module | what |
| --- | --- |
| `commands` | `pavane forget`, `pavane keys show / rewrap / destroy-again` |
| `traces` | what is kept of a customer: orders, and where their texts lie |
| `forgetting` | shows it, waits until nobody uses the key any more, destroys it, and writes a receipt |
| `shown` | tokens as an operator is shown them: protected, or forgotten |
| `receipt` | what the receipt says |
| `upkeep` | all keys: another master key, and those that a backup brought back |
"""
