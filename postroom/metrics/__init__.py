"""What Prometheus reads at /metrics: `table` names every metric once, `collector` fills them in when asked.

Nothing here is a global: the registry is the collector's own, so two engines in one process (as in tests) do
not mix. Conventions: https://prometheus.io/docs/practices/naming/.
"""
