"""The few hot loops, as small functions on arrays; beside each stands a slow, clear twin in ``reference.py``.

``bits`` packs small integers into bytes, ``floats`` converts to and from 16- and 8-bit floats, ``dots`` multiplies
float queries with integer and half-precision rows, ``tables`` sums table look-ups, ``kmeans`` clusters, ``bags`` makes
vectors of text by a table of pieces. Nothing here knows about recipes, estimators or files. A compiled loop replaces
one of these functions, not its callers.
"""
