"""HTTP: connections, where a request ends, bodies, responses, other sites' pages, the log.

Bytes and their bounds in time, memory and number. Must not know the operations, nor tokens, the
engine or the encoder.
"""
