"""UpgradeCluster: a cluster of kubeadm to its next minor version, node by node.

preCheck       reads cluster and hosts and changes nothing: versions, health, APIs that go, room,
               and what would keep a node from being drained.
prepare        brings the new images to every node and stages the new programs; no node notices.
snapshot       of etcd, on one control plane, verified.
controlPlanes  one after the other.
workers        in waves; after each, the whole cluster must be well again before the next begins.
postCheck      every node in the new version, the cluster whole.

The first machine that fails ends it; a retry goes on from there, since what a node has had is read
from the node.  ``params`` says what may be asked for, ``planning`` what is in the way, ``facts``
what the steps share, ``node`` how one node is upgraded, ``gate`` what is waited for.
"""
