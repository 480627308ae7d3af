"""What can be measured: a module with `TITLE` and `run` is one scenario."""
