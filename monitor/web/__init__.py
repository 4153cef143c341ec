"""The status page, the JSON API, health and metrics."""
