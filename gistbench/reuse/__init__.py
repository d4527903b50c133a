"""Compress a text once into a file, and ask it later, in other processes."""
