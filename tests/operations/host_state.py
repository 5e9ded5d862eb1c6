"""What a host is like, to be compared with what it was like before."""


def state_of(host):
    """Files of the folders we write to, services, interfaces, rules and settings."""
    return host.run(
        "find /etc /usr/local /opt /run/beidou /var/lib -xdev -type f"
        r" ! -path '*/systemd/timers/*' ! -name random-seed ! -path '/var/lib/dpkg/*'"
        " | sort | grep -v '^/etc/resolv.conf' | xargs md5sum;"
        " systemctl is-enabled containerd; systemctl is-active containerd kubelet;"
        " ls /sys/class/net; iptables-save | grep -c KUBE; sysctl net.ipv4.ip_forward"
        " net.bridge.bridge-nf-call-iptables; ls /var/lib/kubelet /var/lib/containerd; true"
    )
