"""Playbooks of the site: where they come from, what they declare, and which content was released.

``declaration`` is what a source says of its playbooks, ``values`` checks what somebody gives to
one, ``library`` finds what was released.  The kind RunPlaybook runs it; the services write the
rows.
"""
