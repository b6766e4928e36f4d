"""The bridge daemon: carries trading events to Redis and operators' wishes back."""
