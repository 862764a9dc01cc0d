"""Copying indexes from one store to another: folders, databases, servers, other products.

    base      the seam: what a source and a destination have to do
    stores    a store by its name on the command line
    engines   a data folder and a PostgreSQL, by their engines
    servers   a Vicinal server, and the platform's own service, by the public API
    foreign   other products as sources: chroma, lancedb, pgvector, pinecone, qdrant
    writing   these but pinecone as destinations
    copying   the copy itself: what is copied, in which order, and what holds when it is interrupted
    journal   how far it has come
    patience  waiting for a store that is away

One more kind of store is one more module, and a line in `stores`. None knows of another, of the
command line, or of the server.
"""
