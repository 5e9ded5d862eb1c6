"""What can be done with clusters, nodes and grants; pages, API and commands call the same.

``adoption`` checks and adopts, ``removal`` un-adopts, ``capabilities`` says what a credential may
do, ``connections`` opens clients, ``grants`` derives rights, ``nodes`` cordons, ``inventory``
stores what the collector observed, ``expiry`` finds what ends soon.
"""
