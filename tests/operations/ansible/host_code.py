"""The code that runs on hosts, importable here as Ansible makes it importable there."""

import importlib
import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import ansible.module_utils  # type: ignore[import-untyped]

ANSIBLE = Path(__file__).parents[3] / "operations" / "ansible"
ansible.module_utils.__path__.append(str(ANSIBLE / "module_utils"))


def _load(name: str) -> ModuleType:
    return importlib.import_module(f"ansible.module_utils.beidou.{name}")


def load_file(path: str) -> ModuleType:
    """A file that is run by itself: a module, an action plugin or a script of a role."""
    name = "beidou_" + path.replace("/", "_").removesuffix(".py")
    spec = importlib.util.spec_from_file_location(name, ANSIBLE / path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up there
    spec.loader.exec_module(module)
    return module


certificates = _load("certificates")
checks = _load("checks")
etcd = _load("etcd")
host_facts = _load("host_facts")
host_files = _load("host_files")
issued = _load("issued")
kernel = _load("kernel")
leftovers = _load("leftovers")
membership = _load("membership")
netfilter = _load("netfilter")
node_health = _load("node_health")
node_state = _load("node_state")
processes = _load("processes")
reach = _load("reach")
records = _load("records")
removal = _load("removal")
requirements = _load("requirements")
sentences = _load("sentences")
transient_unit = _load("transient_unit")
upgrading = _load("upgrading")
versions = _load("versions")
