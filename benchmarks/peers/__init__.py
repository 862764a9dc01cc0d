"""The contenders' ends of their processes: one file an engine, `worker` around it."""
