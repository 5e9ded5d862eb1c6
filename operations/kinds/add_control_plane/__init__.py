"""AddControlPlane: machines become control planes of a cluster of kubeadm that runs.

preCheck   the machines as for a new cluster's control planes; the cluster: endpoint, etcd whole.
install    everything that a control plane needs, side by side.
join       one by one: each is a new member of etcd, which must be whole before the next.
postCheck  node Ready in the cluster's version, static pods ready, test pods.
uncordon   opened, and tainted as the others are.
"""
