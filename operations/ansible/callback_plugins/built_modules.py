"""Keeps what ansible builds of a module, so that the next run need not build it again.

Ansible packs each module with all that it imports, anew in every run: a quarter of the processor
time of our short playbooks.  It looks for what is packed already in a folder of the run; here that
folder becomes ``BEIDOU_BUILT_MODULES``, which the portal names by the content of all sources.
Should ansible come to look elsewhere, modules are built as ever.
"""

import os

from ansible import constants
from ansible.plugins.callback import CallbackBase

DOCUMENTATION = """
name: built_modules
type: aggregate
short_description: keeps built modules between runs
description: See the file.
"""


class CallbackModule(CallbackBase):
    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "built_modules"

    def v2_playbook_on_start(self, playbook):
        kept = os.environ.get("BEIDOU_BUILT_MODULES")
        if kept:
            os.symlink(kept, os.path.join(constants.DEFAULT_LOCAL_TMP, "ansiballz_cache"))
