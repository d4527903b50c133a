"""A run: arms x tasks -> records, each arm in a process of its own."""
