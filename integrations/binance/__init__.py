"""Binance market data as validated datasets. Knows nothing of any trading engine."""
