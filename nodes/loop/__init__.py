"""The nodes of the loop, and the sessions behind them."""
