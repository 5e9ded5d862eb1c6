#!/usr/bin/python
"""Load kernel modules and set kernel settings, now and at every start."""

from __future__ import annotations

from collections.abc import Mapping

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.beidou.host_files import HostFiles
from ansible.module_utils.beidou.kernel import (
    is_module_present,
    load_module,
    read_setting,
    setting_path,
)
from ansible.module_utils.beidou.records import Records, make_parents, write_atomically
from ansible.module_utils.beidou.sentences import Sentence, failure

DOCUMENTATION = r"""
module: kernel_settings
short_description: Load kernel modules and set kernel settings, now and at every start
description:
  - Values from before are noted, so that M(node_remains) can put them back.
options:
  modules: {description: Kernel modules; those built in are left alone., type: list, elements: str}
  settings: {description: Settings with the exact value they must have., type: dict}
  minimums: {description: Settings that are raised to a number but never lowered., type: dict}
  modules_file:
    description: File for the next start.
    type: path
    default: /etc/modules-load.d/beidou.conf
  settings_file:
    description: File for the next start.
    type: path
    default: /etc/sysctl.d/99-beidou.conf
"""
EXAMPLES = r"""
- name: Prepare the kernel for containers
  kernel_settings:
    modules: [overlay, br_netfilter]
    settings: {net.ipv4.ip_forward: 1}
    minimums: {fs.inotify.max_user_instances: 8192}
"""
RETURN = r"""
loaded: {description: Modules that were loaded., type: list, elements: str, returned: always}
set:
  description: "Settings that were changed, with old and new value."
  type: dict
  returned: always
"""


def wanted_settings(
    current: Mapping[str, str], settings: Mapping[str, object], minimums: Mapping[str, object]
) -> dict[str, str]:
    """The settings to keep: a minimum that the host already exceeds is none of our business."""
    wanted = {name: " ".join(str(value).split()) for name, value in settings.items()}
    for name, value in minimums.items():
        have = current.get(name, "")
        if not have.isdigit() or int(have) <= int(str(value)):
            wanted[name] = str(value)
    return wanted


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "modules": {"type": "list", "elements": "str", "default": []},
            "settings": {"type": "dict", "default": {}},
            "minimums": {"type": "dict", "default": {}},
            "modules_file": {"type": "path", "default": "/etc/modules-load.d/beidou.conf"},
            "settings_file": {"type": "path", "default": "/etc/sysctl.d/99-beidou.conf"},
        },
        supports_check_mode=True,
    )
    values, host, records = module.params, HostFiles(), Records()
    missing = [name for name in values["modules"] if not is_module_present(host, name)]
    if not module.check_mode:
        load(module, missing)
    names = [*values["settings"], *values["minimums"]]
    current = {name: read_setting(host, name) for name in names}
    absent = [name for name, value in current.items() if value is None]
    if absent and not module.check_mode:
        module.fail_json(
            **failure(Sentence("The kernel has no setting %(names)s.", names=", ".join(absent)))
        )
    known = {name: value or "" for name, value in current.items()}
    wanted = wanted_settings(known, values["settings"], values["minimums"])
    changes = {n: {"from": known[n], "to": v} for n, v in wanted.items() if known[n] != v}
    contents = {
        values["modules_file"]: "".join(f"{name}\n" for name in values["modules"]),
        values["settings_file"]: "".join(f"{n} = {v}\n" for n, v in sorted(wanted.items())),
    }
    written = [path for path, text in contents.items() if host.text(path) != text]
    if not module.check_mode:
        try:
            apply(records, host, changes)
            for path in written:
                make_parents(path, records)
                records.note(path)
                write_atomically(path, contents[path].encode(), 0o644)
        except OSError as error:
            module.fail_json(
                **failure(
                    Sentence(
                        "%(path)s cannot be written: %(why)s.",
                        path=error.filename or Sentence("A file"),
                        why=error.strerror,
                    )
                )
            )
    module.exit_json(
        changed=bool(missing or changes or written), loaded=missing, set=changes, written=written
    )


def load(module: AnsibleModule, names: list[str]) -> None:
    for name in names:
        problem = load_module(name)
        if problem:
            module.fail_json(
                **failure(
                    Sentence(
                        "Kernel module %(name)s cannot be loaded: %(why)s.", name=name, why=problem
                    )
                )
            )


def apply(records: Records, host: HostFiles, changes: Mapping[str, Mapping[str, str]]) -> None:
    for name, change in changes.items():
        records.note_setting(name, change["from"])
        with open(host.real(setting_path(name)), "w", encoding="utf-8") as file:
            file.write(change["to"])


if __name__ == "__main__":
    main()
