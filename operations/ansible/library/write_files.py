#!/usr/bin/python
"""Write several files at once, remember them, and keep what was there before."""

from __future__ import annotations

import os

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.beidou.records import Records, make_parents, write_atomically
from ansible.module_utils.beidou.sentences import Sentence, failure

DOCUMENTATION = r"""
module: write_files
short_description: Write several files at once, remember them, and keep what was there before
description:
  - One call instead of one task per file; each file is replaced as a whole or not at all.
  - Every file is noted in C(/var/lib/beidou) with its original, so that M(node_remains) can bring
    the host back to how it was.
options:
  files:
    description: The files.
    type: list
    elements: dict
    required: true
    suboptions:
      path: {description: Where., type: path, required: true}
      content: {description: What., type: str, required: true}
      mode: {description: Rights in octal., type: str, default: "0644"}
  record:
    description: Note the files for a later removal; not wanted for files that remove themselves.
    type: bool
    default: true
"""
EXAMPLES = r"""
- name: Write the kubelet's unit
  write_files:
    files:
      - path: /etc/systemd/system/kubelet.service
        content: "{{ lookup('ansible.builtin.template', 'kubelet.service.j2') }}"
"""
RETURN = r"""
written: {description: Paths that were changed., type: list, elements: str, returned: always}
"""


def is_as_wanted(path: str, content: bytes, mode: int) -> bool:
    try:
        with open(path, "rb") as file:
            same = file.read() == content
    except FileNotFoundError:
        return False
    return same and os.stat(path).st_mode & 0o7777 == mode


def main() -> None:
    file_spec = {
        "path": {"type": "path", "required": True},
        "content": {"type": "str", "required": True},
        "mode": {"type": "str", "default": "0644"},
    }
    module = AnsibleModule(
        argument_spec={
            "files": {"type": "list", "elements": "dict", "required": True, "options": file_spec},
            "record": {"type": "bool", "default": True},
        },
        supports_check_mode=True,
    )
    records = Records() if module.params["record"] else None
    written = []
    for file in module.params["files"]:
        path, content, mode = file["path"], file["content"].encode(), int(file["mode"], 8)
        if is_as_wanted(path, content, mode):
            continue
        written.append(path)
        if module.check_mode:
            continue
        try:
            make_parents(path, records)
            if records is not None:
                records.note(path)
            write_atomically(path, content, mode)
        except OSError as error:
            module.fail_json(
                **failure(
                    Sentence("%(path)s cannot be written: %(why)s.", path=path, why=error.strerror)
                ),
                written=written,
            )
    module.exit_json(changed=bool(written), written=written)


if __name__ == "__main__":
    main()
