"""How fast training and decoding are on this machine, beside what its arithmetic and memory allow.

Measures speed and memory alone; what a model answers is for `gistbench run`.
"""
