"""What the gateway answers, by what it is about."""
