"""Emptying nodes: what will happen to each pod (pure), and doing it.

Pure:

``budgets``    what PodDisruptionBudgets allow, and whether waiting or another copy can help.
``fitting``    whether the other nodes have room; ``spreading`` and ``obstacles`` are parts of it.
``plan``       the fate of every pod, and what a person has to answer first.
``checks``     the plan as checks: found, wanted, what to do.

Doing it:

``reading``    all that the plan is made of, from the cluster.
``drainer``    the loop that looks after all nodes; ``leaving`` is what it knows, ``pace`` how often
               it looks, ``telling`` what it says.
``evicting``   evictions in bounded numbers, and what was chosen for blocks.
``owners``     whether the owners of what moved have their copies again.
``raising``    one more copy for a while, so that a budget has one to spare.
"""
