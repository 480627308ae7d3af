"""The servers Pavane stands on, real and embedded (`stack`), and the topics on them (`topics`)."""
