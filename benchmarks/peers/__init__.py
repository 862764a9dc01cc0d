"""What runs in the process of each contender: one file an engine, `worker` around it."""
