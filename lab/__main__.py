"""The lab's command: ``python -m lab setup|build|up|down|status|clean|demo-up|…``."""

import argparse
import json
import logging
import shutil
import sys
import time
from collections.abc import Callable

from lab import artifacts, binaries, demo, hostimage, hosts, images, network, state, system
from lab.errors import LabError
from lab.fleet import Lab, podman_is_installed, remove_lab
from lab.network import LABEL
from lab.paths import cache_root
from lab.process import run
from lab.versions import DEFAULT_MINOR, RELEASES, release

CLUSTER = "demo"
"""Name of the cluster that ``up`` makes."""


def main() -> int:
    options = _parser().parse_args()
    logging.basicConfig(level=logging.INFO, format="lab: %(message)s", stream=sys.stderr)
    command: Callable[[argparse.Namespace], None] = options.command
    try:
        command(options)
    except KeyboardInterrupt:
        return 130
    except LabError as error:
        print(f"lab: {error}", file=sys.stderr)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m lab", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def add(name: str, command: Callable[[argparse.Namespace], None]) -> argparse.ArgumentParser:
        one = commands.add_parser(name, help=command.__doc__, description=command.__doc__)
        one.set_defaults(command=command)
        return one

    setup = add("setup", _setup)
    setup.add_argument(
        "--with",
        dest="extras",
        action="append",
        default=[],
        choices=system.EXTRA_PACKAGES,
        help="install what this back end needs as well (may be repeated)",
    )
    build = add("build", _build)
    build.add_argument(
        "--only",
        action="append",
        choices=[*binaries.COMPONENTS, "host-image", *(f"artifacts-{m}" for m in RELEASES)],
        help="build this alone (may be repeated)",
    )
    up = add("up", _up)
    up.add_argument("--name", default="demo")
    up.add_argument("--workers", type=int, default=1)
    up.add_argument("--spares", type=int, default=2)
    up.add_argument("--version", default=DEFAULT_MINOR)
    down = add("down", _down)
    down.add_argument("--name", default="demo")
    status = add("status", _status)
    status.add_argument("--json", action="store_true", help="as JSON, with keys and kubeconfigs")
    kubeconfig = add("kubeconfig", _kubeconfig)
    kubeconfig.add_argument("--name", default="demo")
    kubeconfig.add_argument("--cluster", default=CLUSTER)
    add("clean", _clean)
    add("prune", _prune)
    add("demo-up", _demo_up)
    add("demo-down", _demo_down)
    return parser


def _setup(options: argparse.Namespace) -> None:
    """Install the Debian packages of lab, tests and demo, and raise kernel limits (as root)."""
    installed = system.setup(*options.extras)
    print(f"Installed {', '.join(installed)}." if installed else "Everything is installed.")


def _build(options: argparse.Namespace) -> None:
    """Build and cache programs, images and the host image; quick when they are there."""
    sources = {f"artifacts-{minor}": one for minor, one in RELEASES.items()}
    for name in options.only or [*binaries.COMPONENTS, *sources, "host-image"]:
        started = time.monotonic()
        if name == "host-image":
            result = hostimage.ensure_host_image()
        elif name in sources:
            result = str(artifacts.ensure_release(sources[name]))
        else:
            result = str(binaries.ensure_component(name))
        print(f"{name:16} {time.monotonic() - started:7.1f} s  {result}")


def _up(options: argparse.Namespace) -> None:
    """Start a lab that stays: one cluster and spare machines; prints how to reach them."""
    release(options.version)
    system.raise_limits()
    lab = Lab.start(options.name, keep=True)
    try:
        lab.cluster(CLUSTER, workers=options.workers, version=options.version)
        if options.spares:
            lab.hosts(options.spares, prefix="spare")
    except BaseException:
        lab.stop()
        raise
    print(_describe(lab))


def _down(options: argparse.Namespace) -> None:
    """Remove a lab with everything in it."""
    record = state.find(options.name)
    if record is None:
        print(f"No lab {options.name} is running.")
        return
    remove_lab(record)
    print(f"The lab {options.name} is gone.")


def _status(options: argparse.Namespace) -> None:
    """Say which labs run, with their hosts and clusters."""
    labs = [Lab.attach(record.name) for record in state.records() if record.is_alive()]
    if options.json:
        print(json.dumps([_facts(lab) for lab in labs], indent=2))
    elif labs:
        print("\n\n".join(_describe(lab) for lab in labs))
    else:
        print("No lab is running.")


def _kubeconfig(options: argparse.Namespace) -> None:
    """Print the administrator's kubeconfig of a cluster."""
    print(Lab.attach(options.name).find_cluster(options.cluster).kubeconfig, end="")


def _clean(_: argparse.Namespace) -> None:
    """Remove every lab, living or dead, and all leftovers; the cache stays."""
    for record in state.records():
        remove_lab(record)
        print(f"The lab {record.name} is gone.")
    if podman_is_installed():
        containers = run("podman", "ps", "--all", "--quiet", "--filter", f"label={LABEL}").split()
        hosts.remove_containers(containers)
        network.remove_all_networks()
    print(f"Nothing of any lab is left but the cache in {cache_root()}.")


def _demo_up(_: argparse.Namespace) -> None:
    """Do the portal's main job end to end on a lab of its own."""
    demo.up()


def _demo_down(_: argparse.Namespace) -> None:
    """Remove what the demo made, in the portal and in the lab."""
    demo.down()


def _prune(_: argparse.Namespace) -> None:
    """Remove from the cache what this checkout does not use; other checkouts build it anew."""
    used = {component.folder() for component in binaries.COMPONENTS.values()}
    used |= {artifacts.release_folder(one) for one in artifacts.built_releases()}
    used.add(images.busybox_folder())
    for folder in [*cache_root().glob("bin/*"), *cache_root().glob("artifacts/*")]:
        if folder not in used:
            shutil.rmtree(folder)
            print(f"Removed {folder}.")
    if podman_is_installed():
        for name in hostimage.remove_unused_images():
            print(f"Removed {name}.")


def _facts(lab: Lab) -> dict[str, object]:
    """Everything about a lab that another program may need."""
    clusters = [lab.find_cluster(name) for name in lab.cluster_names()]
    return {
        "name": lab.name,
        "gateway": lab.gateway,
        "artifacts": lab.artifacts().url if lab.is_serving_artifacts() else None,
        "ssh_key": lab.ssh_key,
        "hosts": [
            {"name": host.name, "address": host.address, "host_key": host.host_key}
            for host in lab.find_hosts()
        ],
        "clusters": [
            {
                "name": one.name,
                "version": one.version,
                "server": one.server,
                "nodes": [node.name for node in one.nodes],
                "kubeconfig": one.kubeconfig,
            }
            for one in clusters
        ],
    }


def _describe(lab: Lab) -> str:
    lines = [f"Lab {lab.name}"]
    if lab.is_serving_artifacts():
        lines.append(f"  artifacts  {lab.artifacts().url}")
    for name in lab.cluster_names():
        one = lab.find_cluster(name)
        lines.append(f"  cluster    {name} {one.version} {one.server}")
    lines += [f"  host       {host.name} {host.address}" for host in lab.find_hosts()]
    lines.append(f"  sign in    ssh -i {lab.folder / 'ssh_key'} root@ADDRESS")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
