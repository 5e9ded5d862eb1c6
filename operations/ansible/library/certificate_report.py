#!/usr/bin/python
"""Tell when the certificates of a node end, and which of them renew themselves."""

from __future__ import annotations

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.beidou import issued
from ansible.module_utils.beidou.host_files import HostFiles

DOCUMENTATION = r"""
module: certificate_report
short_description: Tell when the certificates of a node end
description:
  - Those that kubeadm has issued, the kubelet's own, and the one that the API server of a control
    plane shows. Changes nothing.
options: {}
"""
EXAMPLES = r"""
- name: Look at the certificates
  certificate_report:
"""
RETURN = r"""
ends: {description: Name → end (ISO 8601) of what kubeadm renews., type: dict, returned: always}
authorities: {description: The same of the authorities., type: dict, returned: always}
kubelet: {description: The same of the kubelet's own., type: dict, returned: always}
rotates_client: {description: Whether the kubelet renews its client certificate., type: bool,
                 returned: always}
rotates_server: {description: Whether it has its serving one from the cluster., type: bool,
                 returned: always}
missing_keys: {description: Authorities without a key here., type: list, elements: str,
               returned: always}
served: {description: End of the certificate that the API server shows; or nothing., type: str,
         returned: always}
older: {description: Programs that work with an older certificate than its file., type: list,
        elements: str, returned: always}
"""
KUBELET_CONFIGURATION = "/var/lib/kubelet/config.yaml"
SECONDS = 10


def served(host: HostFiles) -> str:
    try:
        return issued.served_end("127.0.0.1", issued.secure_port(host), SECONDS).isoformat()
    except (OSError, ValueError):
        return ""


def main() -> None:
    module = AnsibleModule(argument_spec={}, supports_check_mode=True)
    host = HostFiles()
    configuration = host.text(KUBELET_CONFIGURATION)
    authorities = {name: f"{path}.crt" for name, path in issued.AUTHORITIES.items()}
    groups = {"ends": issued.FILES, "authorities": authorities, "kubelet": issued.KUBELET}
    answer = {
        key: {name: end.isoformat() for name, end in issued.ends_of(host, paths).items()}
        for key, paths in groups.items()
    }
    is_plane = "apiserver" in answer["ends"]
    module.exit_json(
        changed=False,
        **answer,
        rotates_client=issued.rotates_itself(configuration),
        rotates_server=issued.renews_server(configuration),
        missing_keys=issued.missing_keys(host),
        served=served(host) if is_plane else "",
        older=[name for name in issued.USES if issued.works_with_older(host, name)],
    )


if __name__ == "__main__":
    main()
