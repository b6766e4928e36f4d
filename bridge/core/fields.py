"""What the string of a field may look like, for the contract's table."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class FieldType:
    """What a field's string may look like: a regular expression (JSON Schema dialect)."""

    pattern: str
    about: str


def one_of(*words: str) -> FieldType:
    """Return the type of a field that holds one of `words`."""
    return FieldType(f"^({'|'.join(words)})$", "one of a closed set")


TEXT = FieldType(r"^[\s\S]*$", "text; empty when absent")
NAME = FieldType(r"^[\s\S]+$", "text, never empty")
DECIMAL = FieldType(r"^-?[0-9]+(\.[0-9]+)?$", "exact decimal, no exponent")
OPTIONAL_DECIMAL = FieldType(r"^(-?[0-9]+(\.[0-9]+)?)?$", "exact decimal; empty when absent")
COUNT = FieldType(r"^[0-9]+$", "unsigned integer")
OPTIONAL_COUNT = FieldType(r"^[0-9]*$", "unsigned integer; empty when absent")
OPTIONAL_NS = FieldType(r"^[0-9]*$", "integer nanoseconds since 1970; empty when absent")
NS = FieldType(r"^[0-9]+$", "integer nanoseconds since 1970")
FLAG = one_of("0", "1")
ORDER_SIDE = one_of("BUY", "SELL")
