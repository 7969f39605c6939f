"""The Keras matrix: every layer, operator and architecture, in every format, sound and broken.

``python3 -m benchmarks.matrix --help`` tells how it is run; ``docs/matrix.md`` shows what came out.
"""
