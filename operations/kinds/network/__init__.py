"""Network: what the network must do for nodes that come and go.

``drivers`` what a driver is, and the two there are: ``routes`` and ``webhook``
``kind``    the kind of operation that uses one of them
"""
