"""Which Kubernetes versions may meet, and what each one takes along.

Skew: a kubelet may be up to three minor versions older than the API server and never newer
(https://kubernetes.io/releases/version-skew-policy/).  Pause images: the constant ``PauseVersion``
of kubeadm.
"""

import re

from beidou.base.errors import InvalidInput
from beidou.base.sentences import Sentence

OLDER_KUBELETS = 3
SUPPORTED_MINORS = range(33, 38)
PAUSE = {33: "3.10", 34: "3.10.1", 35: "3.10.1", 36: "3.10.2", 37: "3.10.2"}
# Versions become parts of paths and addresses: nothing that leads elsewhere is one.
_VERSION = re.compile(
    r"v?([0-9]{1,3})\.([0-9]{1,3})\.([0-9]{1,3})(?!.*\.\.)(?:[-+][0-9A-Za-z.+-]{1,60})?"
)


def parse(version: str) -> tuple[int, int, int]:
    """``v1.36.3`` as numbers; ``InvalidInput`` when it is none."""
    match = _VERSION.fullmatch(version)
    if match is None:
        raise InvalidInput(
            Sentence(
                "“%(version)s” is no Kubernetes version; write it like v1.36.3.", version=version
            ),
            code="bad_version",
            fields={"kubernetes_version": Sentence("Write it like v1.36.3.")},
        )
    return int(match[1]), int(match[2]), int(match[3])


def canonical(version: str) -> str:
    """The one spelling, with its ``v``; ``InvalidInput`` like ``parse``."""
    parse(version)
    return version if version.startswith("v") else f"v{version}"


def why_not_join(kubelet: str, server: str) -> str:
    """Why a kubelet of this version may not join; empty when it may."""
    ours, theirs = parse(kubelet), parse(server)
    if ours[:2] > theirs[:2]:
        return Sentence(
            "kubelet %(kubelet)s must not be newer than the API server %(server)s",
            kubelet=kubelet,
            server=server,
        )
    if ours[0] != theirs[0] or theirs[1] - ours[1] > OLDER_KUBELETS:
        return Sentence(
            "kubelet %(kubelet)s is over %(minors)s minors older than %(server)s",
            kubelet=kubelet,
            minors=OLDER_KUBELETS,
            server=server,
        )
    return ""


def pause_image(version: str, repository: str) -> str:
    """The sandbox image that a node of ``version`` needs."""
    minor = parse(version)[1]
    tag = PAUSE.get(minor)
    if tag is None:
        raise InvalidInput(
            Sentence(
                "The pause image of Kubernetes %(version)s is not known here; set "
                "`sandbox_image` in the cluster's playbook variables.",
                version=version,
            ),
            code="unknown_version",
        )
    return f"{repository or 'registry.k8s.io'}/pause:{tag}"
