"""The Grafana dashboards as code; `make dashboards` writes the JSON beside it."""
