"""Emptying nodes: what will happen to each pod (pure), and doing it.

``budgets``   what PodDisruptionBudgets allow, and whether waiting or another copy can help.
``fitting``   whether the other nodes have room.
``plan``      the fate of every pod, and what a person has to answer first.
``checks``    the plan as checks: found, wanted, what to do.
``drainer``   evictions in bounded numbers, with replacements waited for.
``owners``    whether the owners of what moved have their copies again.
``raising``   one more copy for a while, so that a budget has one to spare.
"""
