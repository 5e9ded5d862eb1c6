"""The lab's pod network: a DaemonSet that configures each node by itself as it joins.

On every node it writes a ptp + host-local configuration for the node's own pod range and keeps a
route to the pod range of every other node.  So a joining machine becomes Ready with no work on the
pod network from whoever joins it.  It talks to the API server directly, not through the Service,
so that it does not depend on kube-proxy.
"""

from lab.artifacts import CNI_IMAGE

# `kubectl get --watch` prints every node at first and each changed one later; it ends when the
# API server closes the watch, then the loop starts it anew.
SCRIPT = r"""
set -u
own() { kubectl get node "$NODE_NAME" -o jsonpath='{.spec.podCIDR}'; }
until range=$(own) && [ -n "$range" ]; do sleep 1; done
config=/host/etc/cni/net.d/10-lab.conflist
mkdir -p /host/etc/cni/net.d
cat > "$config.new" <<END
{"cniVersion": "0.4.0", "name": "lab", "plugins": [
  {"type": "ptp", "ipMasq": false, "ipam": {"type": "host-local",
    "ranges": [[{"subnet": "$range"}]], "routes": [{"dst": "0.0.0.0/0"}]}},
  {"type": "portmap", "capabilities": {"portMappings": true}}]}
END
mv "$config.new" "$config"
echo "pod range of $NODE_NAME is $range"
columns='NAME:.metadata.name,CIDR:.spec.podCIDR,IP:.status.addresses[?(@.type=="InternalIP")].address'
while :; do
  kubectl get nodes --watch --no-headers -o "custom-columns=$columns" |
  while read -r name cidr address; do
    [ "$name" = "$NODE_NAME" ] && continue
    case "$cidr$address" in *none*) continue ;; esac
    ip route show "$cidr" | grep -q "via $address " && continue
    ip route replace "$cidr" via "$address" && echo "route to $cidr by $name ($address)"
  done
  sleep 1
done
"""

MANIFEST = """\
apiVersion: v1
kind: ServiceAccount
metadata: {name: lab-cni, namespace: kube-system}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: lab-cni}
rules:
- {apiGroups: [""], resources: [nodes], verbs: [get, list, watch]}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: lab-cni}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: lab-cni}
subjects:
- {kind: ServiceAccount, name: lab-cni, namespace: kube-system}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: lab-cni, namespace: kube-system}
data:
  run.sh: |
@SCRIPT@
---
apiVersion: apps/v1
kind: DaemonSet
metadata: {name: lab-cni, namespace: kube-system, labels: {k8s-app: lab-cni}}
spec:
  selector: {matchLabels: {k8s-app: lab-cni}}
  updateStrategy: {type: RollingUpdate, rollingUpdate: {maxUnavailable: 100%}}
  template:
    metadata: {labels: {k8s-app: lab-cni}}
    spec:
      hostNetwork: true
      priorityClassName: system-node-critical
      serviceAccountName: lab-cni
      terminationGracePeriodSeconds: 1
      tolerations: [{operator: Exists}]
      containers:
      - name: cni
        image: @IMAGE@
        imagePullPolicy: Never
        command: [sh, /run/lab-cni/run.sh]
        env:
        - {name: NODE_NAME, valueFrom: {fieldRef: {fieldPath: spec.nodeName}}}
        - {name: KUBERNETES_SERVICE_HOST, value: "@API_ADDRESS@"}
        - {name: KUBERNETES_SERVICE_PORT, value: "6443"}
        securityContext: {privileged: true}
        volumeMounts:
        - {name: cni, mountPath: /host/etc/cni}
        - {name: script, mountPath: /run/lab-cni}
      volumes:
      - {name: cni, hostPath: {path: /etc/cni, type: DirectoryOrCreate}}
      - {name: script, configMap: {name: lab-cni}}
"""


def manifest(*, api_address: str) -> str:
    """The objects of the pod network for a cluster whose API server has this address."""
    script = "\n".join(f"    {line}".rstrip() for line in SCRIPT.strip().splitlines())
    return (
        MANIFEST.replace("@SCRIPT@", script)
        .replace("@IMAGE@", CNI_IMAGE)
        .replace("@API_ADDRESS@", api_address)
    )
