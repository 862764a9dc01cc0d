"""The compiled parts: all C of the package, the library built from it, and its threads.

`structures` has the structures that both sides share, `library` finds the library and calls its
functions, `pool` has the threads that search. Where no library was built, `library` is None and
Python does the same work, more slowly.

Knows arrays, pointers and metrics; what they are for is known by `ann` and `wire.lines`.
"""
