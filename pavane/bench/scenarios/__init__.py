"""What can be measured: each module is one scenario, with `TITLE` and `run`."""
