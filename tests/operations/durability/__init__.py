"""A portal whose steps are all harmless and that is killed wherever a step can be.

As an app of a portal of its own (``settings``) it leaves the engine, the queue, the database and
the processes what they are.  Of the kinds it replaces what their steps do to hosts and clusters,
and of the engine it watches the moments between which something could be lost (``points``).
"""
