"""A comparison as `python -m acceptance compare` writes it, with what its metrics are made of."""

from typing import Any

_GATE = {"tier": "contract", "scope": "total", "unit": "%", "why": ""}

COMPARISON: dict[str, Any] = {
    "schema": 1,
    "exit_code": 1,
    "a": {"name": "A nautilus", "orders": 12, "fills": 10},
    "b": {"name": "B legacy", "orders": 12, "fills": None},
    "deviation": {"ts": 1, "difference": "-2.5", "points": 3},
    "gates": [
        {**_GATE, "name": "pnl", "measured": 0.01, "allowed": 0.05, "passed": True},
        {**_GATE, "name": "fills", "measured": 3.0, "allowed": 0.0, "passed": False},
        {**_GATE, "name": "sharpe", "measured": None, "allowed": 0.1, "passed": None},
    ],
}
