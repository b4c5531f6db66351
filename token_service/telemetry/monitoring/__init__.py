"""Dashboards of Grafana and rules of Prometheus, generated from the registry of metrics. Nodes don't import it."""
