"""Upgrades and renewals: what an operation says, and what a control plane shows."""


def cells(row, step):
    return {
        machine["hostname"]: cell
        for machine in row["machines"]
        for cell in machine["steps"]
        if cell["step"] == step
    }


def told(row):
    """What went wrong, in short."""
    return [row["message"]] + [
        (machine["hostname"], cell["step"], cell["status"], cell["message"])
        for machine in row["machines"]
        for cell in machine["steps"]
        if cell["status"] not in ("succeeded", "waiting")
    ]


def served_end(host):
    """When the certificate ends that the API server shows."""
    command = "openssl s_client -connect 127.0.0.1:6443 </dev/null 2>/dev/null"
    return host.run(f"{command} | openssl x509 -noout -enddate").strip()


def programs(host):
    """Process ids of the control plane's parts."""
    names = ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler")
    return {name: host.run(f"pgrep -x {name[:15]}").split() for name in names}
