"""What the kinds share that change the control planes of a cluster that runs.

keeper      a control plane that stays, on whose host etcd and kubeadm are asked
etcd        its members, and whether one may leave
endpoint    where nodes look for the API server, and whether that hangs on one machine
setup       how kubeadm made the cluster: stacked etcd, an endpoint, one version
alone       two of these operations never work on one cluster at once
"""
