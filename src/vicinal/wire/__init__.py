"""Bytes to model and back, without I/O: no sockets, no files, no engine."""
