"""Breaking it on purpose: several servers under load, killed and cut off at random, and a judge of what clients saw.

`python -m tests.chaos --kills 100 --store-restarts 20 --clients 200`; the same, shorter, in `test_run.py`.
"""
