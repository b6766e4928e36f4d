"""The bridge's HTTP side: metrics for Prometheus, health for probes."""
