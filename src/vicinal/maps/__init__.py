"""Maps: vectors as points in two dimensions, for people to look at.

`axes` shows them from the side where they differ most, `neighbors` puts those that are near to each
other together. Arrays in, arrays out; must not know ids, metadata, engines or the wire.
"""
