"""What changes machines: one module per concern, called by pages, API, import, tasks and operations
alike, so that no rule exists twice."""
