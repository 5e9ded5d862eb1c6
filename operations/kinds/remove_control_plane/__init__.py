"""RemoveControlPlane: take one control plane out of a cluster of kubeadm without losing etcd.

preCheck            the node's pods as for ScaleDown; whether etcd, the endpoint and the portal can
                    do without it.  Changes nothing.
drain               as for ScaleDown.
leaveEtcd           its member leaves etcd, by way of a control plane that stays.
removeControlPlane  resets the host, deletes the Node object; a lost host is given up when asked to.
postCheck           nothing is left on the host, the node is gone, the workloads are whole.
"""
