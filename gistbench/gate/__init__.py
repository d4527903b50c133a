"""The gate: is a run as good as the one that was accepted before it?

A baseline is a file that people review and accept; a policy says what is asked of a run beside it.
Records and statistics alone decide, so that a gate needs neither torch nor a model.
"""
