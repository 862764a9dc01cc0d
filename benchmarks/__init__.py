"""Benchmarks: one file, one question, and the question in its docstring.

``python -m benchmarks`` runs them and says where the results go. The parts that they share:

    texts       real short texts with metadata, and their embeddings
    data        vectors of a size and length asked for, exact answers to compare with
    measure     recall, CPU and wall time, memory of a process
    contender   one engine in a process and an environment of its own
    side        contenders side by side: loaded, tuned, measured in turn
    peers/      what runs in those processes, a file for each
    serving     servers to measure over HTTP, and the load on them
    report      results: JSON, a table to read, Markdown

Nothing here is timed by the test suite; tests cover what can be right or wrong.
"""
