"""CreateCluster: a cluster of kubeadm on free machines, from nothing to one like an adopted one.

preCheck            looks at each machine, as for ScaleUp, with what control planes need besides.
createControlPlane  installs everything everywhere; ``kubeadm init`` on the first control plane.
join                the other control planes one by one, then the workers side by side.
network             the pod network: the built-in routed one, or a manifest.
postCheck           nodes Ready, cluster DNS, test pods between the nodes.
adopt               the cluster is one like others; the collector sees its nodes.

``params`` says what may be asked for, ``planning`` what is in the way, ``configuration`` what
kubeadm is told; the steps are in modules of their names.
"""
