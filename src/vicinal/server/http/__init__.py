"""HTTP: connections, where a request ends, bodies, answers, other sites' pages, the log.

Bytes and their bounds in time, memory and number. Must not know the operations that are asked
for, nor tokens, the engine or the encoder.
"""
