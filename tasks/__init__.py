"""lm-eval tasks and the generators behind them; lm-eval loads the generators by path."""
