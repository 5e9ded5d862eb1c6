"""Systems of the site that take part in operations and one-click tasks.

``models``    which systems a cluster has, and what was asked of them
``systems``   a system is checked and stored
``requests``  what is asked goes out signed, and the answer comes back at once or by a callback
``prometheus`` the typed question of a health gate
"""
