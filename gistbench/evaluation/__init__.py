"""One arm evaluated on tasks: the lm-eval model, the answers kept for resumption, the worker."""
