#!/usr/bin/python
"""Put staged programs in their place, and restart the kubelet if another one runs."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.beidou.host_files import HostFiles
from ansible.module_utils.beidou.processes import list_processes
from ansible.module_utils.beidou.sentences import Sentence, failure

DOCUMENTATION = r"""
module: replace_programs
short_description: Put staged programs in their place, and restart the kubelet if another one runs
description:
  - Each is copied beside its place, compared with its checksum, and renamed. A kubelet that runs
    from another file than the one that is in its place is restarted, so that a call that was
    interrupted half way is made up for by the next.
options:
  programs:
    description: "Each C(name) and C(sha256)."
    type: list
    elements: dict
    required: true
    suboptions:
      name: {description: Its file., type: str, required: true}
      sha256: {description: Checksum in hexadecimal., type: str, required: true}
  staged_dir: {description: Where they wait., type: path, required: true}
  bin_dir: {description: Where they go., type: path, required: true}
"""
EXAMPLES = r"""
- name: Replace the programs
  replace_programs:
    programs: [{name: kubelet, sha256: 0123}]
    staged_dir: /var/lib/beidou/upgrade
    bin_dir: /usr/local/bin
"""
RETURN = r"""
replaced: {description: Programs that were replaced., type: list, elements: str, returned: always}
restarted: {description: Whether the kubelet was., type: bool, returned: always}
"""
BLOCK = 1 << 20


def sha256_of(path: str) -> str:
    digest = hashlib.sha256()
    try:
        with open(path, "rb") as file:
            while block := file.read(BLOCK):
                digest.update(block)
    except FileNotFoundError:
        return ""
    return digest.hexdigest()


def replace(name: str, wanted: str, staged_dir: str, bin_dir: str) -> bool:
    """Whether it had to be; ValueError with a sentence when what is staged is something else."""
    place = os.path.join(bin_dir, name)
    if sha256_of(place) == wanted:
        return False
    partial = os.path.join(bin_dir, f".{name}.beidou-part")
    try:
        shutil.copyfile(os.path.join(staged_dir, name), partial)
    except FileNotFoundError:
        raise ValueError(Sentence("%(name)s is not staged on this machine.", name=name)) from None
    if sha256_of(partial) != wanted:
        os.unlink(partial)
        raise ValueError(
            Sentence("%(name)s as staged has another checksum than wanted.", name=name)
        )
    with open(partial, "rb") as file:
        os.fchmod(file.fileno(), 0o755)
        os.fsync(file.fileno())
    os.replace(partial, place)
    return True


def runs_another(host: HostFiles, place: str) -> bool:
    """Whether a kubelet runs from another file than ``place``, or none runs."""
    kubelets = [each for each in list_processes(host) if each.name == "kubelet"]
    for process in kubelets:
        try:
            return not os.path.samefile(host.real(f"/proc/{process.pid}/exe"), place)
        except OSError:
            return True
    return True


def main() -> None:
    program = {
        "name": {"type": "str", "required": True},
        "sha256": {"type": "str", "required": True},
    }
    module = AnsibleModule(
        argument_spec={
            "programs": {"type": "list", "elements": "dict", "required": True, "options": program},
            "staged_dir": {"type": "path", "required": True},
            "bin_dir": {"type": "path", "required": True},
        }
    )
    values, replaced = module.params, []
    try:
        for each in values["programs"]:
            name, wanted = os.path.basename(each["name"]), each["sha256"].lower()
            if replace(name, wanted, values["staged_dir"], values["bin_dir"]):
                replaced.append(name)
    except (ValueError, OSError) as error:
        said = error.args[0] if isinstance(error, ValueError) else str(error)
        module.fail_json(**failure(said), replaced=replaced)
    restarted = runs_another(HostFiles(), os.path.join(values["bin_dir"], "kubelet"))
    if restarted:
        done = subprocess.run(
            ["systemctl", "restart", "kubelet"], capture_output=True, text=True, check=False
        )
        if done.returncode != 0:
            why = (done.stderr or done.stdout).strip()
            sentence = Sentence("The kubelet could not be restarted: %(why)s", why=why)
            module.fail_json(**failure(sentence), replaced=replaced)
    module.exit_json(changed=bool(replaced) or restarted, replaced=replaced, restarted=restarted)


if __name__ == "__main__":
    main()
