"""DeleteCluster: reset all machines of a cluster, and let the cluster go.

preCheck  what will be lost, whether each host is reached, whether somebody else has approved it.
          Changes nothing.
reset     the workers side by side, then the control planes one by one.
forget    nothing signs in any more; the row stays with its operations (docs/adr/0013).
"""
