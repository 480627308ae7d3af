"""What operators' commands stand on, whatever they are about.

| module | what |
| --- | --- |
| `reach` | the services' databases, the log, the registry and the code of today, as far as they answer |
| `operations` | who did what, why, and how it ended: a row in the service's database |
| `agreeing` | somebody at the terminal says yes before anything is changed |
| `errors` `words` | why something could not be asked, and how things are said |
"""
