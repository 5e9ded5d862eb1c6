"""Manifests of small workloads for tests, made of the probe image that every node has."""

from lab.artifacts import PROBE_IMAGE

WEB = """\
apiVersion: apps/v1
kind: {kind}
metadata: {{name: {name}, namespace: {namespace}}}
spec:
  {replicas}
  selector: {{matchLabels: {{app: {name}}}}}
  template:
    metadata: {{labels: {{app: {name}}}}}
    spec:
      tolerations: {tolerations}
      terminationGracePeriodSeconds: 1
      containers:
      - name: web
        image: {image}
        imagePullPolicy: IfNotPresent
        command: [sh, -c, "mkdir /tmp/www; hostname > /tmp/www/index.html; exec httpd -f -p 8080 -h /tmp/www"]
        readinessProbe: {{tcpSocket: {{port: 8080}}, periodSeconds: 1}}
        resources: {{requests: {{cpu: 10m, memory: 8Mi}}}}
---
apiVersion: v1
kind: Service
metadata: {{name: {name}, namespace: {namespace}}}
spec: {{selector: {{app: {name}}}, ports: [{{port: 80, targetPort: 8080}}]}}
"""  # noqa: E501 - one line of shell


def web_deployment(name: str, *, replicas: int = 2, namespace: str = "default") -> str:
    """A Deployment of pods that answer HTTP with their own name, and its Service on port 80."""
    return WEB.format(
        kind="Deployment",
        name=name,
        namespace=namespace,
        replicas=f"replicas: {replicas}",
        tolerations="[]",
        image=PROBE_IMAGE,
    )


def web_daemon_set(name: str, *, namespace: str = "default") -> str:
    """The same with one pod on every node, control planes and cordoned nodes too."""
    return WEB.format(
        kind="DaemonSet",
        name=name,
        namespace=namespace,
        replicas="",
        tolerations="[{operator: Exists}]",
        image=PROBE_IMAGE,
    )
