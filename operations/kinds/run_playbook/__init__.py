"""RunPlaybook: a playbook of the site's own, with the same engine, output and audit as ours.

preCheck    signs in to each machine: reachable, host key, root; changes nothing
run         plays the released content that the operation was begun with, batch by batch; a machine
            has passed when ansible's own recap says so of it, and the playbook that proves it, if
            there is one, does too

What may be run was released by an administrator; see ``operations.playbooks``.
"""
