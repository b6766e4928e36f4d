"""Adapters between the bridge and the outside: venues' data and trading engines."""
