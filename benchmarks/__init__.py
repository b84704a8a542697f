"""What the figures of the README come from: our server beside the official SDK's, under one load.

`python -m benchmarks` measures; nothing here is installed with the package.
"""
