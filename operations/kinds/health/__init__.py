"""The parts of HealthCheck: which nodes test which, the test pods, what the cluster knows of a
node, and what has changed since the last time."""
