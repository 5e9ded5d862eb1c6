import pytest

from tests.operations.ansible.host_code import leftovers, netfilter
from tests.operations.ansible.made_up_host import MadeUpHost

NO_RULES = netfilter.Rules((), ())


@pytest.fixture
def host(tmp_path):
    """As delivered: empty folders (mount points), containerd installed and never used."""
    made_up = MadeUpHost(tmp_path)
    for folder in ("/var/lib/kubelet", "/var/lib/etcd", "/var/lib/containerd", "/etc/cni/net.d"):
        made_up.folder(folder)
    made_up.write("/usr/bin/containerd")
    made_up.write("/lib/systemd/system/containerd.service")
    made_up.write("/etc/containerd/config.toml", "version = 2\n")
    made_up.process(1, "/sbin/init")
    mounts = (
        "36 35 98:0 / /var/lib/kubelet rw - ext4 /dev/vda rw\n36 35 98:0 / /run rw - tmpfs x rw\n"
    )
    made_up.write("/proc/self/mountinfo", mounts)
    made_up.folder("/sys/class/net/eth0")
    made_up.folder("/sys/class/net/lo")
    return made_up


def found(host, rules=NO_RULES):
    answers = leftovers.find_leftovers(host.files, lambda: rules)
    return {check.check: check.found for check in answers if not check.ok}


def test_a_host_as_delivered_has_no_leftovers(host):
    assert found(host) == {}


def test_an_idle_containerd_that_never_held_anything_is_no_leftover(host):
    host.process(70, "/usr/bin/containerd")
    host.write("/var/lib/containerd/io.containerd.metadata.v1.bolt/meta.db", "empty")
    host.folder("/var/lib/containerd/io.containerd.content.v1.content/ingest")
    assert found(host) == {}


@pytest.mark.parametrize(
    ("path", "check"),
    [
        ("/usr/local/bin/kubelet", "leftover:programs"),
        ("/usr/bin/dockerd", "leftover:programs"),
        ("/etc/systemd/system/kubelet.service", "leftover:units"),
        ("/usr/lib/systemd/system/docker.socket", "leftover:units"),
        ("/etc/kubernetes/pki/ca.crt", "leftover:/etc/kubernetes"),
        ("/var/lib/kubelet/config.yaml", "leftover:/var/lib/kubelet"),
        ("/var/lib/etcd/member/wal/0.wal", "leftover:/var/lib/etcd"),
        ("/etc/cni/net.d/10-calico.conflist", "leftover:cni-configuration"),
        ("/var/backups/beidou-etcd/beidou-etcd-20260101T000000Z.db", "leftover:etcd-snapshots"),
        ("/var/lib/rancher/k3s/token", "leftover:other-runtimes"),
        (
            "/run/containerd/io.containerd.runtime.v2.task/k8s.io/4f/init.pid",
            "leftover:containerd-containers",
        ),
        (
            "/var/lib/containerd/io.containerd.content.v1.content/blobs/sha256/4f",
            "leftover:containerd-images",
        ),
    ],
)
def test_a_file_of_an_earlier_life_is_found(host, path, check):
    host.write(path)
    assert list(found(host)) == [check]


def test_a_snapshot_of_etcd_is_found_where_its_host_has_noted_it(host):
    paths = ["/srv/etcd", "/srv/etcd/beidou-etcd-1.db", "/srv/etcd/.beidou-etcd-2.db", "/etc/a"]
    host.write("/var/lib/beidou/placed", "".join(f"{path}\n" for path in paths))
    host.write("/srv/etcd/beidou-etcd-1.db", "every secret")
    host.write("/etc/a", "no snapshot")
    assert found(host) == {"leftover:etcd-snapshots": "/srv/etcd/beidou-etcd-1.db"}


def test_a_program_is_named_once_where_bin_is_a_link(host):
    host.write("/usr/bin/kubectl")
    host.link("/bin", "usr/bin")
    assert found(host) == {"leftover:programs": "/usr/bin/kubectl"}


def test_a_running_process_is_found_with_its_pid(host):
    host.process(812, "/usr/local/bin/kube-controller-manager", "--leader-elect")
    assert found(host) == {"leftover:processes": "kube-controller-manager (pid 812)"}


def test_containerd_itself_is_not_taken_for_its_shim(host):
    host.process(70, "/usr/bin/containerd")
    host.process(71, "/usr/bin/containerd-shim-runc-v2", "-namespace", "k8s.io")
    assert found(host) == {"leftover:processes": "containerd-shim-runc-v2 (pid 71)"}


@pytest.mark.parametrize("name", ["cni0", "flannel.1", "cali12ab", "kube-ipvs0", "vxlan.calico"])
def test_an_interface_of_a_cluster_network_is_found(host, name):
    host.folder(f"/sys/class/net/{name}")
    assert found(host) == {"leftover:interfaces": name}


def test_a_mount_below_the_kubelets_folder_is_found_and_the_folder_itself_is_not(host):
    line = "40 36 0:50 / /var/lib/kubelet/pods/1/a\\040b rw - tmpfs tmpfs rw\n"
    host.write("/proc/self/mountinfo", host.files.text("/proc/self/mountinfo") + line)
    assert found(host) == {"leftover:mounts": "/var/lib/kubelet/pods/1/a b"}


def test_packet_rules_of_kube_proxy_are_found(host):
    rules = netfilter.Rules(((2, "kube-proxy"), (2, "filter")), ((2, "nat", "KUBE-SERVICES"),))
    assert found(host, rules) == {
        "leftover:packet-rules": "table ip kube-proxy, chain KUBE-SERVICES in ip nat"
    }


def test_packet_rules_that_may_not_be_read_are_told_and_do_not_block(host):
    def refused():
        raise PermissionError(1, "Operation not permitted")

    answers = leftovers.find_leftovers(host.files, refused)
    (check,) = [answer for answer in answers if answer.check == "leftover:packet-rules"]
    assert (check.ok, check.found) == (True, "cannot be read: Operation not permitted")


def test_many_leftovers_of_a_kind_are_counted(host):
    for number in range(9):
        host.write(f"/etc/cni/net.d/{number}.conf")
    assert found(host)["leftover:cni-configuration"].endswith("/etc/cni/net.d/3.conf and 5 more")
