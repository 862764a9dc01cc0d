"""The operations: who may ask for what, and how it is answered.

A module for each kind of resource, with its handlers and its rows of the route table. Must not
know connections, nor the other ways that Workers ask for the same (`workers`).
"""
