"""The collector: watches every cluster it holds and keeps the inventory fresh.

``state`` is what one cluster is known to be (pure memory), ``verdict`` judges its health,
``follow`` feeds it from the cluster, ``process`` leases clusters and writes what changed.  One
event loop serves all clusters, one thread writes to the database, a few threads look at components;
so no cluster waits for another.  Nothing heavy is imported: the process stays below 200 MiB.
"""
